"""How many replicas a metric asks for (pure). Follows upstream's replica calculator.

Amounts are integers in milli-units. Pods without a metric count against the direction of the change: as fully used when
it goes down, as idle when it goes up, so that ignorance never makes a change larger.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from proa.controllers.conditions import find
from proa.controllers.pods import is_ready, phase
from proa.meta.objects import Obj, is_deleted, metadata, name_of
from proa.meta.quantity import parse
from proa.util.clock import parse_rfc3339

TOLERANCE = 0.1
CPU_INITIALIZATION_SECONDS = 300.0
READINESS_DELAY_SECONDS = 30.0
_UNMEASURED = "did not receive metrics for targeted pods (pods might be unready)"
_NO_PODS = "no pods returned by selector while calculating replica count"


class NoMetrics(Exception):
    """A metric cannot be had; the message is what users see."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """What one metric asks for; `current` are the values to show of it, `name` is how messages call it."""

    replicas: int
    current: Obj
    name: str


@dataclass(frozen=True, slots=True)
class Sample:
    """What a pod uses, in milli-units; measured over `window_seconds` up to `at` (None: unknown)."""

    value: int
    at: datetime | None = None
    window_seconds: float = 60.0


@dataclass(frozen=True, slots=True)
class Tolerances:
    """How far from its target a metric may be without a change, as shares."""

    up: float = TOLERANCE
    down: float = TOLERANCE

    def admit(self, ratio: float) -> bool:
        return 1.0 - self.down <= ratio <= 1.0 + self.up


DEFAULT_TOLERANCES = Tolerances()


def tolerances(spec: Obj) -> Tolerances:
    """Returns an autoscaler's own tolerances, where it has them."""
    found = DEFAULT_TOLERANCES
    behavior = spec.get("behavior") or {}
    for name, key in (("up", "scaleUp"), ("down", "scaleDown")):
        given = (behavior.get(key) or {}).get("tolerance")
        if given is not None:
            found = replace(found, **{name: parse(given).nano / 10**9})
    return found


# ---------------------------------------------------------------- whose metric counts


@dataclass(slots=True)
class _Groups:
    ready: dict[str, int]
    ready_count: int  # pods of which the metric counts, also those that have none
    unready: list[str]
    missing: list[str]


def _group(pods: Sequence[Obj], usage: Mapping[str, Sample], cpu: bool, now: datetime) -> _Groups:
    """Sorts live pods by whether their metric counts; raises NoMetrics if none does."""
    if not pods:
        raise NoMetrics(_NO_PODS)
    found = _Groups({}, 0, [], [])
    left = dict(usage)
    for pod in pods:
        name = name_of(pod)
        if is_deleted(pod) or phase(pod) == "Failed":
            left.pop(name, None)
        elif phase(pod) == "Pending":
            left.pop(name, None)
            found.unready.append(name)
        elif name not in usage:
            found.missing.append(name)
        elif cpu and _is_starting(pod, usage[name], now):
            left.pop(name, None)
            found.unready.append(name)
        else:
            found.ready_count += 1
    found.ready = {name: sample.value for name, sample in left.items()}
    if not found.ready:
        raise NoMetrics(_UNMEASURED)
    return found


def _is_starting(pod: Obj, sample: Sample, now: datetime) -> bool:
    """Tells whether a pod's cpu usage is still that of its start."""
    status = pod.get("status") or {}
    ready = find(status.get("conditions"), "Ready")
    if ready is None or not status.get("startTime"):
        return True
    started = parse_rfc3339(status["startTime"])
    changed = parse_rfc3339(ready.get("lastTransitionTime") or metadata(pod)["creationTimestamp"])
    unready = ready.get("status") == "False"
    if (now - started).total_seconds() < CPU_INITIALIZATION_SECONDS:
        whole = changed + timedelta(seconds=sample.window_seconds)
        return unready or (sample.at is not None and sample.at < whole)
    return unready and (changed - started).total_seconds() < READINESS_DELAY_SECONDS


# ---------------------------------------------------------------- replicas


