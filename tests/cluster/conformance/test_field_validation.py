"""Server-side field validation: unknown and duplicate fields, of built-in and custom resources, stop a write."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.cluster.conformance.conftest import APPLY, Api, Reply
from tests.cluster.conformance.definitions import Defined, defined, definition, version
from tests.cluster.conformance.objects import apps

pytestmark = pytest.mark.cluster

PRESERVE = "x-kubernetes-preserve-unknown-fields"
FIELDS: dict[str, Any] = {
    "foo": {"type": "string"},
    "cronSpec": {"type": "string", "pattern": r"^(\d+|\*)(/\d+)?(\s+(\d+|\*)(/\d+)?){4}$"},
    "ports": {
        "type": "array",
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["containerPort", "protocol"],
        "items": {
            "type": "object",
            "required": ["containerPort", "protocol"],
            "properties": {
                "containerPort": {"type": "integer", "format": "int32"},
                "hostPort": {"type": "integer", "format": "int32"},
                "name": {"type": "string"},
                "protocol": {"type": "string"},
            },
        },
    },
}
TEMPLATE = {
    "type": "object",
    "x-kubernetes-embedded-resource": True,
    "properties": {
        "metadata": {"type": "object", "properties": {"name": {"type": "string"}}},
        "spec": {"type": "object"},
    },
}
GOOD_SPEC = """
  cronSpec: "* * * * */5"
  ports:
  - name: x
    containerPort: 80
    protocol: TCP"""


def schema(**spec: Any) -> dict[str, Any]:
    return {"type": "object", "properties": {"spec": {"type": "object", "properties": FIELDS, **spec}}}


def multiple(schema: dict[str, Any] | None = None) -> dict[str, Any]:
    """A cluster-scoped definition with several versions of one schema."""
    return definition(version("v1beta1", schema), version("v1beta2", schema), version("v0", schema), scope="Cluster")


def apply(made: Defined, spec: str, metadata: str = "", more: str = "") -> Reply:
    """Applies an object in YAML, strictly."""
    text = f"""
apiVersion: {made.group}/v1beta1
kind: {made.kind}
metadata:
  name: mytest{metadata}
  finalizers:
  - test-finalizer{more}
