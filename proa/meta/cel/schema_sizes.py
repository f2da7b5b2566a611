"""How large values of a structural schema may be: what estimates of cost are made with.

Where a schema sets no limit, the largest request does: 3 MiB, divided by the least that an item takes in JSON.
"""

from __future__ import annotations

from typing import Any

from proa.meta.cel.schemas import properties_of, schema_type
from proa.meta.cel.sizes import Path, Size, Sizes
from proa.meta.objects import Obj

REQUEST_BYTES_MAX = 3 * 1024 * 1024
_INT_OR_STRING = "x-kubernetes-int-or-string"
# Bytes in JSON, with quotes: the shortest value of a type and format, and the longest of a format.
_LEAST = {"boolean": 4, "number": 1, "integer": 1, "string": 2, "array": 2}
_LEAST_OF_FORMAT = {"duration": 3, "date": 12, "date-time": 21}
_MOST_OF_FORMAT = {"duration": 32, "date": 12, "date-time": 32}


def schema_sizes(schema: Obj, *, resource: bool = False) -> Sizes:
    """Returns the sizes of what a variable of this schema leads to."""
    known: dict[Path, Size | None] = {}

    def sizes(path: Path) -> Size | None:
        if path not in known:
            known[path] = _walk(schema, path[1:], resource)
        return known[path]

    return sizes


def cardinality_max(schema: Obj, *, resource: bool = False) -> int:
    """Returns how many values of a schema one request may have."""
    return REQUEST_BYTES_MAX // (least_bytes(schema, resource=resource) + 1)


def items_max(schema: Obj) -> int | None:
    """Returns how many values a list or map may have at most, None if its schema does not say; 1 of anything else."""
    if schema.get("type") == "array":
        return _limit(schema, "maxItems")
    if schema.get("type") == "object" and isinstance(schema.get("additionalProperties"), dict):
        return _limit(schema, "maxProperties")
    return 1


def _limit(schema: Obj, name: str) -> int | None:
    found = schema.get(name)
    return max(0, int(found)) if found is not None else None


def _walk(schema: Any, path: Path, resource: bool) -> Size | None:
    for name in path:
        if name == "@keys":
            return Size(0, 0) if isinstance(schema.get("additionalProperties"), dict) else None
        if name in ("@items", "@values"):
            schema = schema.get("items" if schema.get("type") == "array" else "additionalProperties")
        else:
            schema = properties_of(schema, resource=resource).get(name)
        resource = False
        if not isinstance(schema, dict) or schema_type(schema) is None:
            return None
    return Size(0, _most(schema))


def _most(schema: Obj) -> int:
    kind, length = schema.get("type"), _limit(schema, "maxLength")
    if schema.get(_INT_OR_STRING):
        return length * 4 if length is not None else REQUEST_BYTES_MAX - 2
    if kind == "array":
        limit = _limit(schema, "maxItems")
        return limit if limit is not None else (REQUEST_BYTES_MAX - 2) // (least_bytes(schema["items"]) + 1)
    if kind == "object":
        additional = schema.get("additionalProperties")
        if not isinstance(additional, dict):
            return 0
        limit = _limit(schema, "maxProperties")
        return limit if limit is not None else (REQUEST_BYTES_MAX - 2) // (least_bytes(additional) + 6)
    return _most_text(schema, length) if kind == "string" else 0


def _most_text(schema: Obj, length: int | None) -> int:
    form = schema.get("format") or ""
    if form in _MOST_OF_FORMAT:
        return _MOST_OF_FORMAT[form]
    if length is not None:
        return length if form == "byte" else length * 4  # a character takes up to four bytes
    if schema.get("enum") and form != "byte":
        return max((len(one.encode()) for one in schema["enum"] if isinstance(one, str)), default=0)
    return REQUEST_BYTES_MAX - 2


def least_bytes(schema: Obj, *, resource: bool = False) -> int:
    """Returns how short a value of this schema may be in JSON."""
    if schema.get(_INT_OR_STRING):
        return 1
    kind = schema.get("type") or ""
    if kind == "string":
        return _LEAST_OF_FORMAT.get(schema.get("format") or "", _LEAST[kind])
    if kind != "object" or isinstance(schema.get("additionalProperties"), dict):
        return _LEAST.get(kind, 2)
    properties, total = properties_of(schema, resource=resource), 2
    for name in schema.get("required") or ():
        one = properties.get(name)
        if isinstance(one, dict) and "default" not in one and schema_type(one) is not None:
            total += len(name.encode()) + least_bytes(one) + 4
    return total
