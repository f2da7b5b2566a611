"""Ranges of sizes and costs, as an estimate before there are values knows them: at least and at most, in 64 bits."""

from __future__ import annotations

from collections.abc import Callable
from math import ceil
from typing import NamedTuple

MAX = 2**64 - 1


def _whole(number: int, factor: float) -> int:
    return MAX if number > 0 and float(number) > MAX / factor else min(MAX, ceil(float(number) * factor))


class Size(NamedTuple):
    """How many characters, bytes, items or entries a value has; costs are counted in the same way."""

    low: int
    high: int

    def plus(self, other: Size) -> Size:
        return Size(min(MAX, self.low + other.low), min(MAX, self.high + other.high))

    def times(self, other: Size) -> Size:
        return Size(min(MAX, self.low * other.low), min(MAX, self.high * other.high))

    def by(self, factor: float) -> Size:
        """Multiplies by a cost per unit and rounds up."""
        if factor <= 0:
            return NOTHING
        return Size(_whole(self.low, factor), _whole(self.high, factor))

    def union(self, other: Size) -> Size:
        return Size(min(self.low, other.low), max(self.high, other.high))


Estimate = Size
NOTHING, ONE, UNKNOWN = Size(0, 0), Size(1, 1), Size(0, MAX)
# Where a value comes from: a variable, then names of fields, `@items`, `@keys` or `@values`.
Path = tuple[str, ...]
Sizes = Callable[[Path], Size | None]


def fixed(number: int) -> Size:
    return Size(number, number)


def no_sizes(path: Path) -> Size | None:
    return None
