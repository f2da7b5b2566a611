"""Custom resources, where the recordings leave gaps: JSON paths, formats, values, names, versions, OpenAPI."""

from __future__ import annotations

import gzip
import json
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from proa.apis.all import RESOURCES
from proa.apis.apiextensions import formats, json_path, patterns, values
from proa.apis.apiextensions.custom_resources import CustomResourceStrategy, published, resources_of
from proa.apis.apiextensions.decoding import decoded
from proa.apis.apiextensions.naming import TakenNames, established_status, is_established, is_served, names_status
from proa.apis.apiextensions.outline import outline
from proa.apis.apiextensions.structural import check_schema
from proa.apiserver.openapi import PartsV2
from proa.meta.errors import StatusError
from proa.meta.objects import Obj, copy_object
from proa.meta.schema.openapi import document_v3
from proa.util import deflate

OBJECT: Obj = {
    "metadata": {"name": "a", "labels": {"app.kubernetes.io/name": "web"}},
    "spec": {"ports": [{"name": "web", "port": 80}, {"name": "tls", "port": 443}], "n": 3},
}


@pytest.mark.parametrize(
    ("path", "found"),
    [
        (".spec.n", [3]),
        ("spec.n", [3]),
        ("{.spec.n}", [3]),
        (".spec.ports[0].port", [80]),
        (".spec.ports[-1].port", [443]),
        (".spec.ports[*].name", ["web", "tls"]),
        (".spec.ports[0:1].name", ["web"]),
        (".spec.ports[0,1].port", [80, 443]),
        (".spec.ports[?(@.name=='tls')].port", [443]),
        (".spec.ports[?(@.port>100)].name", ["tls"]),
        (".spec.ports[?(@.port)].name", ["web", "tls"]),
        (r".metadata.labels.app\.kubernetes\.io/name", ["web"]),
        (".metadata.labels['app.kubernetes.io/name']", ["web"]),
        ("..port", [80, 443]),
        (".spec.nope", []),
        (".spec.ports[7]", []),
        (".spec[", []),
        ("", [OBJECT]),
    ],
)
def test_json_path(path: str, found: list[Any]) -> None:
    assert json_path.find(path, OBJECT) == found


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("date-time", "2020-01-01T00:00:00.5Z", "2020-01-01"),
        ("date", "2020-02-29", "2021-02-29"),
        ("ipv4", "192.0.2.1", "192.0.2"),
        ("ipv6", "2001:db8::1", "192.0.2.1"),
        ("cidr", "192.0.2.0/24", "192.0.2.0"),
        ("mac", "00:11:22:33:44:55", "00:11"),
        ("uuid", "0f6a4e8c-7b0b-4f8a-9f8e-0123456789ab", "0f6a"),
        ("uuid4", "0f6a4e8c-7b0b-4f8a-9f8e-0123456789ab", "0f6a4e8c-7b0b-1f8a-9f8e-0123456789ab"),
        ("byte", "YQ==", "%"),
        ("duration", "1h30m", "soon"),
        ("email", "a@b.example", "a"),
        ("hostname", "a.example", "a_b"),
        ("hexcolor", "#fff", "#ff"),
        ("creditcard", "4111 1111 1111 1111", "4111 1111 1111 1112"),
        ("isbn13", "978-3-16-148410-0", "978-3-16-148410-1"),
        ("k8s-short-name", "a-b", "A"),
    ],
)
def test_formats(name: str, good: str, bad: str) -> None:
    assert formats.is_known(name)
    assert formats.is_format(name, good)
    assert not formats.is_format(name, bad)


def test_patterns_search_and_never_backtrack() -> None:
    assert patterns.matches("b+", "abc")
    assert not patterns.matches("^b", "abc")
    assert not patterns.matches("(", "(")
    assert patterns.problem("(")
    assert not patterns.matches("(a+)+$", "a" * 50_000 + "b")


@pytest.mark.parametrize(
    ("pattern", "problem"),
    [
        ("^a+$", ""),
        ("a(b", "missing closing ): `a(b`"),
        ("a[b", "missing closing ]: `[b`"),
        ("(?=x)", "invalid or unsupported Perl syntax: `(?=`"),
        ("[z-a]", "invalid character class range: `z-a`"),
        ("a**", "invalid nested repetition operator: `**`"),
        ("*a", "missing argument to repetition operator: `*`"),
        ("a{2000}", "invalid repeat count: `{2000}`"),
        ("a)", "unexpected ): `a)`"),
        ("é\\", "trailing backslash at end of expression: ``"),
    ],
)
def test_what_is_wrong_with_a_pattern(pattern: str, problem: str) -> None:
    assert patterns.problem(pattern) == (f"error parsing regexp: {problem}" if problem else "")
    assert not (problem and patterns.matches(pattern, "a"))


