"""CEL types of structural schemas (those of custom resources)."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache

from proa.meta.cel.types import BOOL, BYTES, DOUBLE, DURATION, DYN, INT, STRING, TIMESTAMP, Type, list_of, map_of
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
    properties = schema.get("properties") or {}
    if resource or schema.get("x-kubernetes-embedded-resource"):
        properties = {**properties, **_RESOURCE}
    return Type(name, (), _fields(properties, name))


def _fields(properties: Obj, name: str) -> Callable[[str], tuple[str, Type] | None]:
    @cache
    def by_name() -> dict[str, str]:
        return {shown: field for field in properties for shown in (field, escape(field)) if shown}

    @cache
    def find(shown: str) -> tuple[str, Type] | None:
        field = by_name().get(shown)
        if field is None or (field == shown and field in _KEYWORDS):
            return None
        found = schema_type(properties[field], f"{name}.{field}")
        return (field, found) if found else None

    return find
