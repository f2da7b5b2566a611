"""CEL types and values of structural schemas (those of custom resources)."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable
from functools import cache
from typing import Any

from proa.meta.cel.library.times import duration, timestamp
from proa.meta.cel.syntax import CelError
from proa.meta.cel.types import BOOL, BYTES, DOUBLE, DURATION, DYN, INT, STRING, TIMESTAMP, Type, list_of, map_of
from proa.meta.cel.values import MapList, SetList
from proa.meta.objects import Obj

_SCALARS = {"boolean": BOOL, "integer": INT, "number": DOUBLE, "string": STRING}
_FORMATS = {"byte": BYTES, "duration": DURATION, "date": TIMESTAMP, "date-time": TIMESTAMP}
_KEYWORDS = frozenset(
    [
        "true",
        "false",
        "null",
        "in",
        "as",
        "break",
        "const",
        "continue",
        "else",
        "for",
        "function",
        "if",
        "import",
        "let",
        "loop",
        "package",
        "namespace",
        "return",
        "var",
        "void",
        "while",
    ]
)
_ESCAPES = {"__": "__underscores__", ".": "__dot__", "-": "__dash__", "/": "__slash__"}
_NAME = re.compile(r"[_a-zA-Z][_a-zA-Z0-9]*")
_META: Obj = {"type": "object", "properties": {"name": {"type": "string"}, "generateName": {"type": "string"}}}
_RESOURCE: Obj = {"apiVersion": {"type": "string"}, "kind": {"type": "string"}, "metadata": _META}


def escape(name: str) -> str:
    """Returns the identifier under which a field of this name is selected, an empty text if there is none."""
    if name in _KEYWORDS:
        return f"__{name}__"
    made = re.sub(r"__|[.\-/]", lambda found: _ESCAPES[found.group()], name)
    return made if _NAME.fullmatch(made) else ""


def schema_type(schema: Obj, name: str = "object", *, resource: bool = False) -> Type | None:
    """Returns the type of a schema's values, None if expressions cannot reach them."""
    if schema.get("x-kubernetes-int-or-string"):
        return DYN
    kind = schema.get("type")
    if kind == "string":
        return _FORMATS.get(schema.get("format") or "", STRING)
    if kind in _SCALARS:
        return _SCALARS[kind]
    if kind == "array":
        item = schema_type(schema.get("items") or {}, f"{name}.@idx")
        return list_of(item) if item else None
    if kind != "object":
        return None
    additional = schema.get("additionalProperties")
    if isinstance(additional, dict):
        value = schema_type(additional, f"{name}.@elem")
        return map_of(STRING, value) if value else None
    return Type(name, (), _fields(properties_of(schema, resource=resource), name))


def properties_of(schema: Obj, *, resource: bool = False) -> Obj:
    """Returns the fields of an object: those of its schema, and what any resource has."""
    properties: Obj = schema.get("properties") or {}
    if not resource and not schema.get("x-kubernetes-embedded-resource"):
        return properties
    own = properties.get("metadata") or {}
    fields = own.get("properties") or {}
    metadata = {**_META, "properties": {**fields, **_META["properties"]}} if fields else _META
    return {**properties, **_RESOURCE, "metadata": metadata}


def _fields(properties: Obj, name: str) -> Callable[[str], tuple[str, Type] | None]:
    @cache
    def by_name() -> dict[str, str]:
        found = {escape(field): field for field in properties}
        return found | {field: field for field in properties}

    @cache
    def find(shown: str) -> tuple[str, Type] | None:
        field = by_name().get(shown)
        if field is None or not shown:
            return None
        found = schema_type(properties[field], f"{name}.{field}")
        return (field, found) if found else None

    return find


# ---------------------------------------------------------------- values


