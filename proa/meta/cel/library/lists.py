"""Functions of lists: Kubernetes' own, cel-go's lists extension (version 3), and sets."""

from __future__ import annotations

from collections.abc import Callable
from functools import cmp_to_key
from itertools import pairwise
from typing import Any

from proa.meta.cel.syntax import CelError
from proa.meta.cel.values import NUMBERS, Duration, MapList, SetList, contains, equal, int_range, kind_of, uint_range

COMPARABLE = ("int", "uint", "double", "bool", "duration", "timestamp", "string", "bytes")
_RANGE_MAX = 10_000_000


def plus(one: list[Any], other: list[Any]) -> list[Any]:
    """`one + other`: the first says how, if it is a set or has keys."""
    return one.plus(other) if isinstance(one, SetList | MapList) else one + other


def compare(one: Any, other: Any) -> int:
    """Returns -1, 0 or 1; raises CelError for what has no order."""
    first, second = type(one), type(other)
    if first in NUMBERS and second in NUMBERS:
        if float in (first, second):
            one, other = float(one), float(other)
            if one != one or other != other:
                raise CelError("NaN values cannot be ordered")
    elif first is not second or kind_of(one) not in COMPARABLE:
        raise CelError("no such overload")
    return int(one > other) - int(one < other)


def _sum(items: list[Any], zero: Any, fits: Callable[[Any], Any]) -> Any:
    for one in items:
        if type(one) is not type(zero):
            raise CelError("no such overload")
        zero = fits(zero + one)
    return zero


def _sum_durations(items: list[Duration]) -> Duration:
    return Duration(int_range(sum(one.nanos for one in items)))


def _extreme(name: str, sign: int) -> Callable[[list[Any]], Any]:
    def run(items: list[Any]) -> Any:
        if not items:
            raise CelError(f"{name} called on empty list")
        best = items[0]
        for one in items[1:]:
            if compare(best, one) == sign:
                best = one
        return best

    return run


def _place(items: list[Any], value: Any, places: range) -> int:
    return next((place for place in places if equal(items[place], value)), -1)


def _distinct(items: list[Any]) -> list[Any]:
    made: list[Any] = []
    for one in items:
        if not contains(made, one):
            made.append(one)
    return made


def _flatten(items: list[Any], depth: int = 1) -> list[Any]:
    if depth < 0:
        raise CelError("level must be non-negative")
    made: list[Any] = []
    for one in items:
        made += _flatten(one, depth - 1) if isinstance(one, list) and depth > 0 else [one]
    return made


def _slice(items: list[Any], start: int, end: int) -> list[Any]:
    if start < 0 or end < 0:
        raise CelError(f"cannot slice({start}, {end}), negative indexes not supported")
    if start > end:
        raise CelError(f"cannot slice({start}, {end}), start index must be less than or equal to end index")
    if len(items) < end:
        raise CelError(f"cannot slice({start}, {end}), list is length {len(items)}")
    return items[start:end]


def _range(size: int) -> list[int]:
    if size < 0:
        raise CelError(f"lists.range: size must be non-negative, got {size}")
    if size > _RANGE_MAX:
        raise CelError(f"lists.range: size {size} exceeds maximum allowed ({_RANGE_MAX})")
    return list(range(size))


def sort_by(pairs: list[tuple[Any, Any]]) -> tuple[list[Any], int]:
    """Sorts (item, key) by key; returns the items and what it costs."""
    keys = [key for _, key in pairs]
    price = self_compare_cost(keys)
    if keys and kind_of(keys[0]) not in COMPARABLE:
        raise CelError("list elements must be comparable")
    if any(type(key) is not type(keys[0]) for key in keys):
        raise CelError("list elements must have the same type")
    by_key = cmp_to_key(compare)
    return [item for item, _ in sorted(pairs, key=lambda pair: by_key(pair[1]))], price


def self_compare_cost(items: list[Any]) -> int:
    """What comparing the items of a list with each other costs."""
    factor = 2.1 if items and isinstance(items[0], str | bytes) else 2.0
    return int(len(items) ** 2 * factor) + 11


def _subset(items: list[Any], others: list[Any]) -> bool:
    return all(contains(items, one) for one in others)


LIBRARY: dict[str, Callable[..., Any]] = {
    "list(int)->sum() int": lambda items: _sum(items, 0, int_range),
    "list(uint)->sum() uint": lambda items: _sum(items, uint_range(0), uint_range),
    "list(double)->sum() double": lambda items: _sum(items, 0.0, float),
    "list(duration)->sum() duration": _sum_durations,
    **{f"list({one})->min() {one}": _extreme("min", 1) for one in COMPARABLE},
    **{f"list({one})->max() {one}": _extreme("max", -1) for one in COMPARABLE},
    **{
        f"list({one})->isSorted() bool": lambda items: all(compare(one, later) <= 0 for one, later in pairwise(items))
        for one in COMPARABLE
    },
    "list(A)->indexOf(A) int": lambda items, value: _place(items, value, range(len(items))),
    "list(A)->lastIndexOf(A) int": lambda items, value: _place(items, value, range(len(items) - 1, -1, -1)),
    **{
        f"list({one})->sort() list({one})": lambda items: sort_by([(item, item) for item in items])[0]
        for one in COMPARABLE
    },
    "list(A)->distinct() list(A)": _distinct,
    "list(A)->reverse() list(A)": lambda items: items[::-1],
    "list(A)->slice(int, int) list(A)": _slice,
    "list(list(A))->flatten() list(A)": _flatten,
    "list(dyn)->flatten(int) list(dyn)": _flatten,
    "lists.range(int) list(int)": _range,
    "sets.contains(list(A), list(A)) bool": _subset,
    "sets.equivalent(list(A), list(A)) bool": lambda one, other: _subset(one, other) and _subset(other, one),
    "sets.intersects(list(A), list(A)) bool": lambda one, other: any(contains(one, item) for item in other),
}
