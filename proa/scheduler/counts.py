"""What the scheduler counts, under upstream's names; shown with the API server's metrics when somebody asks.

Counting is a few additions per attempt. How long the points of the framework take is measured for one attempt in ten,
as upstream does for plugins.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from proa.util.histogram import Histogram

if TYPE_CHECKING:
    from proa.scheduler.engine import Engine

SAMPLED = 10
_ATTEMPT = tuple(0.001 * 2**power for power in range(15))
_POINT = tuple(0.0001 * 2**power for power in range(12))
_SLI = tuple(0.01 * 2**power for power in range(20))
_TRIES = (1.0, 2.0, 4.0, 8.0, 16.0)
_VICTIMS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
_PLACES = {"active": "active", "backoff": "backoff", "erred": "backoff", "stuck": "unschedulable", "gated": "gated"}


class Counts:
    """Counters and histograms by their labels."""

    def __init__(self) -> None:
        self.engine: Engine | None = None
        self.attempts: Counter[tuple[str, ...]] = Counter()
        self.durations: dict[tuple[str, ...], Histogram] = {}
        self.algorithm = Histogram(_ATTEMPT)
        self.points: dict[tuple[str, ...], Histogram] = {}
        self.tries = Histogram(_TRIES)
        self.sli: dict[tuple[str, ...], Histogram] = {}
        self.permits: dict[tuple[str, ...], Histogram] = {}
        self.preemptions = 0
        self.victims = Histogram(_VICTIMS)

    def attempt(self, result: str, profile: str, seconds: float) -> None:
        """An attempt has ended: scheduled, unschedulable or error."""
        self.attempts[result, profile] += 1
        _of(self.durations, (result, profile), _ATTEMPT).observe(seconds)

    def bound(self, tries: int, seconds: float) -> None:
        """A pod was bound in its so-many-th attempt, `seconds` after the first began."""
        self.tries.observe(tries)
        _of(self.sli, ("15+" if tries >= 15 else str(tries),), _SLI).observe(seconds)

    def point(self, name: str, profile: str, seconds: float, status: str = "Success") -> None:
        """A point of the framework took so long."""
        _of(self.points, (name, status, profile), _POINT).observe(seconds)

    def waited(self, allowed: bool, seconds: float) -> None:
        """A pod waited for permission."""
        _of(self.permits, ("Success" if allowed else "Unschedulable",), _ATTEMPT).observe(seconds)

    def preempted(self, victims: int) -> None:
        """Preemption was tried; it found so many victims."""
        self.preemptions += 1
        if victims:
            self.victims.observe(victims)

    # ------------------------------------------------------------ showing

    def collect(self) -> Iterator[Any]:
        """Yields metric families; prometheus_client calls this."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

        def histogram(name: str, text: str, labels: tuple[str, ...], values: dict[tuple[str, ...], Histogram]) -> Any:
            family = HistogramMetricFamily(f"scheduler_{name}", text, labels=labels)
            for key, value in values.items():
                family.add_metric(key, value.buckets(), value.total)
            return family

        def gauge(name: str, text: str, labels: tuple[str, ...], values: dict[tuple[str, ...], int]) -> Any:
            family = GaugeMetricFamily(f"scheduler_{name}", text, labels=labels)
            for key, value in values.items():
                family.add_metric(key, value)
            return family

        result = ("result", "profile")
        attempts = CounterMetricFamily("scheduler_schedule_attempts", "Attempts to schedule pods.", labels=result)
        for key, value in self.attempts.items():
            attempts.add_metric(key, value)
        yield attempts
        text = "Seconds from the beginning of an attempt to the binding."
        yield histogram("scheduling_attempt_duration_seconds", text, result, self.durations)
        text = "Seconds that deciding took."
        yield histogram("scheduling_algorithm_duration_seconds", text, (), {(): self.algorithm})
        labels = ("extension_point", "status", "profile")
        text = "Seconds that the points of the framework took."
        yield histogram("framework_extension_point_duration_seconds", text, labels, self.points)
        yield histogram("pod_scheduling_attempts", "Attempts until a pod was bound.", (), {(): self.tries})
        text = "Seconds from a pod's first attempt to its binding."
        yield histogram("pod_scheduling_sli_duration_seconds", text, ("attempts",), self.sli)
        text = "Seconds that pods waited for permission."
        yield histogram("permit_wait_duration_seconds", text, ("result",), self.permits)
        tried = CounterMetricFamily("scheduler_preemption_attempts", "Attempts to make room.")
        tried.add_metric((), self.preemptions)
        yield tried
        yield histogram("preemption_victims", "Victims of one preemption.", (), {(): self.victims})
        yield gauge("pending_pods", "Pods that wait, by where.", ("queue",), self._pending())
        yield gauge("unschedulable_pods", "Pods by who refused them.", ("plugin", "profile"), self._refused())
        yield gauge("cache_size", "What the scheduler knows.", ("type",), self._known())

    def _pending(self) -> dict[tuple[str, ...], int]:
        found: dict[tuple[str, ...], int] = dict.fromkeys([(one,) for one in _PLACES.values()], 0)
        for entry in self.engine.queue.waiting.values() if self.engine else ():
            if entry.place in _PLACES:
                found[_PLACES[entry.place],] += 1
        return found

    def _refused(self) -> dict[tuple[str, ...], int]:
        found: Counter[tuple[str, ...]] = Counter()
        for entry in self.engine.queue.waiting.values() if self.engine else ():
            profile = (entry.pod.obj.get("spec") or {}).get("schedulerName") or "default-scheduler"
            for plugin in entry.rejected_by:
                found[plugin, profile] += 1
        return found

    def _known(self) -> dict[tuple[str, ...], int]:
        engine = self.engine
        if engine is None:
            return {("nodes",): 0, ("pods",): 0, ("assumed_pods",): 0}
        columns = engine.columns
        return {
            ("nodes",): len(columns.row_of),
            ("pods",): len(columns.where),
            ("assumed_pods",): engine.assumed,
        }


def _of(values: dict[tuple[str, ...], Histogram], labels: tuple[str, ...], bounds: tuple[float, ...]) -> Histogram:
    found = values.get(labels)
    if found is None:
        found = values[labels] = Histogram(bounds)
    return found
