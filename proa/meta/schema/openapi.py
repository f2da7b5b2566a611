"""Builds OpenAPI documents: version 3 per group version, version 2 for the whole API.

Pure: resources and custom definitions in, dicts out. A document costs some milliseconds and holds descriptions, so the
server builds it when first asked, keeps the encoded bytes, and builds anew when custom resources change.

`document_names(resources)` lists what `/openapi/v3` offers, `document_v3(name, …)` builds one, `index_v3` the list
itself, `document_v2` the other; `part_v2` is what one custom resource adds to it. `custom_openapi` makes the
definitions of custom resources.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from proa.meta.gvk import GVK
from proa.meta.objects import Obj
from proa.meta.schema import build
from proa.meta.schema.operations import (
    JSON_YAML,
    META,
    Operation,
    Resource,
    base_path,
    of_discovery,
    of_group_version,
)

INFO = {"title": "Kubernetes", "version": "v1.36.0"}
V2, V3 = "#/definitions/", "#/components/schemas/"
_SPECIAL_V2: dict[str, Obj] = {"q": {"type": "string"}, "o": {"type": "string", "format": "int-or-string"}}
_SPECIAL_V3: dict[str, Obj] = {
    "q": {"oneOf": [{"type": "string"}, {"type": "number"}]},
    "o": {"format": "int-or-string", "oneOf": [{"type": "integer"}, {"type": "string"}]},
}
_GVK = "x-kubernetes-group-version-kind"
_STATUS = {"200": "OK", "201": "Created", "202": "Accepted", "401": "Unauthorized"}

# (type, description) of query and path parameters; the rest are texts
_INTEGERS = {"limit", "timeoutSeconds", "gracePeriodSeconds", "limitBytes", "sinceSeconds", "tailLines"}
_BOOLEANS = {
    *("allowWatchBookmarks", "watch", "sendInitialEvents", "force", "follow", "previous", "timestamps", "tty"),
    *("orphanDependents", "ignoreStoreReadErrorWithClusterBreakingPotential", "insecureSkipTLSVerifyBackend"),
    *("stdin", "stdout", "stderr"),
}
_ABOUT = {
    "allowWatchBookmarks": "asks a watch for BOOKMARK events, which tell how far it has come",
    "continue": "the token from the previous page of the list",
    "dryRun": "All: do everything but store the result",
    "fieldManager": "the name under which changed fields are owned",
    "fieldSelector": "restricts objects by their fields",
    "fieldValidation": "what happens to unknown or duplicate fields: Ignore, Warn or Strict",
    "force": "takes fields from other managers; for apply requests only",
    "labelSelector": "restricts objects by their labels",
    "limit": "the most items that one answer holds",
    "name": "name of the object",
    "namespace": "object name and auth scope, such as for teams and projects",
    "path": "path to the resource",
    "pretty": "if 'true', then the output is pretty printed",
    "propagationPolicy": "what happens to dependents: Orphan, Background or Foreground",
    "resourceVersion": "the version that the answer must be of, or be newer than",
    "resourceVersionMatch": "how resourceVersion applies to a list",
    "timeoutSeconds": "ends the call after this time",
    "watch": "watch for changes instead of listing",
}


# ---------------------------------------------------------------- definitions


class _Definitions:
    """The schema's definitions in the form of one OpenAPI version, converted when asked for."""

    def __init__(self, prefix: str, custom: Mapping[str, Obj]) -> None:
        self._prefix = prefix
        self._special = _SPECIAL_V3 if prefix == V3 else _SPECIAL_V2
        self._custom = custom
        self._source = build.read_source()
        self._facts = build.facts()

    @property
    def names(self) -> list[str]:
        return [*self._facts["definitions"], *self._custom]

    def get(self, name: str) -> Obj:
        return self._custom[name] if name in self._custom else self._builtin(name)

    def _builtin(self, name: str) -> Obj:
        source = self._source[name]
        short = build.short_name(name)
        defaults = self._facts["defaults"].get(short, {}) if self._prefix == V3 else {}
        enums = self._facts["enums"].get(short, {}) if self._prefix == V3 else {}
        schema: Obj = {key: source[key] for key in ("description", "format") if key in source}
        special = build.SPECIAL.get(name, "")
        if special in self._special:
            return schema | self._special[special]
        kind = source.get("type")
        if kind:
            schema["type"] = kind[0] if isinstance(kind, list) else kind
        if "properties" in source:
            schema["properties"] = {
                key: self._property(prop, key in defaults, defaults.get(key), enums.get(key), enums.get(f"{key}[]"))
                for key, prop in sorted(source["properties"].items())
            }
        schema |= {key: source[key] for key in source if key == "required" or _is_extension(key)}
        kinds = self._facts["kinds"].get(name)
        if kinds:
            schema[_GVK] = [{"group": group, "kind": kind, "version": version} for group, version, kind in kinds]
        return schema

    def _property(
        self,
        source: Obj,
        has_default: bool,
        default: Any,
        enum: Sequence[str] | None = None,
        item_enum: Sequence[str] | None = None,
    ) -> Obj:
        prop: Obj = {key: value for key, value in source.items() if key not in ("type", "enum", "$ref", "oneOf")}
        kind = source.get("type")
        if kind:
            prop["type"] = kind[0] if isinstance(kind, list) else kind
        for inner in ("items", "additionalProperties"):
            if isinstance(source.get(inner), dict):
                prop[inner] = self._item(source[inner], item_enum)
        if has_default:
            prop["default"] = default
        if enum:
            prop["enum"] = list(enum)
        if "$ref" in source:
            reference = {"$ref": self._prefix + source["$ref"].removeprefix(build.PREFIX)}
            if self._prefix == V3 and prop:
                prop["allOf"] = [reference]
            else:
                prop |= reference
        return prop

    def _item(self, source: Obj, enum: Sequence[str] | None) -> Obj:
        """Converts the schema of a list's items or a map's values, which v3 gives a default as well."""
        inner = source.get("items") or source.get("additionalProperties")
        struct = "$ref" in source and source["$ref"].removeprefix(build.PREFIX) not in build.SPECIAL
        texts = not inner and (source.get("type") or [""]) in ("string", ["string", "null"]) and "format" not in source
        default: Any = {} if struct else ""
        return self._property(source, self._prefix == V3 and (struct or texts), default, enum)

    def closure(self, names: Iterable[str]) -> Obj:
        """Returns these definitions and all that they refer to, sorted by name."""
        found: dict[str, Obj] = {}
        waiting = [name for name in names if name]
        while waiting:
            name = waiting.pop()
            if name in found:
                continue
            found[name] = self.get(name)
            waiting += _references(found[name], self._prefix)
        return dict(sorted(found.items()))