def test_nulls_give_way_to_defaults_or_vanish() -> None:
    schema: Obj = {
        "type": "object",
        "properties": {
            "kept": {"type": "string", "nullable": True, "default": "d"},
            "filled": {"type": "string", "default": "d"},
            "gone": {"type": "string"},
            "inner": {"type": "object", "default": {}, "properties": {"x": {"type": "integer", "default": 1}}},
        },
    }
    value: Obj = {"kept": None, "filled": None, "gone": None}
    values.default(value, schema)
    assert value == {"kept": None, "filled": "d", "inner": {"x": 1}}
    values.default(value["inner"], schema["properties"]["inner"])
    assert schema["properties"]["inner"]["default"] == {}, "defaults are copied, not shared"


def definition(name: str, kind: str, **more: Any) -> Obj:
    plural = name.split(".")[0]
    schema = {"type": "object", "properties": {"spec": {"type": "object", "properties": {"n": {"type": "integer"}}}}}
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    names = {"plural": plural, "singular": kind.lower(), "kind": kind, "listKind": f"{kind}List"}
    spec = {"group": "x.example", "scope": "Namespaced", "names": names, "versions": [version], **more}
    return {"metadata": {"name": name}, "spec": spec, "status": {"storedVersions": ["v1"]}}


def established(one: Obj, *others: Obj) -> Obj:
    """Gives a definition its names, as the server does."""
    one["status"] = names_status(one, TakenNames([one, *others]), "t0")
    if is_served(one):
        one["status"] = established_status(one["status"], "t0")
    return one


def conditions(one: Obj) -> dict[str, tuple[str, str]]:
    return {each["type"]: (each["status"], each["reason"]) for each in one["status"]["conditions"]}


def test_names_go_to_the_first_and_stay() -> None:
    first, second = definition("as.x.example", "A"), definition("bs.x.example", "A")
    first["status"] = names_status(first, TakenNames([first, second]), "t0")
    assert conditions(first) == {"NamesAccepted": ("True", "NoConflicts"), "Established": ("False", "Installing")}
    assert is_served(first)
    established(first, second)
    established(second, first)
    assert is_established(first)
    assert not is_served(second)
    assert conditions(second) == {
        "NamesAccepted": ("False", "ListKindConflict"),
        "Established": ("False", "NotAccepted"),
    }
    again = names_status(first, TakenNames([first, second]), "t1")
    assert again == first["status"], "nothing moves without a change"
    second["spec"]["names"] |= {"kind": "B", "listKind": "BList", "singular": "b"}
    second["status"] = established_status(names_status(second, TakenNames([first, second]), "t1"), "t1")
    assert is_established(second)
    assert {one["type"]: one["lastTransitionTime"] for one in second["status"]["conditions"]}["Established"] == "t1"


def test_names_are_given_free() -> None:
    first, other = established(definition("as.x.example", "A")), definition("as.y.example", "A")
    other["spec"]["group"] = "y.example"
    taken = TakenNames([first])
    assert not taken.learn(first)
    assert taken.clashes(definition("bs.x.example", "A"), "kind", "A")
    assert not taken.clashes(other, "kind", "A"), "groups do not share names"
    assert not taken.clashes(first, "kind", "A"), "nobody is in his own way"
    assert taken.forget("as.x.example")
    assert not taken.clashes(definition("bs.x.example", "A"), "kind", "A")


@pytest.mark.parametrize(
    ("said", "status", "reason"),
    [
        ("", "False", "MissingAnnotation"),
        ("unapproved, for a test", "False", "UnapprovedAnnotation"),
        ("https://example.com/1", "True", "ApprovedAnnotation"),
    ],
)
def test_groups_of_kubernetes_need_approval(said: str, status: str, reason: str) -> None:
    one = definition("as.x.k8s.io", "A", group="x.k8s.io")
    one["metadata"]["annotations"] = {"api-approved.kubernetes.io": said}
    assert conditions(established(one))["KubernetesAPIApprovalPolicyConformant"] == (status, reason)


def two_versions(**more: Any) -> Obj:
    one = definition("as.x.example", "A", **more)
    schema = copy_object(one["spec"]["versions"][0]["schema"])
    schema["openAPIV3Schema"]["properties"]["spec"]["properties"] |= {"m": {"type": "integer", "default": 5}}
    new = {**one["spec"]["versions"][0], "name": "v2", "storage": False, "deprecated": True, "schema": schema}
    one["spec"]["versions"].append(new)
    return established(one)


