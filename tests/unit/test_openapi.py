"""OpenAPI: paths, parameters, kinds, definitions and defaults are those that upstream publishes."""

from __future__ import annotations

from typing import Any

import pytest

from proa.apis.all import RESOURCES
from proa.meta.gvk import GVK
from proa.meta.schema import openapi
from proa.meta.schema.custom_openapi import custom_definitions
from tests.unit import recorded


@pytest.fixture(scope="module")
def facts() -> Any:
    return recorded.load("openapi-facts.json")


@pytest.fixture(scope="module")
def v2() -> Any:
    return openapi.document_v2(RESOURCES)


@pytest.fixture(scope="module")
def v3() -> Any:
    return {name: openapi.document_v3(name, RESOURCES) for name in openapi.document_names(RESOURCES)}


def told(operation: Any, *, v3: bool) -> dict[str, Any]:
    """Returns an operation in the form of the facts."""
    query = [one["name"] for one in operation.get("parameters") or () if one["in"] == "query"]
    found: dict[str, Any] = {"operationId": operation["operationId"], "responses": {}}
    for code, response in operation["responses"].items():
        schema = response.get("schema") or next(iter((response.get("content") or {}).values()), {}).get("schema") or {}
        reference = schema.get("$ref", "").rpartition("/")[2]
        found["responses"][code] = reference or schema.get("type")
    if "x-kubernetes-action" in operation:
        found |= {"action": operation["x-kubernetes-action"], "gvk": operation["x-kubernetes-group-version-kind"]}
        found["query"] = sorted(query)
    if v3:
        content = (operation.get("requestBody") or {}).get("content") or {}
        body = [one["schema"]["$ref"] for one in content.values()]
    else:
        body = [one["schema"]["$ref"] for one in operation.get("parameters") or () if one["in"] == "body"]
        found |= {key: operation[key] for key in ("consumes", "produces") if key in operation}
    if body:
        found["body"] = body[0].rpartition("/")[2]
    return found


def test_v2_paths(facts: Any, v2: Any) -> None:
    assert set(v2["paths"]) == set(facts["paths"])
    for path, methods in facts["paths"].items():
        item = {method: told(one, v3=False) for method, one in v2["paths"][path].items() if method != "parameters"}
        assert item == methods, path


def test_v3_paths(facts: Any, v3: Any) -> None:
    assert set(v3) == set(facts["v3"]["documents"])
    found = {path: item for document in v3.values() for path, item in document["paths"].items()}
    assert set(found) == set(facts["paths"])
    for path, methods in facts["paths"].items():
        for method, expected in methods.items():
            operation = told(found[path][method], v3=True)
            assert operation == {key: expected[key] for key in expected if key not in ("consumes", "produces")}, path


def test_path_parameters_are_declared(v2: Any, v3: Any) -> None:
    for document in (v2, *v3.values()):
        for path, item in document["paths"].items():
            named = [part[1:-1] for part in path.split("/") if part.startswith("{")]
            assert [one["name"] for one in item.get("parameters", ())] == sorted(named)


def test_definitions_defaults_enums_and_kinds(facts: Any, v2: Any, v3: Any) -> None:
    assert set(v2["definitions"]) == set(facts["definitionNames"])
    schemas: dict[str, Any] = {}
    for document in v3.values():
        schemas |= document["components"]["schemas"]
    found = {
        f"{name}.{field}": prop for name, one in schemas.items() for field, prop in one.get("properties", {}).items()
    }
    assert {key: one["default"] for key, one in found.items() if "default" in one} == facts["v3"]["defaults"]
    enums = {key: one["enum"] for key, one in found.items() if "enum" in one}
    enums |= {f"{key}[]": one["items"]["enum"] for key, one in found.items() if "enum" in one.get("items", {})}
    assert enums == facts["v3"]["enums"]
    kinds = {
        name: one["x-kubernetes-group-version-kind"]
        for name, one in v2["definitions"].items()
        if "x-kubernetes-group-version-kind" in one
    }
    assert kinds == facts["gvks"]


def references(value: Any) -> set[str]:
    if isinstance(value, dict):
        inner = set().union(*map(references, value.values())) if value else set()
        return inner | ({value["$ref"]} if isinstance(value.get("$ref"), str) else set())
    return set().union(*map(references, value)) if isinstance(value, list) and value else set()


def test_every_reference_has_its_definition(v2: Any, v3: Any) -> None:
    assert references(v2) <= {f"#/definitions/{name}" for name in v2["definitions"]}
    for document in v3.values():
        assert references(document) == {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}


PRESERVE, INT_OR_STRING = "x-kubernetes-preserve-unknown-fields", "x-kubernetes-int-or-string"
EITHER = [{"type": "integer"}, {"type": "string"}]


class Widget:
    group, version, kind, plural, namespaced = "example.com", "v1", "Widget", "widgets", True
    verbs = ("create", "get", "list", "patch", "update", "watch")
    subresources = ()
    schema = "com.example.v1.Widget"
    custom = True