def _is_extension(key: str) -> bool:
    return key.startswith("x-") and key != _GVK


def _references(value: Any, prefix: str) -> list[str]:
    if isinstance(value, dict):
        found = [name for item in value.values() for name in _references(item, prefix)]
        reference = value.get("$ref")
        return [*found, reference.removeprefix(prefix)] if isinstance(reference, str) else found
    if isinstance(value, list):
        return [name for item in value for name in _references(item, prefix)]
    return []


# ---------------------------------------------------------------- operations


def _parameter_type(name: str) -> Obj:
    kind = "integer" if name in _INTEGERS else "boolean" if name in _BOOLEANS else "string"
    return {"type": kind, "uniqueItems": True}


def _parameter(name: str, place: str, *, v3: bool) -> Obj:
    parameter: Obj = {"name": name, "in": place, "description": _ABOUT.get(name, name)}
    if place == "path":
        parameter["required"] = True
    return parameter | ({"schema": _parameter_type(name)} if v3 else _parameter_type(name))


def _path_item(operations: Sequence[Operation], *, v3: bool) -> Obj:
    """Returns the item of one path: its methods, and the parameters in the path itself."""
    item: Obj = {one.method: (_operation_v3(one) if v3 else _operation_v2(one)) for one in operations}
    named = [part[1:-1] for part in operations[0].path.split("/") if part.startswith("{")]
    if named:
        item["parameters"] = [_parameter(name, "path", v3=v3) for name in sorted(named)]
    return item


def _common(operation: Operation) -> Obj:
    common: Obj = {"description": operation.summary, "operationId": operation.id, "tags": [operation.tag]}
    if operation.action:
        common["x-kubernetes-action"] = operation.action
    if operation.kind:
        group, version, kind = operation.kind
        common[_GVK] = {"group": group, "kind": kind, "version": version}
    return common


def _schema(name: str, prefix: str) -> Obj:
    return {"type": "string"} if name == "string" else {"$ref": prefix + name}


def _operation_v3(operation: Operation) -> Obj:
    written = _common(operation)
    if operation.query:
        written["parameters"] = [_parameter(name, "query", v3=True) for name in operation.query]
    if operation.body:
        content = {media: {"schema": _schema(operation.body, V3)} for media in operation.consumes}
        written["requestBody"] = {"content": content}
        if operation.body != META + "DeleteOptions":
            written["requestBody"]["required"] = True
    written["responses"] = {}
    for code, answer in operation.responses:
        response: Obj = {"description": _STATUS[code]}
        if answer:
            response["content"] = {media: {"schema": _schema(answer, V3)} for media in operation.produces}
        written["responses"][code] = response
    return written


def _operation_v2(operation: Operation) -> Obj:
    written = _common(operation) | {"schemes": ["https"], "produces": list(operation.produces)}
    if operation.consumes:
        written["consumes"] = list(operation.consumes)
    parameters = [_parameter(name, "query", v3=False) for name in operation.query]
    if operation.body:
        body: Obj = {"name": "body", "in": "body", "schema": _schema(operation.body, V2)}
        if operation.body != META + "DeleteOptions":
            body["required"] = True
        parameters.insert(0, body)
    if parameters:
        written["parameters"] = parameters
    written["responses"] = {}
    for code, answer in operation.responses:
        response: Obj = {"description": _STATUS[code]}
        if answer:
            response["schema"] = _schema(answer, V2)
        written["responses"][code] = response
    return written