def test_versions_share_what_is_stored() -> None:
    v1, v2 = resources_of(two_versions())
    assert v1.storage == v2.storage
    assert v1.form and v2.form and v1.form.storage == v2.form.storage == "x.example/v1"
    new: Obj = {"apiVersion": "x.example/v2", "kind": "A", "metadata": {}, "spec": {"n": 1, "m": 2}}
    stored = v2.form.coerce(new, "x.example/v1")
    assert stored == {"apiVersion": "x.example/v1", "kind": "A", "metadata": {}, "spec": {"n": 1}}
    assert v2.deprecation == "x.example/v2 A is deprecated"
    assert v1.storage_version_hash == v2.storage_version_hash


def test_what_is_stored_is_pruned_and_defaulted_by_its_own_version() -> None:
    _, v2 = resources_of(two_versions())
    assert v2.form
    old: Obj = {"apiVersion": "x.example/v1", "kind": "A", "metadata": {}, "spec": {"n": 1, "gone": 2}}
    assert v2.form.restore(old)
    assert old["spec"] == {"n": 1}, "the defaults are those of the version it is stored in"
    assert not v2.form.restore(old)
    assert v2.form.restore({"apiVersion": "x.example/v2", "spec": {}})
    assert not v2.form.restore({"apiVersion": "x.example/v0", "spec": {"any": 1}}), "a version that is no more"


def test_a_webhook_is_needed_between_versions_only() -> None:
    v1, v2 = resources_of(two_versions(conversion={"strategy": "Webhook", "webhook": {"clientConfig": {}}}))
    assert v1.form and v2.form
    assert not v1.form.needs_webhook("x.example/v1")
    assert v2.form.needs_webhook("x.example/v1")
    assert not v2.form.needs_webhook("x.example/v2")


def test_an_outline_leaves_schemas_undecoded() -> None:
    one = two_versions()
    read = outline(msgspec.json.encode({**one, "metadata": {**one["metadata"], "managedFields": [{}]}}))
    assert "managedFields" not in read["metadata"]
    assert isinstance(read["spec"]["versions"][0]["schema"], msgspec.Raw)
    made = resources_of(read)
    assert [each.version for each in made] == ["v1", "v2"]
    assert made[1].strategy.schema == resources_of(one)[1].strategy.schema  # type: ignore[attr-defined]
    read["spec"]["versions"][0]["served"] = False
    assert [each.version for each in resources_of(read)] == ["v2"]
    assert [each.version for each in resources_of(read, unserved=True)] == ["v1", "v2"]


def resource() -> Any:
    return resources_of(established(definition("as.x.example", "A")))[0]


def test_decoding_tells_what_is_unknown() -> None:
    strategy = resource().strategy
    assert isinstance(strategy, CustomResourceStrategy)

    def body() -> Obj:
        return {"apiVersion": "x.example/v1", "kind": "A", "metadata": {"name": "a", "x": 1}, "spec": {"m": 1}, "t": 0}

    made, warnings = decoded(strategy, body())
    assert made == {"apiVersion": "x.example/v1", "kind": "A", "metadata": {"name": "a"}, "spec": {}}
    assert warnings == ['unknown field "metadata.x"', 'unknown field "spec.m"', 'unknown field "t"']
    assert decoded(strategy, body(), "Ignore")[1] == []
    with pytest.raises(StatusError, match="strict decoding error") as caught:
        decoded(strategy, body(), "Strict")
    assert caught.value.code == 400
    with pytest.raises(StatusError) as caught:
        decoded(strategy, {**body(), "metadata": {"labels": {"a": 1}}})
    assert caught.value.code == 400


def test_default_columns() -> None:
    made = resource()
    now = datetime(2020, 1, 1, 0, 5, tzinfo=UTC)
    obj = {"metadata": {"name": "a", "creationTimestamp": "2020-01-01T00:00:00Z"}}
    assert [one.name for one in made.columns] == ["Name", "Age"]
    assert made.cells is not None
    assert list(made.cells(obj, now)) == ["a", "5m"]


P, E, IOS = (f"x-kubernetes-{one}" for one in ("preserve-unknown-fields", "embedded-resource", "int-or-string"))
TEXT: Obj = {"type": "string"}


def structural_errors(**schema: Any) -> list[str]:
    return [str(error) for error in check_schema({"type": "object", **schema}, "s")]


