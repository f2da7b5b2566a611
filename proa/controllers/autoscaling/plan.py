"""How many replicas a metric asks for (pure). Follows upstream's replica calculator.

Amounts are integers: milli-units of cpu and of custom metrics, bytes of memory. Pods without a metric count against the
direction of the change: as fully used when it goes down, as idle when it goes up, so that ignorance never makes
a change larger.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from proa.controllers.conditions import find
from proa.controllers.pods import is_finished, phase
from proa.meta.objects import Obj, is_deleted, metadata, name_of
from proa.util.clock import parse_rfc3339

TOLERANCE = 0.1
CPU_INITIALIZATION_SECONDS = 300.0
READINESS_DELAY_SECONDS = 30.0


class NoMetrics(Exception):
    """A metric cannot be had; `reason` goes into the condition ScalingActive."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Proposal:
    """What one metric asks for; `shown` is its entry in status.currentMetrics, `name` how messages call it."""

    replicas: int
    shown: Obj
    name: str


@dataclass(slots=True)
class _Groups:
    ready: dict[str, int]
    unready: list[str]
    missing: list[str]


def _group(pods: Sequence[Obj], usage: Mapping[str, int], cpu: bool, now: datetime) -> _Groups:
    """Sorts live pods by whether their metric counts."""
    found = _Groups({}, [], [])
    for pod in pods:
        if is_deleted(pod) or is_finished(pod):
            continue
        name = name_of(pod)
        if phase(pod) == "Pending":
            found.unready.append(name)
        elif name not in usage:
            found.missing.append(name)
        elif cpu and _is_starting(pod, now):
            found.unready.append(name)
        else:
            found.ready[name] = usage[name]
    return found


def _is_starting(pod: Obj, now: datetime) -> bool:
    """Tells whether a pod's cpu usage is still that of its start."""
    status = pod.get("status") or {}
    ready = find(status.get("conditions"), "Ready")
    if ready is None or not status.get("startTime"):
        return True
    started = parse_rfc3339(status["startTime"])
    changed = parse_rfc3339(ready.get("lastTransitionTime") or metadata(pod)["creationTimestamp"])
    if (now - started).total_seconds() < CPU_INITIALIZATION_SECONDS:
        return bool(ready.get("status") != "True")
    never_ready = ready.get("status") != "True" and (changed - started).total_seconds() < READINESS_DELAY_SECONDS
    return never_ready


def _within(ratio: float, tolerance: float) -> bool:
    return abs(1.0 - ratio) <= tolerance


def _direction(ratio: float, first: float, tolerance: float) -> bool:
    """Tells whether a corrected ratio still asks for a change, in the direction of the first."""
    return not _within(ratio, tolerance) and (ratio > 1) == (first > 1)


def by_utilization(
    current: int,
    target_percent: int,
    pods: Sequence[Obj],
    usage: Mapping[str, int],
    requests: Mapping[str, int],
    *,
    cpu: bool,
    now: datetime,
    tolerance: float = TOLERANCE,
) -> tuple[int, int, int]:
    """Returns (replicas, utilization in percent, average value) for a target share of requests; raises NoMetrics.

    `usage` and `requests` are by pod name.
    """
    groups = _group(pods, usage, cpu, now)
    if not groups.ready:
        raise NoMetrics("FailedGetResourceMetric", "did not receive metrics for targeted pods (pods might be unready)")
    without = [name for name in groups.ready if name not in requests]
    if without:
        raise NoMetrics("FailedGetResourceMetric", f"missing request for the resource in pod {without[0]}")

    def ratio_of(values: Mapping[str, int]) -> tuple[float, int]:
        total = sum(requests.get(name, 0) for name in values)
        if not total:
            raise NoMetrics("FailedGetResourceMetric", "the pods request none of the resource")
        percent = sum(values.values()) * 100 // total
        return percent / target_percent, percent

    ratio, percent = ratio_of(groups.ready)
    average = sum(groups.ready.values()) // len(groups.ready)
    fallback = {name: requests.get(name, 0) * max(100, target_percent) // 100 for name in groups.missing}
    replicas = _replicas(current, ratio, groups, fallback, lambda values: ratio_of(values)[0], tolerance)
    return replicas, percent, average


def by_value(
    current: int,
    target: int,
    pods: Sequence[Obj],
    usage: Mapping[str, int],
    *,
    cpu: bool,
    now: datetime,
    tolerance: float = TOLERANCE,
) -> tuple[int, int]:
    """Returns (replicas, average value) for a target average per pod; raises NoMetrics."""
    groups = _group(pods, usage, cpu, now)
    if not groups.ready:
        raise NoMetrics("FailedGetResourceMetric", "did not receive metrics for targeted pods (pods might be unready)")

    def ratio_of(values: Mapping[str, int]) -> float:
        return sum(values.values()) / len(values) / target

    average = sum(groups.ready.values()) // len(groups.ready)
    fallback = dict.fromkeys(groups.missing, target)
    return _replicas(current, ratio_of(groups.ready), groups, fallback, ratio_of, tolerance), average


def by_total(current: int, target: int, total: int, ready: int, *, average: bool, tolerance: float = TOLERANCE) -> int:
    """Returns the replicas for one value of a whole: `average` divides it by the replicas, else it is compared."""
    if average:
        ratio = total / (target * current) if current else float("inf")
        return current if current and _within(ratio, tolerance) else math.ceil(total / target)
    ratio = total / target
    if current == 0:
        return math.ceil(ratio)
    return current if _within(ratio, tolerance) else math.ceil(ratio * ready)


def _replicas(
    current: int,
    ratio: float,
    groups: _Groups,
    fallback: Mapping[str, int],
    ratio_of: Callable[[Mapping[str, int]], float],
    tolerance: float,
) -> int:
    """Returns the replicas for a ratio of use to target, corrected for pods of which nothing is known."""
    if not groups.missing and not (groups.unready and ratio > 1):
        return current if _within(ratio, tolerance) else math.ceil(ratio * len(groups.ready))
    values = dict(groups.ready)
    if groups.missing:
        values |= fallback if ratio < 1 else dict.fromkeys(groups.missing, 0)
    if ratio > 1:
        values |= dict.fromkeys(groups.unready, 0)
    corrected = ratio_of(values)
    if not _direction(corrected, ratio, tolerance):
        return current
    wanted = math.ceil(corrected * len(values))
    if (corrected < 1 and wanted > current) or (corrected > 1 and wanted < current):
        return current
    return wanted
