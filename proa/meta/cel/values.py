"""Values of CEL while an expression runs: JSON's own, and what JSON lacks.

int is Python's int within 64 bits, double float, maps are any Mapping. Equality is CEL's: true is not 1, 1 is 1.0.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from proa.meta.cel.syntax import INT_MAX, INT_MIN, UINT_MAX, CelError

# What an operation on values of the wrong kinds raises; all of it is an error of the expression.
FAILURES = (CelError, TypeError, AttributeError, ValueError, ArithmeticError, LookupError)


class CostExceeded(CelError):
    """The expression did more than it may."""


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


class SetList(list[Any]):
    """A list of type `set`: equal whatever the order, added without doubles."""

    def plus(self, other: Iterable[Any]) -> SetList:
        made = SetList(self)
        made += [one for one in other if not contains(self, one)]
        return made

    def matches(self, other: list[Any]) -> bool:
        return len(self) == len(other) and all(contains(other, one) for one in self)


class MapList(list[Any]):
    """A list of type `map`: its items are known by the values of `keys`. Adding replaces those of the same key."""

    keys: tuple[str, ...] = ()

    def key(self, item: Any) -> tuple[Any, ...]:
        return tuple((type(one) is bool, one) for one in map(item.get, self.keys))

    def plus(self, other: Iterable[Any]) -> MapList:
        fresh = {self.key(one): one for one in other}
        made = MapList(fresh.pop(self.key(one), one) for one in self)
        made += fresh.values()
        made.keys = self.keys
        return made

    def matches(self, other: list[Any]) -> bool:
        known = {self.key(one): one for one in other}
        return len(self) == len(other) and all(
            self.key(one) in known and equal(one, known[self.key(one)]) for one in self
        )


_KINDS: dict[type, str] = {
    bool: "bool",
    int: "int",
    UInt: "uint",
    float: "double",
    str: "string",
    bytes: "bytes",
    list: "list",
    SetList: "list",
    MapList: "list",
    dict: "map",
    type(None): "null_type",
    Timestamp: "timestamp",
    Duration: "duration",
    TypeValue: "type",
    Optional: "optional_type",
}
NUMBERS = (int, UInt, float)


def kind_of(value: Any) -> str:
    """Returns the name of a value's type; classes of libraries carry theirs as `cel_type`."""
    found = _KINDS.get(type(value))
    if found:
        return found
    return getattr(value, "cel_type", "") or ("map" if isinstance(value, Mapping) else "list")


def equal(one: Any, other: Any) -> bool:
    first, second = type(one), type(other)
    if first in NUMBERS and second in NUMBERS:
        if first is not second and float in (first, second):
            return float(one) == float(other)  # as upstream, which compares them as doubles
        return bool(one == other)
    if first is dict or isinstance(one, Mapping):
        if not isinstance(other, Mapping) or len(one) != len(other):
            return False
        return all(has_key(other, key) and equal(value, other[key]) for key, value in one.items())
    if isinstance(one, list):
        if not isinstance(other, list):
            return False
        if first is not list:
            return bool(one.matches(other))  # type: ignore[attr-defined]
        return len(one) == len(other) and all(map(equal, one, other))
    if first is not second:
        return False
    if first is Optional:
        return one.present == other.present and equal(one.value, other.value)
    return bool(one == other)


def has_key(items: Mapping[Any, Any], key: Any) -> bool:
    """`key in items`, of a map. True is no key of a map that has 1."""
    if type(key) is str:
        return key in items
    if not isinstance(key, int | float) or key not in items:
        return key is None and None in items
    return (type(key) is not bool and type(next(iter(items))) is not bool) or type(key) is type(next(iter(items)))


def contains(items: Any, value: Any) -> bool:
    """`value in items`, of a list or a map."""
    if isinstance(items, Mapping):
        return has_key(items, value)
    if type(value) is str:
        return value in items
    return any(equal(one, value) for one in items)


def int_range(value: int) -> int:
    if not INT_MIN <= value <= INT_MAX:
        raise CelError("integer overflow")
    return value


def uint_range(value: int) -> UInt:
    if not 0 <= value <= UINT_MAX:
        raise CelError("unsigned integer overflow")
    return UInt(value)


def as_error(failure: Exception) -> CelError:
    """Returns the error of CEL for what an operation on values of the wrong kinds raised."""
    return failure if isinstance(failure, CelError) else CelError("no such overload")
