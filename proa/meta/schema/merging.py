"""OpenAPI documents of several servers as one (pure): what of a server's document concerns one group version, the
documents merged, and version 2 as version 3 for servers that know only the former.

Follows upstream's aggregators by behaviour: definitions of the same name and content are shared, others of the same
name get a suffix.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from proa.meta.objects import Obj

_V2, _V3 = "#/definitions/", "#/components/schemas/"
_GVK = "x-kubernetes-group-version-kind"
_METHODS = ("get", "put", "post", "delete", "options", "head", "patch")
_PARAMETER_KEYS = frozenset({"name", "in", "description", "required"})


def part_of(document: Obj, prefix: str) -> Obj:
    """Returns the paths of a v2 document below `prefix` (which ends with a slash), and the definitions they need.

    Raises TypeError, AttributeError or KeyError for what is no such document.
    """
    paths = {path: item for path, item in document["paths"].items() if path.startswith(prefix)}
    definitions: Mapping[str, Obj] = document.get("definitions") or {}
    needed: dict[str, Obj] = {}
    waiting = sorted(_references(paths))
    while waiting:
        name = waiting.pop()
        if name not in needed and name in definitions:
            needed[name] = definitions[name]
            waiting += sorted(_references(needed[name]))
    return {"paths": paths, "definitions": needed}


def _references(value: Any) -> set[str]:
    found: set[str] = set()
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            reference = one.get("$ref")
            if isinstance(reference, str) and reference.startswith(_V2):
                found.add(reference.removeprefix(_V2))
            waiting += one.values()
        elif isinstance(one, list):
            waiting += one
    return found


def merged(base: Obj, parts: Iterable[Obj]) -> Obj:
    """Returns a v2 document with the paths and definitions of others; paths of the base and of earlier parts win."""
    paths, definitions = dict(base["paths"]), dict(base["definitions"])
    for part in parts:
        names = _merge_definitions(definitions, part["definitions"])
        for path, item in part["paths"].items():
            paths.setdefault(path, _renamed(item, names))
    return {**base, "paths": dict(sorted(paths.items())), "definitions": dict(sorted(definitions.items()))}


def _merge_definitions(definitions: dict[str, Obj], more: Mapping[str, Obj]) -> dict[str, str]:
    """Adds definitions in place; returns the new names of those that had to be renamed."""
    names: dict[str, str] = {}
    for name, schema in more.items():
        known = definitions.get(name)
        if known is not None and not _is_alike(known, schema):
            number = 2
            while f"{name}_v{number}" in definitions or f"{name}_v{number}" in more:
                number += 1
            names[name] = f"{name}_v{number}"
    for name, schema in more.items():
        known = definitions.get(name)
        if name in names or known is None:
            definitions[names.get(name, name)] = _renamed(schema, names)
        elif schema.get(_GVK):
            kinds = [*(known.get(_GVK) or ())]
            kinds += [kind for kind in schema[_GVK] if kind not in kinds]
            definitions[name] = {**known, _GVK: kinds}
    return names


def _is_alike(one: Obj, other: Obj) -> bool:
    return {**one, _GVK: None} == {**other, _GVK: None}


def _renamed(value: Any, names: Mapping[str, str]) -> Any:
    if not names:
        return value
    if isinstance(value, dict):
        made = {key: _renamed(item, names) for key, item in value.items()}
        reference = value.get("$ref")
        if isinstance(reference, str) and reference.removeprefix(_V2) in names:
            made["$ref"] = _V2 + names[reference.removeprefix(_V2)]
        return made
    return [_renamed(item, names) for item in value] if isinstance(value, list) else value


# ---------------------------------------------------------------- version 2 as version 3


def as_v3(document: Obj, info: Obj) -> Obj:
    """Returns what a (part of a) v2 document says as a v3 document."""
    paths = {path: _path(item) for path, item in document["paths"].items()}
    schemas = {name: _reference_v3(schema) for name, schema in document["definitions"].items()}
    return {"openapi": "3.0.0", "info": info, "paths": paths, "components": {"schemas": schemas}}


def _path(item: Obj) -> Obj:
    made: Obj = {}
    for key, value in item.items():
        if key in _METHODS:
            made[key] = _operation(value)
        elif key == "parameters":
            made[key] = [_parameter(one) for one in value]
        else:
            made[key] = value
    return made


def _operation(operation: Obj) -> Obj:
    """Converts one operation: the body is no parameter any more, and media types stand with the schemas."""
    skipped = ("consumes", "produces", "schemes", "parameters", "responses")
    made: Obj = {key: value for key, value in operation.items() if key not in skipped}
    consumes = operation.get("consumes") or ["*/*"]
    produces = operation.get("produces") or ["application/json"]
    parameters = []
    for one in operation.get("parameters") or ():
        if one.get("in") == "body":
            content = {media: {"schema": _reference_v3(one.get("schema") or {})} for media in consumes}
            made["requestBody"] = {"content": content}
            if one.get("required"):
                made["requestBody"]["required"] = True
        else:
            parameters.append(_parameter(one))
    if parameters:
        made["parameters"] = parameters
    made["responses"] = {}
    for code, answer in (operation.get("responses") or {}).items():
        response: Obj = {"description": answer.get("description") or ""}
        if answer.get("schema"):
            response["content"] = {media: {"schema": _reference_v3(answer["schema"])} for media in produces}
        made["responses"][code] = response
    return made


def _parameter(one: Obj) -> Obj:
    if "$ref" in one:
        return one
    kept = {key: value for key, value in one.items() if key in _PARAMETER_KEYS}
    return {**kept, "schema": {key: value for key, value in one.items() if key not in _PARAMETER_KEYS}}


def _reference_v3(value: Any) -> Any:
    if isinstance(value, dict):
        made = {key: _reference_v3(item) for key, item in value.items()}
        if isinstance(value.get("$ref"), str):
            made["$ref"] = _V3 + value["$ref"].removeprefix(_V2)
        return made
    return [_reference_v3(item) for item in value] if isinstance(value, list) else value
