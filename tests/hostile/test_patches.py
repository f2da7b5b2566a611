"""Patches that grow without bound, lead nowhere, or say odd things to strategic merge and server-side apply.

Where upstream answers 500 to a mistake of the client's (its recorded habit: apply with a field that does not fit,
strategic merge with a missing key or an unknown directive), so does Proa; it is never an internal error.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.hostile.raw import Raw, Reply, refused

JSON_PATCH = "application/json-patch+json"
MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
APPLY = "application/apply-patch+yaml"
IDENTITY = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}}


@pytest.fixture
def path(raw: Raw, namespace: str) -> str:
    """A config map with a finalizer and an owner."""
    found = f"/api/v1/namespaces/{namespace}/configmaps"
    owner = {"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u"}
    meta = {"name": "x", "labels": {"a": "b"}, "finalizers": ["a/b"], "ownerReferences": [owner]}
    assert raw.ask("POST", found, {"metadata": meta, "data": {"a": "b"}}).status == 201
    return f"{found}/x"


def understood(reply: Reply) -> None:
    """Checks for a success, or a refusal that is not the server's own failure."""
    if reply.status != 200:
        message = refused(reply, 400, 409, 413, 422, 500)
        assert "Internal error" not in message


def operation(op: str, path: str | None = None, **more: Any) -> dict[str, Any]:
    return {"op": op, **({} if path is None else {"path": path}), **more}


@pytest.mark.parametrize(
    ("operations", "code"),
    [
        ([operation("copy", f"/data/a{n}", **{"from": "/data"}) for n in range(60)], 422),
        ([operation("copy", f"/data/a{n}", **{"from": ""}) for n in range(60)], 422),
        ([operation("copy", "/metadata/annotations", **{"from": "/metadata"})] * 60, 422),
        (
            [operation("add", "/data/a", value="x" * 100_000)]
            + [operation("copy", f"/data/a{n}", **{"from": "/data/a"}) for n in range(9_000)],
            422,
        ),
        (
            [operation("add", "/data", value={})]
            + [operation("add", "/data" + "/a" * n, value={}) for n in range(1, 900)],
            422,
        ),
        ([operation("test", "/data/a", value="b")] * 10_001, 413),
        ([operation("test", "/data/a", value="b")] * 10_000, 200),
        ([operation("add", "/a" * 100_000, value=1)], 422),
        ([operation("move", "/data/a", **{"from": "/data"})], 422),
        ([operation("remove", "")], 422),
        ([operation("replace", "", value=[])], 422),
        ([operation("replace", "", value={})], 400),
        ([operation("add", "", value=None)], 422),
        ([operation("add", "/metadata/finalizers/99999999999999999999", value="a/c")], 422),
        ([operation("add", "/metadata/finalizers/-2", value="a/c")], 200),
        ([operation("add", "/metadata/finalizers/²", value="a/c")], 422),
        ([operation("remove", "/metadata")], 400),
        ([operation("replace", "/metadata", value="x")], 422),
        ([operation("replace", "/metadata/name", value="y")], 400),
        ([operation("replace", "/metadata/namespace", value="y")], 400),
        ([operation("replace", "/metadata/uid", value="y")], 422),
        ([operation("add", "/metadata/managedFields", value="x")], 422),
        (None, 400),
        (5, 400),
        ({"op": "add"}, 400),
        ([5], 400),
        ([None], 400),
        ([[]], 400),
        ([{}], 422),
        ([{"op": 5}], 400),
        ([{"op": "add", "path": 5}], 400),
        ([operation("explode", "/data")], 422),
        ([operation("add", "no slash", value=1)], 422),
        ([operation("copy", "/data/b")], 422),
    ],
    ids=lambda value: str(value)[:50],
)
def test_json_patch(raw: Raw, path: str, operations: Any, code: int) -> None:
    reply = raw.ask("PATCH", path, json.dumps(operations), JSON_PATCH)
    if code == 200:
        assert reply.status == 200, reply.body
    else:
        refused(reply, code)


