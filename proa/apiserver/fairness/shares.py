"""How many seats each priority level has: nominal shares, and what levels lend to and borrow from each other. Pure.

Follows upstream's KEP-1040, "Dynamic Seat Allocation": every ten seconds each level's limit moves towards what it asked
for lately, within what it must keep and may borrow.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

ADJUST_SECONDS = 10.0
_SMOOTHING = 0.977  # half of a demand is forgotten after about five minutes
_TARGET_MIN = 0.001


@dataclass(frozen=True, slots=True)
class Shares:
    """What a PriorityLevelConfiguration asks for; `borrowing_percent` None: without limit."""

    nominal: int
    lendable_percent: int = 0
    borrowing_percent: int | None = None
    exempt: bool = False


@dataclass(frozen=True, slots=True)
class Bounds:
    """Seats: those by right, the fewest that stay when others borrow, the most that borrowing may give."""

    nominal: int
    least: int
    most: int


def bounds(levels: Mapping[str, Shares], server_seats: int) -> dict[str, Bounds]:
    """Divides the server's seats by nominal shares."""
    total = sum(level.nominal for level in levels.values()) or 1
    found = {}
    for name, level in levels.items():
        nominal = math.ceil(server_seats * level.nominal / total)
        lendable = _rounded(nominal * level.lendable_percent / 100)
        most = server_seats
        if level.borrowing_percent is not None and not level.exempt:
            most = nominal + _rounded(nominal * level.borrowing_percent / 100)
        found[name] = Bounds(nominal, nominal - lendable, max(most, nominal))
    return found


def _rounded(value: float) -> int:
    return math.floor(value + 0.5)


class Demand:
    """What a level asked for since the last adjustment: seats in use and waited for, over time."""

    __slots__ = ("_area", "_began", "_last", "_square", "_value", "high")

    def __init__(self, now: float) -> None:
        self._value = 0
        self._begin(now)

    def _begin(self, now: float) -> None:
        self._began = self._last = now
        self._area = self._square = 0.0
        self.high = self._value

    def observe(self, seats: int, now: float) -> None:
        """Notes that the demand is so many seats from now on."""
        elapsed, value = now - self._last, self._value
        if elapsed > 0:
            self._area += value * elapsed
            self._square += value * value * elapsed
            self._last = now
        self._value = seats
        if seats > self.high:
            self.high = seats

    def take(self, now: float) -> Observed:
        """Returns what was observed since the last time, and begins anew."""
        self.observe(self._value, now)
        span = self._last - self._began
        average = self._area / span if span > 0 else float(self._value)
        variance = self._square / span - average * average if span > 0 else 0.0
        observed = Observed(self.high, average, math.sqrt(max(variance, 0.0)))
        self._begin(now)
        return observed


@dataclass(frozen=True, slots=True)
class Observed:
    """A level's demand in seats over one period."""

    high: int = 0
    average: float = 0.0
    deviation: float = 0.0

    @property
    def envelope(self) -> float:
        return min(self.average + self.deviation, self.high)


@dataclass(frozen=True, slots=True)
class Allotment:
    """A level's limit until the next adjustment, and what led to it."""

    current: int
    smoothed: float
    target: float
    observed: Observed


@dataclass(frozen=True, slots=True)
class Asking:
    """One level at an adjustment: its bounds, what it asked for, the smoothed demand of before."""

    bounds: Bounds
    observed: Observed
    smoothed: float
    exempt: bool = False


def adjust(levels: Mapping[str, Asking]) -> tuple[dict[str, Allotment], float]:
    """Returns every level's limit, and the proportion of its target that each gets where no bound holds it."""
    found: dict[str, Allotment] = {}
    limited: list[tuple[str, float, float, float]] = []  # name, target, lower and upper bound
    remaining = sum(one.bounds.nominal for one in levels.values())
    for name, one in levels.items():
        observed, limits = one.observed, one.bounds
        smoothed = max(observed.envelope, _SMOOTHING * one.smoothed + (1 - _SMOOTHING) * observed.envelope)
        if one.exempt:  # it takes what it takes; the others share what it leaves
            current = max(limits.least, observed.high)
            remaining -= current
            found[name] = Allotment(current, smoothed, max(limits.least, smoothed), observed)
            continue
        lower = max(limits.least, min(limits.nominal, observed.high))
        target = max(lower, smoothed)
        limited.append((name, target, lower, max(lower, limits.most)))
        found[name] = Allotment(limits.nominal, smoothed, target, observed)
    proportion, seats = _divided(max(remaining, 0), limited, {name: levels[name].bounds.least for name in found})
    for name, count in seats.items():
        kept = found[name]
        found[name] = Allotment(max(1, count), kept.smoothed, kept.target, kept.observed)
    return found, proportion


def _divided(
    total: int, levels: Sequence[tuple[str, float, float, float]], least: Mapping[str, int]
) -> tuple[float, dict[str, int]]:
    """Divides seats so that each level gets the same proportion of its target, within its bounds."""
    lower_sum = sum(lower for _, _, lower, _ in levels)
    least_sum = sum(least[name] for name, *_ in levels)
    if total <= least_sum:
        return 0.0, {name: least[name] for name, *_ in levels}
    if total <= lower_sum:  # exempt requests take so much that nobody gets all that is due
        part = (total - least_sum) / (lower_sum - least_sum)
        return 0.0, {name: _rounded(least[name] + (lower - least[name]) * part) for name, _, lower, _ in levels}

    def given(proportion: float) -> list[float]:
        return [min(max(lower, proportion * max(target, _TARGET_MIN)), upper) for _, target, lower, upper in levels]

    low, high = 0.0, max(upper / max(target, _TARGET_MIN) for _, target, _, upper in levels)
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if sum(given(middle)) < total else (low, middle)
    return high, {level[0]: _rounded(seats) for level, seats in zip(levels, given(high), strict=True)}