@pytest.mark.parametrize(
    ("field", "errors"),
    [
        ({IOS: True}, []),
        ({IOS: True, "anyOf": [{"type": "integer"}, {"type": "string"}]}, []),
        ({IOS: True, "allOf": [{"anyOf": [{"type": "integer"}, {"type": "string"}]}, {"pattern": "x"}]}, []),
        ({IOS: True, "anyOf": [{"type": "integer"}]}, [".anyOf[0].type: Forbidden: must be empty to be structural"]),
        ({IOS: True, P: True}, [f".{P}: Invalid value: true: must be false if {IOS} is true"]),
        ({E: True, P: True}, [f".type: Required value: must be object if {E} is true"]),
        (
            {E: True, "type": "object"},
            [f".properties: Required value: must not be empty if {E} is true without {P}"],
        ),
        (
            {E: True, "type": "object", P: True, "additionalProperties": TEXT},
            [f".additionalProperties: Forbidden: must not be used if {E} is set"],
        ),
        (
            {E: True, "type": "object", "properties": {"kind": {"type": "integer"}}},
            ['.properties[kind].type: Invalid value: "integer": must be string'],
        ),
        (
            {
                E: True,
                "type": "object",
                "properties": {"metadata": {"type": "object", "properties": {"labels": {P: True}}}},
            },
            [],
        ),
        ({"type": "array"}, [".items: Required value: must be specified"]),
        ({"type": "string", "not": {"nullable": True}}, [".not.nullable: Forbidden: must be false to be structural"]),
        (
            {"type": "string", "oneOf": [{"default": 1}]},
            [".oneOf[0].default: Forbidden: must be undefined to be structural"],
        ),
        (
            {
                "type": "object",
                "anyOf": [{"properties": {"metadata": {}}}],
                "properties": {"metadata": {"type": "object"}},
            },
            [".anyOf[0].properties[metadata]: Forbidden: must not be specified in a nested context"],
        ),
    ],
)
def test_structural_rules(field: Obj, errors: list[str]) -> None:
    found = structural_errors(properties={"f": field})
    assert found == [f"s.properties[f]{error}" for error in errors]


def test_structural_rules_at_the_root() -> None:
    assert structural_errors(additionalProperties=TEXT) == [
        "s.additionalProperties: Forbidden: must not be used at the root"
    ]
    labels = {"type": "object", "properties": {"labels": {"type": "object"}}}
    (found,) = structural_errors(properties={"metadata": labels})
    assert found.startswith("s.properties[metadata]: Forbidden: must not specify anything other than name")
    named = {"type": "object", "properties": {"name": {"type": "string", "maxLength": 3}}}
    assert structural_errors(properties={"metadata": named}) == []
    (found,) = structural_errors(properties={"metadata": {**TEXT}})
    assert found == 's.properties[metadata].type: Invalid value: "string": must be object'


def test_bad_defaults_are_told_when_the_schema_is_structural() -> None:
    fields = {"a": {"type": "integer", "default": "x"}, "b": {}}
    assert [error.split(":")[0] for error in structural_errors(properties=fields)] == ["s.properties[b].type"]
    del fields["b"]
    assert [error.split(":")[0] for error in structural_errors(properties=fields)] == ["s.properties[a].default"]


def test_openapi_shows_custom_resources() -> None:
    made = resource()
    custom = published([*RESOURCES, made], v3=True)
    assert set(custom) == {"example.x.v1.A", "example.x.v1.AList"}
    document = document_v3("apis/x.example/v1", [*RESOURCES, made], custom)
    assert document is not None
    assert "example.x.v1.A" in document["components"]["schemas"]
    assert "/apis/x.example/v1/namespaces/{namespace}/as" in document["paths"]


async def test_documents_are_joined_from_parts() -> None:
    builtin = [one for one in RESOURCES if one.group in ("", "apps") and one.schema]
    parts = PartsV2()
    v1, v2 = resources_of(two_versions())
    whole = json.loads(gzip.decompress(await parts.json(builtin, [v1, v2])))
    assert whole["definitions"]["example.x.v1.A"]["properties"]["spec"]["properties"] == {"n": {"type": "integer"}}
    assert {"/apis/x.example/v2/as", "/api/v1/pods"} <= set(whole["paths"])
    assert whole["swagger"] == "2.0"
    less = json.loads(gzip.decompress(await parts.json(builtin, [v1])))
    assert "example.x.v2.A" not in less["definitions"]
    assert "/apis/x.example/v2/as" not in less["paths"]
    assert len(gzip.decompress(await parts.protobuf(builtin, [v1]))) > 100_000
    assert v1.strategy.fingerprint != v2.strategy.fingerprint  # type: ignore[attr-defined]
    assert "schema" not in v1.strategy.__dict__, "publishing keeps no schema decoded"


def test_compressed_parts_join() -> None:
    parts = [b"", b"one", b"x" * 100_000, bytes(range(256))]
    assert gzip.decompress(deflate.joined(map(deflate.part, parts))) == b"".join(parts)
    assert deflate.data_of(deflate.part(b"one")) == b"one"