def by_utilization(
    current: int,
    target_percent: int,
    pods: Sequence[Obj],
    usage: Mapping[str, Sample],
    requests: Callable[[], Mapping[str, int]],
    *,
    cpu: bool,
    now: datetime,
    tolerances: Tolerances = DEFAULT_TOLERANCES,
) -> tuple[int, int, int]:
    """Returns (replicas, utilization in percent, average value) for a target share of requests; raises NoMetrics.

    `usage` and what `requests` returns are by pod name.
    """
    groups = _group(pods, usage, cpu, now)
    requested = requests()

    def utilization(values: Mapping[str, int]) -> tuple[float, int, int]:
        known = [name for name in values if name in requested]
        total = sum(requested[name] for name in known)
        if not total:
            raise NoMetrics("no metrics returned matched known pods")
        used = sum(values[name] for name in known)
        percent = used * 100 // total
        return percent / target_percent, percent, used // len(known)

    ratio, percent, average = utilization(groups.ready)
    fallback = {name: requested.get(name, 0) * max(100, target_percent) // 100 for name in groups.missing}
    replicas = _replicas(current, ratio, groups, fallback, lambda values: utilization(values)[0], tolerances)
    return replicas, percent, average


def by_value(
    current: int,
    target: int,
    pods: Sequence[Obj],
    usage: Mapping[str, Sample],
    *,
    cpu: bool,
    now: datetime,
    tolerances: Tolerances = DEFAULT_TOLERANCES,
) -> tuple[int, int]:
    """Returns (replicas, average value) for a target average per pod; raises NoMetrics."""
    groups = _group(pods, usage, cpu, now)

    def ratio_of(values: Mapping[str, int]) -> float:
        return sum(values.values()) // len(values) / target

    average = sum(groups.ready.values()) // len(groups.ready)
    fallback = dict.fromkeys(groups.missing, target)
    return _replicas(current, ratio_of(groups.ready), groups, fallback, ratio_of, tolerances), average


def _replicas(
    current: int,
    ratio: float,
    groups: _Groups,
    fallback: Mapping[str, int],
    ratio_of: Callable[[Mapping[str, int]], float],
    tolerances: Tolerances,
) -> int:
    """Returns the replicas for a ratio of use to target, corrected for pods of which nothing is known."""
    grows_with_unready = bool(groups.unready) and ratio > 1
    if not groups.missing and not grows_with_unready:
        return current if tolerances.admit(ratio) else math.ceil(ratio * groups.ready_count)
    values = dict(groups.ready)
    if groups.missing and ratio != 1:
        values |= fallback if ratio < 1 else dict.fromkeys(groups.missing, 0)
    if grows_with_unready:
        values |= dict.fromkeys(groups.unready, 0)
    corrected = ratio_of(values)
    turned = (ratio < 1 < corrected) or (corrected < 1 < ratio)
    if tolerances.admit(corrected) or turned:
        return current
    wanted = math.ceil(corrected * len(values))
    if (corrected < 1 and wanted > current) or (corrected > 1 and wanted < current):
        return current
    return wanted


def by_whole(
    current: int, target: int, total: int, pods: Sequence[Obj], tolerances: Tolerances = DEFAULT_TOLERANCES
) -> int:
    """Returns the replicas for one value that all pods together bring to its target."""
    ratio = total / target
    if current == 0:
        return math.ceil(ratio)
    if tolerances.admit(ratio):
        return current
    if not pods:
        raise NoMetrics("unable to calculate ready pods: no pods returned by selector while calculating ready pods")
    ready = sum(phase(pod) == "Running" and is_ready(pod) for pod in pods)
    return math.ceil(ratio * ready)


def by_share(
    replicas: int, target: int, total: int, tolerances: Tolerances = DEFAULT_TOLERANCES
) -> tuple[int, int | None]:
    """Returns (replicas, average) for one value that is divided among `replicas`, those that there are.

    Without any, the average is None.
    """
    if not replicas:
        return math.ceil(total / target), None
    wanted = replicas if tolerances.admit(total / (target * replicas)) else math.ceil(total / target)
    return wanted, math.ceil(total / replicas)


def requested(pods: Sequence[Obj], resource: str, container: str) -> dict[str, int]:
    """Returns what pods (or one container of each) request of a resource, in milli-units; raises NoMetrics."""
    return {name_of(pod): _requested(pod, resource, container) for pod in pods}


def _requested(pod: Obj, resource: str, container: str) -> int:
    spec = pod.get("spec") or {}
    of_pod = (spec.get("resources") or {}).get("requests")
    if of_pod and not container:
        if resource not in of_pod:
            raise NoMetrics(f"missing pod-level request for {resource} in Pod {name_of(pod)}")
        return parse(of_pod[resource]).milli_value
    sidecars = [one for one in spec.get("initContainers") or () if one.get("restartPolicy") == "Always"]
    total = 0
    for one in [*(spec.get("containers") or ()), *sidecars]:
        if container and one.get("name") != container:
            continue
        given = ((one.get("resources") or {}).get("requests") or {}).get(resource)
        if given is None:
            raise NoMetrics(f"missing request for {resource} in container {one.get('name')} of Pod {name_of(pod)}")
        total += parse(given).milli_value
        if container:
            return total
    if container:
        raise NoMetrics(f"container {container} not found in Pod {name_of(pod)}")
    return total
