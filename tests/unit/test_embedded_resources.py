"""Resources inside custom resources: what a request may bring, what becomes of it, what is wrong with it."""

from __future__ import annotations

from typing import Any

import pytest

from proa.apis.apiextensions import embedded
from proa.meta.objects import Obj

INSIDE: Obj = {"type": "object", embedded.EMBEDDED: True, "x-kubernetes-preserve-unknown-fields": True}
SCHEMA: Obj = {
    "type": "object",
    "properties": {
        "one": INSIDE,
        "list": {"type": "array", "items": INSIDE},
        "map": {"type": "object", "additionalProperties": INSIDE},
        "plain": {"type": "object"},
    },
}


def inside(**more: Any) -> Obj:
    return {"apiVersion": "v1", "kind": "Thing", **more}


def test_schemas_tell_whether_they_have_any() -> None:
    assert embedded.has_embedded(SCHEMA)
    assert not embedded.has_embedded({"type": "object", embedded.EMBEDDED: True})
    assert embedded.has_embedded({"properties": {"a": {"items": {"additionalProperties": INSIDE}}}})


def test_metadata_becomes_what_every_object_has() -> None:
    obj = {"one": inside(metadata={"name": "a", "labels": {}, "creationTimestamp": None, "nope": 1})}
    assert embedded.coerce(obj, SCHEMA) == ['unknown field "one.metadata.nope"']
    assert obj["one"]["metadata"] == {"name": "a"}


@pytest.mark.parametrize(
    ("obj", "problem"),
    [
        ({"one": {"apiVersion": 1}}, "one.apiVersion: Invalid value: 1: must be a string"),
        ({"list": [inside(), {"kind": []}]}, "list[1].kind: Invalid value: []: must be a string"),
        ({"map": {"k": inside(metadata="x")}}, 'map[k].metadata: Invalid value: "x": json: cannot unmarshal string'),
        ({"one": inside(metadata={"labels": {"a": 1}})}, "json: cannot unmarshal number into Go struct field"),
        ({"one": inside(metadata={"creationTimestamp": "soon"})}, 'parsing time "soon"'),
    ],
)
def test_what_has_no_such_form(obj: Obj, problem: str) -> None:
    with pytest.raises(embedded.Uncoercible) as failed:
        embedded.coerce(obj, SCHEMA)
    assert problem in str(failed.value)
    found = "\n".join(str(one) for one in embedded.validate(obj, SCHEMA, ""))
    assert problem.split(":")[0] in found, "an object that is stored so is invalid"


@pytest.mark.parametrize(
    ("value", "errors"),
    [
        (inside(), []),
        (inside(metadata={"name": "UPPER_case", "namespace": "ns"}), []),
        ({}, ["one.apiVersion: Required value", "one.kind: Required value"]),
        (inside(apiVersion="a/b/c"), ['one.apiVersion: Invalid value: "a/b/c": unexpected GroupVersion string: a/b/c']),
        (inside(kind="a/b"), ['one.kind: Invalid value: "a/b": may have mixed case, but should otherwise match: ']),
        (inside(metadata={"name": ".."}), ["one.metadata.name: Invalid value: \"..\": may not be '..'"]),
        (inside(metadata={"namespace": "x/y"}), ['one.metadata.namespace: Invalid value: "x/y": a lowercase RFC 1123']),
        (inside(metadata={"labels": {"-": ""}}), ['one.metadata.labels: Invalid value: "-": name part must consist']),
        (inside(metadata={"labels": {"a": 1}}), ['one.metadata: Invalid value: {"labels":{"a":1}}: json: cannot']),
    ],
)
def test_what_is_wrong(value: Any, errors: list[str]) -> None:
    found = [str(one) for one in embedded.validate({"one": value}, SCHEMA, "")]
    assert len(found) == len(errors)
    assert all(one.startswith(start) for one, start in zip(found, errors, strict=True)), found


def test_only_what_the_schema_calls_a_resource_is_one() -> None:
    obj = {"plain": {"apiVersion": 1, "metadata": "x"}, "unknown": {"kind": 2}}
    assert embedded.coerce(obj, SCHEMA) == []
    assert embedded.validate(obj, SCHEMA, "") == []