ODD_PATCHES: list[Any] = [
    *(
        5,
        "x",
        [],
        None,
        {"metadata": None},
        {"metadata": []},
        {"metadata": {"name": None}},
        {"metadata": {"labels": 5}},
    ),
    *({"data": 5}, {"data": {"a": {"b": 1}}}, {"kind": "Pod"}, {"kind": 5}, {"apiVersion": "v2"}, {"apiVersion": None}),
    *({"$patch": "delete"}, {"$patch": "explode"}, {"$patch": 5}, {"metadata": {"$patch": "delete"}}),
    *({"data": {"$patch": "replace"}}, {"$retainKeys": ["x"]}, {"$retainKeys": 5}, {"$retainKeys": [[]]}),
    *({"$setElementOrder/data": ["x"]}, {"$setElementOrder/metadata": 5}, {"$setElementOrder/": ["x"]}),
    *({"$setElementOrder/": None}, {"$deleteFromPrimitiveList/": ["x"]}, {"$deleteFromPrimitiveList/data": ["a"]}),
    {"metadata": {"$deleteFromPrimitiveList/finalizers": ["a/b"]}},
    {"metadata": {"$deleteFromPrimitiveList/finalizers": {"a": 1}}},
    {"metadata": {"$deleteFromPrimitiveList/finalizers": [["a"], {"b": "c"}]}},
    {"metadata": {"$setElementOrder/finalizers": [{"a": 1}]}},
    {"metadata": {"$setElementOrder/finalizers": [["a"]], "finalizers": ["a/b"]}},
    {"metadata": {"finalizers": [{"a": 1}]}},
    {"metadata": {"finalizers": [["a"]]}},
    {"metadata": {"finalizers": [None]}},
    {"metadata": {"ownerReferences": [{"$patch": "delete"}]}},
    {"metadata": {"ownerReferences": [{"uid": {"a": 1}, "$patch": "delete"}]}},
    {"metadata": {"ownerReferences": [{"$patch": "replace"}]}},
    {"metadata": {"ownerReferences": [{"$patch": {"a": "b"}, "uid": 5}]}},
    {"metadata": {"ownerReferences": [5, {"uid": "x"}]}},
    {"metadata": {"ownerReferences": [{"uid": [1]}], "$setElementOrder/ownerReferences": [{"uid": [1]}, {"x": 1}]}},
    {"metadata": {"$setElementOrder/ownerReferences": ["x"], "ownerReferences": [{"uid": "z"}]}},
    {"metadata": {"$setElementOrder/ownerReferences": [{"uid": "u"}, {"uid": "u"}], "ownerReferences": [{"uid": "u"}]}},
    {"metadata": {"resourceVersion": "x"}},
    {"metadata": {"resourceVersion": 5}},
    {"metadata": {"creationTimestamp": "now"}},
    {"metadata": {"deletionGracePeriodSeconds": -5}},
    {"metadata": {"generation": 2**64}},
]


@pytest.mark.parametrize("patch", ODD_PATCHES, ids=lambda patch: json.dumps(patch)[:60])
def test_odd_patches(raw: Raw, path: str, patch: Any) -> None:
    for kind in (STRATEGIC, MERGE):
        understood(raw.ask("PATCH", path, json.dumps(patch), kind))
    applied = {**IDENTITY, **patch} if isinstance(patch, dict) else patch
    understood(raw.ask("PATCH", f"{path}?fieldManager=f&force=true", json.dumps(applied), APPLY))
    assert raw.ask("GET", path).json["metadata"]["name"] == "x"


@pytest.mark.parametrize(
    "spec",
    [
        {"containers": [{"name": ["x"]}]},
        {"containers": [{"name": {"a": 1}}]},
        {"containers": [5]},
        {"containers": [[]]},
        {"containers": [None]},
        {"containers": {"a": 1}},
        {"containers": [{"$patch": "delete", "name": {"x": 1}}]},
        {"$setElementOrder/containers": [{"name": {"a": 1}}], "containers": [{"name": "c", "image": "d"}]},
        {"$setElementOrder/containers": [{"name": "c"}] * 2, "containers": [{"name": "c", "image": "d"}] * 2},
        {"volumes": [{"name": "x", "$retainKeys": ["name", "emptyDir"], "emptyDir": {}, "hostPath": None}]},
        {"containers": [{"name": "c", "ports": [{"containerPort": "x"}]}]},
        {"containers": [{"name": "c", "ports": [{"containerPort": 80, "protocol": {}}]}]},
        {"containers": [{"name": "c", "env": [{"name": "A", "value": 5}, {"name": "A"}]}]},
        {"topologySpreadConstraints": [{"topologyKey": {}, "whenUnsatisfiable": []}]},
        {"nodeSelector": []},
        {"tolerations": "x"},
    ],
    ids=lambda spec: json.dumps(spec)[:60],
)
def test_odd_patches_of_keyed_lists(raw: Raw, namespace: str, spec: Any) -> None:
    path = f"/apis/apps/v1/namespaces/{namespace}/deployments"
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    body = {"metadata": {"name": "d"}, "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": template}}
    assert raw.ask("POST", path, body).status == 201
    patch = {"spec": {"template": {"spec": spec}}}
    for kind in (STRATEGIC, MERGE):
        understood(raw.ask("PATCH", f"{path}/d", patch, kind))
    applied = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, **patch}
    understood(raw.ask("PATCH", f"{path}/d?fieldManager=f&force=true", applied, APPLY))


