"""A histogram as Prometheus counts one."""

from __future__ import annotations

from bisect import bisect_left


class Histogram:
    """Counts per bucket, not cumulative; `total` is the sum of what was observed."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def buckets(self) -> list[tuple[str, float]]:
        """Returns (upper bound, cumulative count), as Prometheus has them."""
        found, running = [], 0
        for bound, count in zip((*self.bounds, None), self.counts, strict=True):
            running += count
            found.append(("+Inf" if bound is None else f"{bound:g}", float(running)))
        return found
