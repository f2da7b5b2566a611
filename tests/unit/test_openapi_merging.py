"""OpenAPI documents of several servers as one."""

from __future__ import annotations

from typing import Any

import pytest

from proa.meta.schema.merging import as_v3, merged, part_of

META = "io.k8s.ObjectMeta"


def reference(name: str) -> dict[str, str]:
    return {"$ref": f"#/definitions/{name}"}


def document(meta: dict[str, Any], **paths: Any) -> dict[str, Any]:
    body = {"name": "body", "in": "body", "required": True, "schema": reference("g.Thing")}
    dry_run = {"name": "dryRun", "in": "query", "type": "string", "uniqueItems": True}
    operation = {
        "operationId": "createThing",
        "consumes": ["application/json"],
        "produces": ["application/json", "application/yaml"],
        "parameters": [body, dry_run],
        "responses": {"200": {"description": "OK", "schema": reference("g.Thing")}, "401": {"description": "No"}},
    }
    name = {"name": "name", "in": "path", "required": True, "type": "string"}
    return {
        "paths": {"/apis/g/v1/things": {"post": operation, "parameters": [name]}, **paths},
        "definitions": {
            "g.Thing": {"properties": {"metadata": reference(META), "self": reference("g.Thing")}},
            META: meta,
            "g.Unused": {},
        },
    }


BASE = {"swagger": "2.0", "paths": {"/api/": {}}, "definitions": {META: {"type": "object", "description": "ours"}}}


def test_only_what_concerns_a_version_is_taken() -> None:
    part = part_of(document({}, **{"/apis/g/v2/things": {"get": {"schema": reference("g.Unused")}}}), "/apis/g/v1/")
    assert list(part["paths"]) == ["/apis/g/v1/things"]
    assert set(part["definitions"]) == {"g.Thing", META}
    with pytest.raises((TypeError, KeyError, AttributeError)):
        part_of({}, "/")


def test_equal_definitions_are_shared() -> None:
    part = part_of(document(BASE["definitions"][META]), "/apis/g/v1/")
    made = merged(BASE, [part])
    assert set(made["definitions"]) == {META, "g.Thing"}
    assert set(made["paths"]) == {"/api/", "/apis/g/v1/things"}
    assert made["swagger"] == "2.0"


def test_kinds_of_shared_definitions_add_up() -> None:
    key = "x-kubernetes-group-version-kind"
    ours, theirs = {"kind": "A"}, {"kind": "B"}
    base = {"paths": {}, "definitions": {META: {"type": "object", key: [ours]}}}
    made = merged(base, [part_of(document({"type": "object", key: [ours, theirs]}), "/apis/g/v1/")])
    assert made["definitions"][META][key] == [ours, theirs]
    assert base["definitions"][META][key] == [ours]


def test_others_of_the_same_name_are_renamed_everywhere() -> None:
    part = part_of(document({"type": "string"}), "/apis/g/v1/")
    made = merged(BASE, [part, part_of(document({"type": "number"}), "/apis/g/v1/")])
    definitions = made["definitions"]
    assert definitions[META] == BASE["definitions"][META]
    assert definitions[f"{META}_v2"] == {"type": "string"}
    assert definitions[f"{META}_v3"] == {"type": "number"}
    assert definitions["g.Thing"]["properties"]["metadata"] == reference(f"{META}_v2")
    assert part["definitions"]["g.Thing"]["properties"]["metadata"] == reference(META)


def test_version_3_says_the_same() -> None:
    made = as_v3(part_of(document({"type": "object"}), "/apis/g/v1/"), {"title": "t"})
    item = made["paths"]["/apis/g/v1/things"]
    assert item["parameters"] == [{"name": "name", "in": "path", "required": True, "schema": {"type": "string"}}]
    operation = item["post"]
    thing = {"schema": {"$ref": "#/components/schemas/g.Thing"}}
    assert operation["requestBody"] == {"content": {"application/json": thing}, "required": True}
    (dry_run,) = operation["parameters"]
    assert dry_run == {"name": "dryRun", "in": "query", "schema": {"type": "string", "uniqueItems": True}}
    assert operation["responses"]["200"]["content"] == {"application/json": thing, "application/yaml": thing}
    assert operation["responses"]["401"] == {"description": "No"}
    assert made["components"]["schemas"]["g.Thing"]["properties"]["self"] == {"$ref": "#/components/schemas/g.Thing"}