ENTRY = {"manager": "x", "operation": "Apply", "apiVersion": "v1", "fieldsType": "FieldsV1"}


@pytest.mark.parametrize(
    "entry",
    [
        {},
        {"manager": "x", "operation": "Explode"},
        {**ENTRY, "apiVersion": ""},
        {**ENTRY, "apiVersion": "a/b/c"},
        {**ENTRY, "fieldsType": "FieldsV9"},
        {**ENTRY, "fieldsV1": ["a"]},
        {**ENTRY, "fieldsV1": "text"},
        {**ENTRY, "fieldsV1": {"f:data": 5}},
        {**ENTRY, "fieldsV1": {"f:data": {"f:a": "x", "f:b": []}}},
        {**ENTRY, "fieldsV1": {"f:data": {"k:{": {}, "v:": {}, "i:x": {}, "": {}, "f": {}}}},
        {**ENTRY, "fieldsV1": {"f:data": {"q:z": {}}, "f:nothing": {"f:x": {}}}},
        {**ENTRY, "fieldsV1": {"f:metadata": {"f:ownerReferences": {'k:{"uid":{"a":1}}': {}}}}},
        {**ENTRY, "fieldsV1": {"f:metadata": {"f:finalizers": {'v:{"a":1}': {}, "v:[]": {}, "i:99": {}}}}},
        {**ENTRY, "fieldsV1": {"k:5": {}}},
        {**ENTRY, "fieldsV1": json.loads('{"f:a":' * 150 + "{}" + "}" * 150)},
        {**ENTRY, "subresource": "nothing", "time": "1970-01-01T00:00:00Z", "fieldsV1": {"f:data": {"f:a": {}}}},
        {**ENTRY, "manager": "m" * 5000, "fieldsV1": {"f:data": {"f:a": {}}}},
        {**ENTRY, "manager": "\u0000", "fieldsV1": {"f:data": {"f:a": {}}}},
    ],
    ids=lambda entry: json.dumps(entry)[:90],
)
def test_managed_fields_that_nobody_can_read(raw: Raw, path: str, entry: dict[str, Any]) -> None:
    """They are refused or ignored, and the object can be updated and applied to afterwards."""
    for number in range(2):
        understood(raw.ask("PATCH", path, {"metadata": {"managedFields": [entry] * (number + 1)}}, MERGE))
        understood(raw.ask("PATCH", path, {"data": {"n": str(number)}}, MERGE))
        reply = raw.ask(
            "PATCH", f"{path}?fieldManager=f&force=true", {**IDENTITY, "data": {"a": f"applied{number}"}}, APPLY
        )
        assert reply.status == 200, reply.body
        assert reply.json["data"]["a"] == f"applied{number}"
    obj = raw.ask("GET", path).json
    assert raw.ask("PUT", path, {**obj, "data": {}}).status == 200
    assert raw.ask(
        "PUT", path, {**obj, "metadata": {**obj["metadata"], "managedFields": [entry], "resourceVersion": ""}}
    )


def test_managed_fields_of_thousands(raw: Raw, path: str) -> None:
    many = [{**ENTRY, "manager": f"m{n}", "fieldsV1": {"f:data": {"f:a": {}}}} for n in range(2000)]
    understood(raw.ask("PATCH", path, {"metadata": {"managedFields": many}}, MERGE))
    understood(raw.ask("PATCH", f"{path}?fieldManager=f&force=true", {**IDENTITY, "data": {"a": "z"}}, APPLY))
    many = [{**entry, "operation": "Update"} for entry in many]
    understood(raw.ask("PATCH", path, {"metadata": {"managedFields": many}}, MERGE))
    understood(raw.ask("PATCH", path, {"data": {"a": "y"}}, MERGE))


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("", 422),
        ("fieldManager=", 422),
        ("fieldManager=" + "a" * 129, 422),
        ("fieldManager=a%00b", 422),
        ("fieldManager=a%0Ab", 422),
        ("fieldManager=f&dryRun=Some", 422),
        ("fieldManager=f&dryRun=", 422),
        ("fieldManager=f&fieldValidation=strict", 422),
    ],
)
def test_options_of_apply(raw: Raw, path: str, query: str, code: int) -> None:
    refused(raw.ask("PATCH", f"{path}?{query}", IDENTITY, APPLY), code)


def test_types_that_are_none(raw: Raw, path: str) -> None:
    for kind in ("text/plain", "application/json", "application/patch", "application/apply-patch+cbor", "x", ";"):
        refused(raw.ask("PATCH", path, {"data": {}}, kind), 415)
    refused(raw.ask("PATCH", path, {"data": {}}, f"{JSON_PATCH}; charset=utf-8"), 400)
    assert raw.ask("PATCH", path, {"data": {"a": "c"}}, MERGE.upper()).status == 200