def _paths(operations: Iterable[Operation], *, v3: bool) -> Obj:
    by_path: dict[str, list[Operation]] = {}
    for one in operations:
        by_path.setdefault(one.path, []).append(one)
    return {path: _path_item(by_path[path], v3=v3) for path in sorted(by_path)}


def _kinds(resources: Iterable[Resource]) -> dict[GVK, str]:
    """Maps kinds to definition names."""
    known = {GVK(*kind): name for name, kinds in build.facts()["kinds"].items() for kind in kinds}
    known |= {GVK(one.group, one.version, one.kind): one.schema for one in resources if one.schema}
    return known


# ---------------------------------------------------------------- documents

_SECURITY = {"BearerToken": {"description": "Bearer Token authentication", "type": "apiKey", "name": "authorization"}}


def _security() -> Obj:
    return {"BearerToken": _SECURITY["BearerToken"] | {"in": "header"}}


def document_names(resources: Sequence[Resource]) -> list[str]:
    """Returns the names of the v3 documents: `api/v1`, `apis/apps/v1`, `version`, …"""
    versions = {(one.group, one.version) for one in resources}
    names = {f"apis/{group}/{version}" if group else f"api/{version}" for group, version in versions}
    names |= {f"apis/{group}" for group, _ in versions if group}
    return sorted(names | {"api", "apis", "version", ".well-known/openid-configuration", "openid/v1/jwks"})


def index_v3(hashes: Mapping[str, str]) -> Obj:
    """Returns the list of v3 documents; `hashes` maps their names to hashes that change with their content."""
    relative = {name: f"/openapi/v3/{name}?hash={hashes[name]}" for name in sorted(hashes)}
    return {"paths": {name: {"serverRelativeURL": path} for name, path in relative.items()}}


def content_hash(encoded: bytes) -> str:
    """Returns the hash under which a document is known."""
    return hashlib.sha512(encoded).hexdigest().upper()


def document_v3(name: str, resources: Sequence[Resource], custom: Mapping[str, Obj] | None = None) -> Obj | None:
    """Builds one v3 document, or returns None if there is none of this name; `custom` are custom definitions."""
    custom = custom or {}
    if name not in document_names(resources):
        return None
    root, _, rest = name.partition("/")
    group, _, version = rest.rpartition("/") if root == "apis" else ("", "", rest)
    of_version = [one for one in resources if (one.group, one.version) == (group, version)]
    if of_version and all(one.schema in custom for one in of_version):
        operations = _custom_operations(of_version, group, version)
    elif root in ("api", "apis") and version and (group or root == "api"):
        operations = of_group_version(resources, group, version, _kinds(resources))
    else:
        groups = {one.group for one in resources}
        operations = [one for one in of_discovery(groups) if one.path.strip("/") == name]
    used = {answer for one in operations for _, answer in one.responses} | {one.body for one in operations}
    schemas = _Definitions(V3, custom).closure(used - {"", "string"})
    return {
        "openapi": "3.0.0",
        "info": INFO,
        "paths": _paths(operations, v3=True),
        "components": {"schemas": schemas, "securitySchemes": _security()},
    }


def document_v2(resources: Sequence[Resource]) -> Obj:
    """Builds the v2 document of built-in resources; each custom one adds its `part_v2`."""
    kinds = _kinds(resources)
    versions = sorted({(one.group, one.version) for one in resources})
    operations = of_discovery(sorted({group for group, _ in versions}))
    for group, version in versions:
        operations += of_group_version(resources, group, version, kinds)
    definitions = _Definitions(V2, {})
    # What is served only where it is asked for is told of only there.
    asked = {one.schema for one in resources} & set(build.facts()["optional"])
    extra = definitions.closure(asked | {f"{name}List" for name in asked})
    return {
        "swagger": "2.0",
        "info": INFO,
        "paths": _paths(operations, v3=False),
        "definitions": {name: definitions.get(name) for name in sorted({*definitions.names, *extra})},
        "securityDefinitions": _security(),
        "security": [{"BearerToken": []}],
    }


def part_v2(resource: Resource, custom: Mapping[str, Obj]) -> Obj:
    """Returns the paths and definitions of one custom resource in the v2 document."""
    operations = _custom_operations([resource], resource.group, resource.version)
    return {"paths": _paths(operations, v3=False), "definitions": dict(custom)}


def _custom_operations(resources: Sequence[Resource], group: str, version: str) -> list[Operation]:
    """Returns the operations of custom resources, which are published without discovery and the old watch paths."""
    base = base_path(group, version)
    return [
        replace(one, consumes=JSON_YAML) if one.body and one.consumes == ("*/*",) else one
        for one in of_group_version(resources, group, version, _kinds(resources))
        if one.path != f"{base}/" and not one.path.startswith(f"{base}/watch/")
    ]
