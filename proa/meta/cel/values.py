"""Values of CEL while an expression runs: JSON's own, and what JSON lacks.

int is Python's int within 64 bits, double float, maps are any Mapping. Equality is CEL's: true is not 1, 1 is 1.0.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from proa.meta.cel.syntax import INT_MAX, INT_MIN, UINT_MAX, CelError


class UInt(int):
    """An unsigned number of 64 bits."""


@dataclass(frozen=True, slots=True, order=True)
class Timestamp:
    """A moment in nanoseconds since 1970."""

    nanos: int


@dataclass(frozen=True, slots=True, order=True)
class Duration:
    """A span in nanoseconds."""

    nanos: int


@dataclass(frozen=True, slots=True)
class TypeValue:
    name: str


class Message(dict[str, Any]):
    """What `Name{field: value}` makes: a map that knows its type's name."""

    __slots__ = ("cel_type",)

    def __init__(self, name: str, fields: Mapping[str, Any]) -> None:
        super().__init__(fields)
        self.cel_type = name


class Optional:
    """A value that may be there: `value` if `present`."""

    __slots__ = ("present", "value")

    def __init__(self, value: Any = None, present: bool = True) -> None:
        self.value, self.present = value, present


NONE = Optional(None, False)
_KINDS: dict[type, str] = {
    bool: "bool",
    int: "int",
    UInt: "uint",
    float: "double",
    str: "string",
    bytes: "bytes",
    list: "list",
    dict: "map",
    type(None): "null_type",
    Timestamp: "timestamp",
    Duration: "duration",
    TypeValue: "type",
    Optional: "optional_type",
}
_NUMBERS = (int, UInt, float)


def kind_of(value: Any) -> str:
    """Returns the name of a value's type; classes of libraries carry theirs as `cel_type`."""
    found = _KINDS.get(type(value))
    if found:
        return found
    return getattr(value, "cel_type", "") or ("map" if isinstance(value, Mapping) else "list")


def equal(one: Any, other: Any) -> bool:
    first, second = type(one), type(other)
    if first in _NUMBERS and second in _NUMBERS:
        return bool(one == other)
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return len(one) == len(other) and all(key in other and equal(one[key], other[key]) for key in one)
    if first is not second:
        return False
    if first is list:
        return len(one) == len(other) and all(map(equal, one, other))
    if first is Optional:
        return one.present == other.present and equal(one.value, other.value)
    return bool(one == other)


def contains(items: Any, value: Any) -> bool:
    """`value in items`, of a list or a map."""
    if isinstance(items, Mapping):
        return isinstance(value, str | int | float | bool) and value in items
    return any(equal(one, value) for one in items)


def int_range(value: int) -> int:
    if not INT_MIN <= value <= INT_MAX:
        raise CelError("integer overflow")
    return value


def uint_range(value: int) -> UInt:
    if not 0 <= value <= UINT_MAX:
        raise CelError("unsigned integer overflow")
    return UInt(value)


def _as_double(value: Any) -> Any:
    return float(value) if type(value) is int else value


def _as_bytes(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return base64.b64decode(value, validate=True)
    except binascii.Error as error:
        raise CelError(f"invalid base64: {error}") from None


def _as_timestamp(value: Any) -> Any:
    from proa.meta.cel.library.times import timestamp

    return timestamp(value if "T" in value else f"{value}T00:00:00Z") if isinstance(value, str) else value


def _as_duration(value: Any) -> Any:
    from proa.meta.cel.library.times import duration

    return duration(value) if isinstance(value, str) else value


# How JSON's form of a value becomes the value, by the type that its schema gives.
FROM_JSON = {"double": _as_double, "bytes": _as_bytes, "timestamp": _as_timestamp, "duration": _as_duration}
