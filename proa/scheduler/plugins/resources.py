"""Resources: NodeResourcesFit with its scoring strategies, and NodeResourcesBalancedAllocation.

Arguments are upstream's NodeResourcesFitArgs and NodeResourcesBalancedAllocationArgs.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from proa.apis.pod_resources import amounts
from proa.meta.objects import Obj
from proa.scheduler.columns import CPU, MEMORY, PODS, Columns, Ints, span
from proa.scheduler.framework import SCORE_MAX, Event, Happening, Plugin, Rejection
from proa.scheduler.pod import PodInfo

DEFAULT_RESOURCES = (("cpu", 1), ("memory", 1))
_NATIVE = ("cpu", "memory", "ephemeral-storage", "pods")
UTILIZATION_MAX = 100
SHAPE_SCORE_MAX = 10


def _is_scalar(name: str) -> bool:
    return name not in _NATIVE


class NodeResourcesFit(Plugin):
    """Refuses nodes without room; prefers nodes by one of three strategies.

    `strategy` is LeastAllocated, MostAllocated or RequestedToCapacityRatio (then `shape` holds pairs of utilization, 0
    to 100, and score, 0 to 10). `ignored` resources, and those of `ignored_groups`, are not checked.
    """

    name = "NodeResourcesFit"
    wakes = (
        Happening.NODE_ADD | Happening.NODE_ALLOCATABLE | Happening.POD_DELETE | Happening.POD_UPDATE | Happening.DEVICE
    )

    def __init__(
        self,
        strategy: str = "LeastAllocated",
        resources: Sequence[tuple[str, int]] = DEFAULT_RESOURCES,
        shape: Sequence[tuple[int, int]] = (),
        ignored: Iterable[str] = (),
        ignored_groups: Iterable[str] = (),
    ) -> None:
        self.strategy = strategy
        self._resources = tuple(resources)
        self._shape = tuple(shape)
        self._ignored = frozenset(ignored)
        self._ignored_groups = frozenset(ignored_groups)

    def _is_ignored(self, name: str) -> bool:
        return name in self._ignored or ("/" in name and name.partition("/")[0] in self._ignored_groups)

    def wanted(self, pod: PodInfo, columns: Columns) -> list[tuple[int, int, str]]:
        """Returns what is checked: (column, amount, text of the rejection)."""
        wanted = [(PODS, 1, "Too many pods")]
        for name, amount in pod.requests.items():
            if not (self._ignored or self._ignored_groups) or not self._is_ignored(name):
                wanted.append((columns.resource(name), amount, f"Insufficient {name}"))
        return wanted

    def served(self, pod: PodInfo, columns: Columns) -> set[int]:
        """Returns the columns of resources that devices serve where the node itself has none."""
        served_by = columns.devices.served_by if any("/" in name for name in pod.requests) else {}
        return {columns.resource(name) for name in pod.requests if name in served_by}

    def filter(self, pod: PodInfo, columns: Columns, rows: Ints) -> list[Rejection]:
        rejections = []
        at = span(rows)
        for number, amount, text in self.wanted(pod, columns):
            allocatable = columns.allocatable[:, number][at]
            short = columns.requested[:, number][at] + amount > allocatable
            if short.any() and number > PODS and number in self.served(pod, columns):
                short &= allocatable > 0  # the other nodes may have devices for it: see DynamicResources
            if short.any():
                never = short & (allocatable < amount)
                if never.any():
                    rejections.append(Rejection(never, text, resolvable=False))
                    short &= ~never
                if short.any():
                    rejections.append(Rejection(short, text))
        return rejections

    def helps(self, pod: PodInfo, event: Event, columns: Columns) -> bool:
        if event.node is not None:
            has = amounts((event.node.get("status") or {}).get("allocatable"))
            return all(has.get(name, 0) >= amount or self._is_ignored(name) for name, amount in pod.requests.items())
        if event.pod is not None and not event.what & Happening.POD_UPDATE:
            return not pod.requests or bool(pod.requests.keys() & event.pod.requests.keys()) or _is_full(event, columns)
        if event.obj is not None:
            served = event.obj.get("kind") == "DeviceClass" and bool(self.served(pod, columns))
            return served
        return True

    def score(self, pod: PodInfo, columns: Columns, rows: Ints) -> Ints:
        total = np.zeros(len(rows), dtype=np.int64)
        weights: Any = 0  # one number as long as all rows have all resources
        at = span(rows)
        for name, weight in self._resources:
            if _is_scalar(name) and not pod.requests.get(name):
                continue
            allocatable, used = _usage(name, pod, columns, at)
            score = self._resource_score(used, allocatable)
            known = score > 0 if self.strategy == "RequestedToCapacityRatio" else allocatable > 0
            if known.all():
                total += score * weight if weight != 1 else score
                weights = weights + weight
            else:
                total += np.where(known, score * weight, 0)
                weights = weights + np.where(known, weight, 0)
        if self.strategy == "RequestedToCapacityRatio":
            means: Ints = np.rint(total / np.maximum(weights, 1)).astype(np.int64)
            return means
        shared: Ints = total // np.maximum(weights, 1)
        return shared

    def _resource_score(self, used: Ints, allocatable: Ints) -> Ints:
        divisor = np.maximum(allocatable, 1)  # a node without the resource is left out by the caller
        if self.strategy == "MostAllocated":
            return _percent(np.minimum(used, allocatable), divisor)
        if self.strategy == "RequestedToCapacityRatio":
            over = (used > allocatable) | (allocatable == 0)
            utilization = np.where(over, UTILIZATION_MAX, _percent(used, divisor))
            return _broken_line(utilization, self._shape)
        return _percent(np.maximum(allocatable - used, 0), divisor)


def _percent(part: Ints, whole: Ints) -> Ints:
    """Returns whole per cents, rounded down; floats are exact enough for amounts below 2^46, and much faster."""
    return (part * float(SCORE_MAX) / whole).astype(np.int64)


def _is_full(event: Event, columns: Columns) -> bool:
    """Tells whether the node that a pod left may have had no place for one more pod."""
    row = columns.row_of.get(event.pod.node_name, -1) if event.pod else -1
    return row < 0 or columns.requested[row, PODS] + 1 >= columns.allocatable[row, PODS]


def _usage(name: str, pod: PodInfo, columns: Columns, at: Ints | slice) -> tuple[Ints, Ints]:
    """Returns what each row has of a resource, and what would be in use with the pod; pods without requests count
    with defaults of cpu and memory."""
    number = columns.resource(name)
    allocatable = columns.allocatable[:, number][at]
    if number == CPU:
        return allocatable, columns.scored[:, 0][at] + pod.scored_cpu_milli
    if number == MEMORY:
        return allocatable, columns.scored[:, 1][at] + pod.scored_memory_bytes
    return allocatable, columns.requested[:, number][at] + pod.requests.get(name, 0)


def _broken_line(utilization: Ints, shape: Sequence[tuple[int, int]]) -> Ints:
    """Returns the score of each utilization: whole-number interpolation between the points, flat outside."""
    scale = SCORE_MAX // SHAPE_SCORE_MAX
    points = [(at, score * scale) for at, score in shape]
    result = np.full(len(utilization), points[-1][1], dtype=np.int64)
    for (low, first), (high, second) in reversed(list(pairwise(points))):
        # Division truncates towards zero, as Go's.
        step = ((second - first) * (utilization - low) / (high - low)).astype(np.int64)
        result = np.where(utilization <= high, first + step, result)
    return np.where(utilization <= points[0][0], points[0][1], result)


class NodeResourcesBalancedAllocation(Plugin):
    """Prefers nodes on which resources would be used up evenly. Silent for pods that request none of them."""

    name = "NodeResourcesBalancedAllocation"
    wakes = Happening(0)

    def __init__(self, resources: Sequence[tuple[str, int]] = DEFAULT_RESOURCES) -> None:
        self._resources = tuple(name for name, _ in resources)

    def score(self, pod: PodInfo, columns: Columns, rows: Ints) -> Ints | None:
        if not any(pod.requests.get(name) for name in self._resources):
            return None
        at = span(rows)
        complete = True
        fractions: list[Any] = []
        known: list[Any] = []
        for name in self._resources:
            if _is_scalar(name) and not pod.requests.get(name):
                continue
            number = columns.resource(name)
            allocatable = columns.allocatable[:, number][at]
            used = columns.requested[:, number][at] + pod.requests.get(name, 0)
            has = allocatable > 0
            if has.all():
                fractions.append(np.minimum(used / allocatable, 1.0))
            else:
                fractions.append(np.where(has, np.minimum(used / np.maximum(allocatable, 1), 1.0), 0.0))
                complete = False
            known.append(has)
        if len(fractions) == 2 and complete:
            deviation = np.abs(fractions[0] - fractions[1]) / 2
            return ((1 - deviation) * SCORE_MAX).astype(np.int64)  # type: ignore[no-any-return]
        values, has = np.array(fractions), np.array(known)
        count = np.maximum(has.sum(axis=0), 1)
        mean = values.sum(axis=0) / count
        deviation = np.sqrt((np.where(has, values - mean, 0.0) ** 2).sum(axis=0) / count)
        scores: Ints = ((1 - deviation) * SCORE_MAX).astype(np.int64)
        return scores


def resource_weights(entries: Iterable[Obj]) -> tuple[tuple[str, int], ...]:
    """Reads `resources` of a plugin's arguments."""
    return tuple((one["name"], one.get("weight") or 1) for one in entries)
