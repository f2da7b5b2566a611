"""A measured figure beside its floor, its budget and upstream's figure; and the one table of them all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """`value`, `floor`, `budget` and `upstream` share one unit; None means that there is none.

    The floor is what the same machine did, in the same run, without Kubernetes around it. `budget_ratio` bounds the
    ratio to the floor instead of the value. Rates count up, all else (seconds, bytes, shares) counts down.
    """

    what: str
    value: float
    unit: str
    floor: float | None = None
    floor_is: str = ""
    budget: float | None = None
    budget_ratio: float | None = None
    upstream: float | None = None

    @property
    def is_rate(self) -> bool:
        return self.unit.endswith("/s")

    @property
    def ratio(self) -> float | None:
        return self.value / self.floor if self.floor else None

    @property
    def verdict(self) -> str:
        """Returns `ok`, `behind` (with the factor that is missing) or `` if nothing is budgeted."""
        measured, allowed = self.value, self.budget
        if self.budget_ratio is not None and self.ratio is not None:
            measured, allowed = self.ratio, self.budget_ratio
        if not allowed:
            return ""
        excess = allowed / measured if self.is_rate else measured / allowed
        return "ok" if excess <= 1.0 else f"behind {excess:.2f}x"


def _number(value: float | None) -> str:
    if value is None:
        return ""
    digits = 0 if value >= 100 else 1 if value >= 10 else 2 if value >= 0.1 else 3
    return f"{value:,.{digits}f}"


def _cells(figure: Figure) -> list[str]:
    floor = f"{_number(figure.floor)} ({figure.floor_is})" if figure.floor is not None else ""
    ratio = f"{figure.ratio:.2f}" if figure.ratio is not None else ""
    budget = f"{figure.budget_ratio:g} x floor" if figure.budget_ratio is not None else _number(figure.budget)
    measured = f"{_number(figure.value)} {figure.unit}"
    return [figure.what, measured, floor, ratio, budget, _number(figure.upstream), figure.verdict]


HEADINGS = ["what", "measured", "floor", "ratio", "budget", "upstream", "verdict"]


def table(figures: Sequence[Figure]) -> str:
    """Returns a Markdown table that also reads well in a terminal."""
    rows = [HEADINGS, *(_cells(figure) for figure in figures)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in rows
    ]
    lines.insert(1, "| " + " | ".join("-" * width for width in widths) + " |")
    return "\n".join(lines)
