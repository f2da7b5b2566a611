"""What /metrics says of priority and fairness, in upstream's names (apiserver_flowcontrol_*)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from proa.apiserver.fairness.gate import Gate
from proa.apiserver.fairness.plan import Level, Stats
from proa.util.histogram import Histogram

_PREFIX = "apiserver_flowcontrol_"
_BOTH = ("priority_level", "flow_schema")
_WIDTHS = (1, 2, 4, 10)
_LENGTHS = (0, 10, 25, 50, 100, 250, 500, 1000)

_PER_FLOW: tuple[tuple[str, str, Callable[[Stats], float]], ...] = (
    ("current_inqueue_requests", "Requests that wait.", lambda one: one.waiting),
    ("current_executing_requests", "Requests that run.", lambda one: one.executing),
    ("current_executing_seats", "Seats of requests that run.", lambda one: one.seats),
)
_PER_LEVEL: tuple[tuple[str, str, Callable[[Level], float]], ...] = (
    ("nominal_limit_seats", "Seats by shares.", lambda one: one.bounds.nominal),
    ("lower_limit_seats", "The fewest seats that lending leaves.", lambda one: one.bounds.least),
    ("upper_limit_seats", "The most seats that borrowing gives.", lambda one: one.bounds.most),
    ("current_limit_seats", "Seats now.", lambda one: one.limit),
    ("demand_seats_high_watermark", "The most seats asked for in the last period.", lambda one: one.observed.high),
    ("demand_seats_average", "Seats asked for on average.", lambda one: one.observed.average),
    ("demand_seats_stdev", "Their standard deviation.", lambda one: one.observed.deviation),
    ("demand_seats_smoothed", "Seats asked for, smoothed.", lambda one: one.smoothed),
    ("target_seats", "Seats aimed at.", lambda one: one.target),
)


def collect(gate: Gate) -> Iterator[Any]:
    """Yields metric families."""
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

    stats = list(gate.stats.values())
    dispatched = CounterMetricFamily(f"{_PREFIX}dispatched_requests", "Requests that ran.", labels=_BOTH)
    rejected = CounterMetricFamily(f"{_PREFIX}rejected_requests", "Requests refused.", labels=(*_BOTH, "reason"))
    for one in stats:
        dispatched.add_metric((one.level, one.schema), one.dispatched)
        for reason, count in one.refused.items():
            rejected.add_metric((one.level, one.schema, reason), count)
    yield dispatched
    yield rejected
    for name, text, flow_value in _PER_FLOW:
        family = GaugeMetricFamily(_PREFIX + name, text, labels=_BOTH)
        for one in stats:
            family.add_metric((one.level, one.schema), flow_value(one))
        yield family
    for name, text, level_value in _PER_LEVEL:
        family = GaugeMetricFamily(_PREFIX + name, text, labels=("priority_level",))
        for level in gate.levels.values():
            family.add_metric((level.name,), level_value(level))
        yield family
    yield GaugeMetricFamily(f"{_PREFIX}seat_fair_frac", "What each level gets of its target.", gate.fair_proportion)
    unfit = CounterMetricFamily(
        f"{_PREFIX}request_dispatch_no_accommodation", "Times that seats did not suffice.", labels=_BOTH[:1]
    )
    for level in gate.levels.values():
        unfit.add_metric((level.name,), level.not_accommodated)
    yield unfit

    def histogram(name: str, text: str, extra: tuple[str, ...] = ()) -> Any:
        return HistogramMetricFamily(_PREFIX + name, text, labels=(*_BOTH, *extra))

    waits = histogram("request_wait_duration_seconds", "Seconds in a queue.", ("execute",))
    runs = histogram("request_execution_duration_seconds", "Seconds of running.", ("type",))
    widths = histogram("work_estimated_seats", "Seats of requests.")
    lengths = histogram("request_queue_length_after_enqueue", "Requests in a queue, with one that joined it.")
    for one in stats:
        labels = (one.level, one.schema)
        waits.add_metric((*labels, "true"), *_with_instant(one.waited, one.dispatched - sum(one.waited.counts)))
        waits.add_metric((*labels, "false"), one.gave_up.buckets(), one.gave_up.total)
        runs.add_metric((*labels, "regular"), one.ran.buckets(), one.ran.total)
        narrow = {1: one.dispatched - sum(one.wide.values()), **one.wide}
        widths.add_metric(labels, *_counted(narrow, _WIDTHS))
        lengths.add_metric(labels, *_counted(one.lengths, _LENGTHS))
    yield from (waits, runs, widths, lengths)


def _with_instant(histogram: Histogram, instant: int) -> tuple[list[tuple[str, float]], float]:
    """Returns a histogram's buckets and sum, with so many requests that did not wait at all."""
    return [(bound, count + instant) for bound, count in histogram.buckets()], histogram.total


def _counted(values: dict[int, int], bounds: tuple[int, ...]) -> tuple[list[tuple[str, float]], float]:
    shown = [(str(bound), float(sum(n for value, n in values.items() if value <= bound))) for bound in bounds]
    return [*shown, ("+Inf", float(sum(values.values())))], float(sum(value * n for value, n in values.items()))