def definitions_of(schema: Any, *, v3: bool) -> dict[str, Any]:
    prefix = openapi.V3 if v3 else openapi.V2
    return custom_definitions(GVK("example.com", "v1", "Widget"), "WidgetList", "widgets", schema, prefix, v3=v3)


def test_custom_resources() -> None:
    spec = {"type": "object", "nullable": True, "properties": {"size": {"type": "integer", "oneOf": []}}}
    schema = {"type": "object", "properties": {"spec": spec}}
    custom = definitions_of(schema, v3=True)
    assert set(custom) == {"com.example.v1.Widget", "com.example.v1.WidgetList"}
    document = openapi.document_v3("apis/example.com/v1", [Widget()], custom)
    assert document is not None
    assert "/apis/example.com/v1/namespaces/{namespace}/widgets/{name}" in document["paths"]
    item = document["paths"]["/apis/example.com/v1/namespaces/{namespace}/widgets/{name}"]
    accepted = ["application/json-patch+json", "application/merge-patch+json", "application/apply-patch+yaml"]
    assert list(item["patch"]["requestBody"]["content"]) == accepted  # kubectl looks here before it patches
    assert list(item["get"]["responses"]["200"]["content"]) == ["application/json", "application/yaml"]
    written = document["components"]["schemas"]["com.example.v1.Widget"]
    assert written["properties"]["spec"] == spec
    assert "APIVersion defines" in written["properties"]["apiVersion"]["description"]
    assert references(document) == {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    part = openapi.part_v2(Widget(), definitions_of(schema, v3=False))
    assert part["definitions"]["com.example.v1.Widget"]["properties"]["spec"] == {}
    assert "/apis/example.com/v1/" not in part["paths"]
    whole = {*openapi.document_v2(RESOURCES)["definitions"], *part["definitions"]}
    assert references(part) <= {f"#/definitions/{name}" for name in whole}
    assert not any("/watch/" in path for path in part["paths"])


@pytest.mark.parametrize(
    ("given", "v2", "v3"),
    [
        ({"type": "string", "x-kubernetes-validations": []}, ..., ...),
        ({"type": "string", "nullable": True}, {}, ...),
        ({"type": "object", PRESERVE: True, "properties": {"a": {"type": "string"}}}, {PRESERVE: True}, ...),
        (
            {"type": "array", "items": {"type": "string", "not": {"maxLength": 1}}},
            {"type": "array", "items": {"type": "string"}},
            ...,
        ),
        ({INT_OR_STRING: True}, {INT_OR_STRING: True}, {INT_OR_STRING: True, "anyOf": EITHER}),
        ({INT_OR_STRING: True, "anyOf": EITHER}, {INT_OR_STRING: True}, ...),
        (
            {INT_OR_STRING: True, "anyOf": [{"pattern": "x"}]},
            {INT_OR_STRING: True},
            {INT_OR_STRING: True, "anyOf": [{"pattern": "x"}], "allOf": [{"anyOf": EITHER}]},
        ),
        (
            {"type": "object", "required": ["a", "b"], "properties": {"a": {"type": "string", "nullable": True}}},
            {"type": "object", "required": ["b"], "properties": {"a": {}}},
            ...,
        ),
    ],
)
def test_schemas_as_published(given: Any, v2: Any, v3: Any) -> None:
    for expected, is_v3 in ((v2, False), (v3, True)):
        schema = {"type": "object", "properties": {"spec": given}}
        made = definitions_of(schema, v3=is_v3)["com.example.v1.Widget"]
        assert made["properties"]["spec"] == (given if expected is ... else expected)


def test_unknown_fields_at_the_root_leave_nothing_to_say_in_version_2() -> None:
    schema = {"type": "object", PRESERVE: True, "properties": {"spec": {"type": "object"}}}
    kind = {"group": "example.com", "kind": "Widget", "version": "v1"}
    made = definitions_of(schema, v3=False)["com.example.v1.Widget"]
    assert made == {"type": "object", "x-kubernetes-group-version-kind": [kind]}
    assert "spec" in definitions_of(schema, v3=True)["com.example.v1.Widget"]["properties"]


def test_embedded_resources_have_what_every_object_has() -> None:
    schema = {"type": "object", "properties": {"t": {"type": "object", "x-kubernetes-embedded-resource": True}}}
    made = definitions_of(schema, v3=False)["com.example.v1.Widget"]["properties"]["t"]
    assert set(made["properties"]) == {"apiVersion", "kind", "metadata"}
    assert made["required"] == ["kind", "apiVersion"]


def test_index() -> None:
    index = openapi.index_v3({"api/v1": openapi.content_hash(b"x")})
    assert index["paths"]["api/v1"]["serverRelativeURL"].startswith("/openapi/v3/api/v1?hash=A4ABD4448C49")
    assert openapi.document_v3("apis/none/v1", RESOURCES) is None
