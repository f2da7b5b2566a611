"""Compiles macros over lists, maps and optional values to closures.

Upstream expands a macro to a loop with an accumulator; what that loop costs at each step is charged here, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from proa.meta.cel.code import (
    COST,
    LIST_COST,
    Builder,
    Code,
    Frame,
    builds,
    check_limit,
)
from proa.meta.cel.library.lists import sort_by
from proa.meta.cel.syntax import CelError, Comprehension
from proa.meta.cel.values import FAILURES, NONE, CostExceeded, Optional, as_error

_NO_OVERLOAD = "no such overload"
# What the accumulator costs: to read it, to add to it, and to ask whether it has decided (`all`; `exists` negates it).
_READ, _ADD, _ASK_ALL, _ASK_EXISTS = 1, 1, 2, 3


@builds(Comprehension)
def _comprehension(builder: Builder, node: Comprehension) -> Code:
    return _KINDS[node.kind](builder, node)


def _over(value: Any) -> Sequence[Any]:
    """Returns what one variable stands for: the items of a list, the keys of a map."""
    if isinstance(value, list):
        return value
    if isinstance(value, Mapping):
        return list(value)
    raise CelError(_NO_OVERLOAD)


def _pairs(value: Any) -> Sequence[tuple[Any, Any]]:
    """Returns what two variables stand for: index and item, or key and value."""
    if isinstance(value, list):
        return list(enumerate(value))
    if isinstance(value, Mapping):
        return list(value.items())
    raise CelError(_NO_OVERLOAD)


class _Loop:
    """The range of a comprehension and the places of its variables; `args` are what it evaluates for each element."""

    def __init__(self, builder: Builder, node: Comprehension) -> None:
        self.range = builder.code(node.operand)
        self.places = builder.declare(node.variables)
        self.args = [builder.code(one) for one in node.args]
        builder.forget(node.variables)

    def steps(self, frame: Frame) -> Iterator[int]:
        """Yields the number of elements left after each, with the variables set to it."""
        value = self.range.run(frame)
        if len(self.places) == 1:
            place = self.places[0]
            over = _over(value)
            left = len(over)
            for item in over:
                left -= 1
                frame[place] = item
                yield left
        else:
            first, second = self.places
            pairs = _pairs(value)
            left = len(pairs)
            for frame[first], frame[second] in pairs:
                left -= 1
                yield left


def _truth(value: Any) -> bool:
    if value is True or value is False:
        return bool(value)
    raise CelError(_NO_OVERLOAD)


def _quantifier(builder: Builder, node: Comprehension) -> Code:
    """`all` and `exists`: one element may decide, whatever errors others make."""
    loop = _Loop(builder, node)
    predicate = loop.args[0]
    decides = node.kind == "exists"
    ask = _ASK_EXISTS if decides else _ASK_ALL
    step = ask + _READ + predicate.cost
    steps, holds = loop.steps, predicate.run

    def run(frame: Frame) -> bool:
        failed: Exception | None = None
        for left in steps(frame):
            frame[COST] += step
            check_limit(frame)
            try:
                value = holds(frame)
                if value is decides:
                    frame[COST] += ask if left else 0
                    return bool(value)
                if value is not (not decides):
                    raise CelError(_NO_OVERLOAD)
            except CostExceeded:
                raise
            except FAILURES as failure:
                failed = failed or failure
        if failed is not None:
            raise as_error(failed)
        return not decides

    return Code(run, loop.range.cost + _READ)


def _exists_one(builder: Builder, node: Comprehension) -> Code:
    loop = _Loop(builder, node)
    predicate = loop.args[0]
    steps, holds, step = loop.steps, predicate.run, predicate.cost

    def run(frame: Frame) -> bool:
        found = 0
        for _ in steps(frame):
            frame[COST] += step
            check_limit(frame)
            if _truth(holds(frame)):
                frame[COST] += _READ + _ADD
                found += 1
        return found == 1

    return Code(run, loop.range.cost + _READ + 1)


def _filter(builder: Builder, node: Comprehension) -> Code:
    loop = _Loop(builder, node)
    predicate, place = loop.args[0], loop.places[0]
    steps, holds, step = loop.steps, predicate.run, predicate.cost
    kept = _READ + LIST_COST + 1 + _ADD

    def run(frame: Frame) -> list[Any]:
        made = []
        for _ in steps(frame):
            frame[COST] += step
            check_limit(frame)
            value = frame[place]
            if _truth(holds(frame)):
                frame[COST] += kept
                made.append(value)
        return made

    return Code(run, loop.range.cost + _READ)


def _passing(loop: _Loop, each: int) -> Callable[[Frame], Iterator[None]]:
    """Returns the steps that pass the predicate, if there is one; `each` is what is done for such a one costs."""
    steps, predicate = loop.steps, loop.args[0] if len(loop.args) == 2 else None

    def all_of_them(frame: Frame) -> Iterator[None]:
        for _ in steps(frame):
            frame[COST] += each
            check_limit(frame)
            yield

    def some(frame: Frame) -> Iterator[None]:
        assert predicate is not None
        holds, step = predicate.run, predicate.cost
        for _ in steps(frame):
            frame[COST] += step
            check_limit(frame)
            if _truth(holds(frame)):
                frame[COST] += each
                yield

    return all_of_them if predicate is None else some


def _to_list(builder: Builder, node: Comprehension) -> Code:
    loop = _Loop(builder, node)
    made = loop.args[-1]
    passing = _passing(loop, _READ + (0 if made.constant else LIST_COST) + made.cost + _ADD)
    transform = made.run
    return Code(lambda frame: [transform(frame) for _ in passing(frame)], loop.range.cost + _READ)


def _to_map(builder: Builder, node: Comprehension) -> Code:
    loop = _Loop(builder, node)
    made, place = loop.args[-1], loop.places[0]
    passing = _passing(loop, _READ + 1 + made.cost + _ADD)
    transform = made.run

    def run(frame: Frame) -> dict[Any, Any]:
        result: dict[Any, Any] = {}
        for _ in passing(frame):
            key = frame[place]
            result[key] = transform(frame)
        return result

    return Code(run, loop.range.cost + _READ)


def _to_map_entries(builder: Builder, node: Comprehension) -> Code:
    loop = _Loop(builder, node)
    made = loop.args[-1]
    passing = _passing(loop, _READ + made.cost + _ADD)
    transform = made.run

    def run(frame: Frame) -> dict[Any, Any]:
        result: dict[Any, Any] = {}
        for _ in passing(frame):
            entries = transform(frame)
            if not isinstance(entries, Mapping):
                raise CelError(_NO_OVERLOAD)
            for key, value in entries.items():
                if key in result:
                    raise CelError(f"insert failed: key {key} already exists")
                result[key] = value
        return result

    return Code(run, loop.range.cost + _READ)


def _optional_map(builder: Builder, node: Comprehension) -> Code:
    """`optMap` and `optFlatMap`. Upstream evaluates the operand twice: to ask it, and to bind its value."""
    loop = _Loop(builder, node)
    made, place, flat = loop.args[0], loop.places[0], node.kind == "optFlatMap"
    operand, transform = loop.range.run, made.run
    cost = loop.range.cost + 1
    found = loop.range.cost + 1 + made.cost + (not flat)

    def run(frame: Frame) -> Any:
        value = operand(frame)
        if type(value) is not Optional:
            raise CelError(_NO_OVERLOAD)
        if not value.present:
            frame[COST] += 1
            return NONE
        frame[COST] += found
        frame[place] = value.value
        result = transform(frame)
        return result if flat else Optional(result)

    return Code(run, cost)


def _sort_by(builder: Builder, node: Comprehension) -> Code:
    """`sortBy`: upstream binds the list, maps it to its keys, and sorts by them."""
    loop = _Loop(builder, node)
    key = loop.args[0]
    each = _READ + (0 if key.constant else LIST_COST) + key.cost + _ADD
    keys = _passing(loop, each)
    key_of, operand, place = key.run, loop.range.run, loop.places[0]

    def run(frame: Frame) -> list[Any]:
        pairs = []
        for _ in keys(frame):
            item = frame[place]
            pairs.append((item, key_of(frame)))
        if not pairs:
            _over(operand(frame))
        result, price = sort_by(pairs)
        frame[COST] += price
        check_limit(frame)
        return result

    return Code(run, loop.range.cost + _READ + _READ + _READ)


_KINDS: dict[str, Callable[[Builder, Comprehension], Code]] = {
    **dict.fromkeys(("all", "exists"), _quantifier),
    "exists_one": _exists_one,
    "filter": _filter,
    **dict.fromkeys(("map", "transformList"), _to_list),
    "transformMap": _to_map,
    "transformMapEntry": _to_map_entries,
    **dict.fromkeys(("optMap", "optFlatMap"), _optional_map),
    "sortBy": _sort_by,
}