spec:{spec}{GOOD_SPEC}"""
    path = f"{made.objects(version='v1beta1', name='mytest')}?fieldManager=mgr&fieldValidation=Strict"
    reply = made.api.patch(path, text, APPLY)
    if reply.status < 300:
        made.api.patch(made.objects(version="v1beta1", name="mytest"), {"metadata": {"finalizers": None}}).ok()
    return reply


def deployment(metadata: str = "", spec: str = "") -> str:
    return f"""{{
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {{"name": "my-dep", {metadata} "labels": {{"app": "nginx"}}}},
        "spec": {{{spec} "selector": {{"matchLabels": {{"app": "nginx"}}}},
            "template": {{"metadata": {{"labels": {{"app": "nginx"}}}},
                "spec": {{"containers": [{{"name": "nginx", "image": "nginx:latest"}}]}}}}}}
    }}"""


STRICT = "?fieldManager=mgr&fieldValidation=Strict"


@pytest.mark.behaviour(
    "[sig-api-machinery] FieldValidation should detect unknown and duplicate fields of a typed object"
)
def test_typed_object(api: Api, namespace: str) -> None:
    path = apps(namespace, "deployments")
    body = deployment(spec='"unknownField": "foo", "replicas": 2, "replicas": 3,')
    refused = api.post(path + STRICT, body).failed(400, "BadRequest")
    wanted = 'strict decoding error: unknown field "spec.unknownField", duplicate field "spec.replicas"'
    assert wanted in refused["message"] or (
        'duplicate field "spec.replicas", unknown field "spec.unknownField"' in refused["message"]
    )
    warned = api.post(f"{path}?fieldValidation=Warn", body)
    assert warned.ok()["spec"]["replicas"] == 3
    assert 'unknown field \\"spec.unknownField\\"' in warned.headers["warning"]
    assert 'duplicate field \\"spec.replicas\\"' in warned.headers["warning"]
    api.delete(f"{path}/my-dep").ok()
    assert "warning" not in api.post(f"{path}?fieldValidation=Ignore", body).headers


@pytest.mark.behaviour("[sig-api-machinery] FieldValidation should detect unknown metadata fields of a typed object")
def test_typed_metadata(api: Api, namespace: str) -> None:
    body = deployment(metadata='"unknownMeta": "foo",')
    refused = api.post(apps(namespace, "deployments") + STRICT, body).failed(400, "BadRequest")
    assert 'strict decoding error: unknown field "metadata.unknownMeta"' in refused["message"]


@pytest.mark.behaviour(
    "[sig-api-machinery] FieldValidation should create/apply a valid CR for CRD with validation schema"
)
def test_valid(api: Api) -> None:
    with defined(api, multiple(schema())) as made:
        assert apply(made, "\n  foo: foo1").status == 201
        found = made.object("posted", "v1beta1", spec={"foo": "x", "cronSpec": "* * * * */5"})
        api.post(made.objects(version="v1beta1") + STRICT, found).ok()


@pytest.mark.behaviour(
    "[sig-api-machinery] FieldValidation should create/apply a CR with unknown fields for CRD with no validation schema"
)
def test_no_schema(api: Api) -> None:
    with defined(api, multiple()) as made:
        assert apply(made, "\n  unknown: uk1").ok()["spec"]["unknown"] == "uk1"


@pytest.mark.behaviour(
    "[sig-api-machinery] FieldValidation should create/apply an invalid CR with extra properties for CRD with "
    "validation schema"
)
def test_extra_properties(api: Api) -> None:
    with defined(api, multiple(schema())) as made:
        refused = apply(made, "\n  foo: foo1", more="\nunknownField: unknown")
        assert ".unknownField: field not declared in schema" in refused.failed(500)["message"]
        posted = made.object("posted", "v1beta1", unknownField=1, spec={"foo": "x", "other": {"a": 1}})
        message = api.post(made.objects(version="v1beta1") + STRICT, posted).failed(400)["message"]
        assert 'strict decoding error: unknown field "spec.other", unknown field "unknownField"' in message


@pytest.mark.behaviour(
    "[sig-api-machinery] FieldValidation should detect unknown metadata fields in both the root and embedded object "
    "of a CR"
)
def test_metadata(api: Api) -> None:
    embedded = schema(**{PRESERVE: True, "properties": {**FIELDS, "template": TEMPLATE}})
    with defined(api, multiple(embedded)) as made:
        template = """
  foo: foo1
  template:
    apiversion: foo/v1
    kind: Sub
    metadata:
        unknownSubMeta: unknown
        name: subobject
        namespace: default"""
        message = apply(made, template, metadata="\n  unknownMeta: unknown").failed(500)["message"]
        assert ".spec.template.metadata.unknownSubMeta: field not declared in schema" in message
        assert ".metadata.unknownMeta: field not declared in schema" in message
        sub = {"apiVersion": "foo/v1", "kind": "Sub", "metadata": {"name": "s", "unknownSubMeta": 1}}
        posted = made.object("posted", "v1beta1", spec={"template": sub})
        posted["metadata"]["unknownMeta"] = "unknown"
        message = api.post(made.objects(version="v1beta1") + STRICT, posted).failed(400)["message"]
        assert 'unknown field "metadata.unknownMeta"' in message
        assert 'unknown field "spec.template.metadata.unknownSubMeta"' in message


@pytest.mark.behaviour(
    "[sig-api-machinery] FieldValidation should detect duplicates in a CR when preserving unknown fields"
)
def test_duplicates(api: Api) -> None:
    with defined(api, multiple(schema(**{PRESERVE: True}))) as made:
        refused = apply(made, "\n  unknown: uk1\n  foo: foo1\n  foo: foo2")
        assert 'line 11: key "foo" already set in map' in refused.failed(400)["message"]
        posted = json.dumps(made.object("posted", "v1beta1", spec={"foo": "x"})).replace('"foo"', '"foo": "y", "foo"')
        message = api.post(made.objects(version="v1beta1") + STRICT, posted).failed(400)["message"]
        assert 'duplicate field "spec.foo"' in message
