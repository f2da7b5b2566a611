"""Resources: NodeResourcesFit (least allocated) and NodeResourcesBalancedAllocation."""

from __future__ import annotations

import numpy as np

from proa.scheduler.columns import CPU, MEMORY, PODS, Columns, Ints
from proa.scheduler.framework import SCORE_MAX, Happening, Plugin, Rejection
from proa.scheduler.pod import PodInfo


class NodeResourcesFit(Plugin):
    """Refuses nodes without room; prefers those with the most room left of cpu and memory."""

    name = "NodeResourcesFit"
    wakes = Happening.NODE_ADD | Happening.NODE_ALLOCATABLE | Happening.POD_DELETE | Happening.POD_UPDATE

    def filter(self, pod: PodInfo, columns: Columns, rows: Ints) -> list[Rejection]:
        wanted = [(PODS, 1, "Too many pods")]
        wanted += [(columns.resource(name), amount, f"Insufficient {name}") for name, amount in pod.requests.items()]
        rejections = []
        for number, amount, text in wanted:
            allocatable = columns.allocatable[rows, number]
            short = columns.requested[rows, number] + amount > allocatable
            if short.any():
                never = short & (allocatable < amount)
                if never.any():
                    rejections.append(Rejection(never, text, resolvable=False))
                    short &= ~never
                if short.any():
                    rejections.append(Rejection(short, text))
        return rejections

    def score(self, pod: PodInfo, columns: Columns, rows: Ints) -> Ints:
        total = np.zeros(len(rows), dtype=np.int64)
        counted = np.zeros(len(rows), dtype=np.int64)
        wanted = (pod.scored_cpu_milli, pod.scored_memory_bytes)
        for number in (CPU, MEMORY):
            allocatable = columns.allocatable[rows, number]
            free = allocatable - columns.scored[rows, number] - wanted[number]
            known = allocatable > 0
            total += np.where(known & (free > 0), free * SCORE_MAX // np.maximum(allocatable, 1), 0)
            counted += known
        return total // np.maximum(counted, 1)


class NodeResourcesBalancedAllocation(Plugin):
    """Prefers nodes on which cpu and memory would be used up evenly. Silent for pods that request neither."""

    name = "NodeResourcesBalancedAllocation"
    wakes = Happening(0)

    def score(self, pod: PodInfo, columns: Columns, rows: Ints) -> Ints | None:
        if not pod.requests.get("cpu") and not pod.requests.get("memory"):
            return None
        fractions = []
        for number, name in ((CPU, "cpu"), (MEMORY, "memory")):
            allocatable = np.maximum(columns.allocatable[rows, number], 1)
            used = columns.requested[rows, number] + pod.requests.get(name, 0)
            fractions.append(np.minimum(used / allocatable, 1.0))
        deviation = np.abs(fractions[0] - fractions[1]) / 2
        scores: Ints = ((1 - deviation) * SCORE_MAX).astype(np.int64)
        return scores