def adapter(schema: Obj) -> Adapt | None:
    """Returns what makes a schema's values of JSON ones, None if they are the same.

    Numbers become doubles, and texts with a format bytes, moments and spans; lists of the types set and map know it.
    What cannot be converted stays as it is. The given value is not changed.
    """
    if schema.get("x-kubernetes-int-or-string"):
        return None
    kind = schema.get("type")
    if kind == "number":
        return _as_double
    if kind == "string":
        return _TEXTS.get(schema.get("format") or "")
    if kind == "array":
        return _list_adapter(schema)
    additional = schema.get("additionalProperties")
    if isinstance(additional, dict):
        of_value = adapter(additional)
        return of_value and _map_adapter(of_value)
    fields = {name: found for name, one in (schema.get("properties") or {}).items() if (found := adapter(one))}
    return _object_adapter(fields) if fields else None


Adapt = Callable[[Any], Any]


def _list_adapter(schema: Obj) -> Adapt | None:
    of_item = adapter(schema.get("items") or {})
    shape, keys = schema.get("x-kubernetes-list-type"), tuple(schema.get("x-kubernetes-list-map-keys") or ())
    if not of_item and shape not in ("set", "map"):
        return None

    def adapt(value: Any) -> Any:
        if not isinstance(value, list):
            return value
        items = list(map(of_item, value)) if of_item else value
        if shape == "map":
            made = MapList(items)
            made.keys = keys
            return made
        return SetList(items) if shape == "set" else items

    return adapt


def _map_adapter(of_value: Adapt) -> Adapt:
    return lambda value: {key: of_value(one) for key, one in value.items()} if isinstance(value, dict) else value


def _object_adapter(fields: dict[str, Adapt]) -> Adapt:
    def adapt(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return value | {name: found(value[name]) for name, found in fields.items() if name in value}

    return adapt


def _as_double(value: Any) -> Any:
    return float(value) if type(value) is int else value


def _as_bytes(value: Any) -> Any:
    try:
        return base64.b64decode(value, validate=True) if isinstance(value, str) else value
    except binascii.Error:
        return value


def _as_timestamp(value: Any) -> Any:
    try:
        return timestamp(value if "T" in value else f"{value}T00:00:00Z") if isinstance(value, str) else value
    except CelError:
        return value


def _as_duration(value: Any) -> Any:
    try:
        return duration(value) if isinstance(value, str) else value
    except CelError:
        return value


# By the type of a field that has one, whose values come as JSON.
FROM_JSON: dict[str, Adapt] = {
    "double": _as_double,
    "bytes": _as_bytes,
    "timestamp": _as_timestamp,
    "duration": _as_duration,
}
_TEXTS: dict[str, Adapt] = {
    "byte": _as_bytes,
    "date": _as_timestamp,
    "date-time": _as_timestamp,
    "duration": _as_duration,
}

# ---------------------------------------------------------------- built-in types

_CODES = {"s": STRING, "y": BYTES, "b": BOOL, "i": INT, "l": INT, "n": DOUBLE, "t": TIMESTAMP, "u": TIMESTAMP}


@cache
def definition_type(name: str) -> Type:
    """Returns the type of a built-in definition such as io.k8s.api.core.v1.Pod; raises KeyError."""
    from proa.meta.schema.catalog import definition

    found = definition(name)
    if found.alias:
        return _code_type(found.alias)

    @cache
    def by_name() -> dict[str, str]:
        return {shown: field for field in found.fields for shown in (field, escape(field)) if shown}

    @cache
    def find(shown: str) -> tuple[str, Type] | None:
        field = by_name().get(shown)
        if field is None or (field == shown and field in _KEYWORDS):
            return None
        return field, _code_type(found.fields[field].type)

    return Type(found.go_type, (), find)


def _code_type(code: str) -> Type:
    """Returns the type that a code of the compiled schema stands for; quantities and the like may be anything."""
    if code[0] == "[":
        return list_of(_code_type(code[1:]))
    if code[0] == "{":
        return map_of(STRING, _code_type(code[1:]))
    return definition_type(code[1:]) if code[0] == "@" else _CODES.get(code[0], DYN)
