"""Preemption: which pods of lower priority make room for one that fits nowhere. Pure.

Follows upstream's DefaultPreemption: on each node where it could help, remove all pods of lower priority, then take
back as many as still fit (those protected by a PodDisruptionBudget first, then by priority); among the nodes choose
the one with the fewest budget violations, then the lowest highest victim, the lowest sum, the fewest, the youngest.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from proa.meta.objects import Obj, labels_of, metadata, namespace_of
from proa.meta.selectors import from_object
from proa.scheduler.columns import Columns
from proa.scheduler.cycle import Unplaced, available, counted, filter_rows
from proa.scheduler.framework import Profile
from proa.scheduler.pod import PodInfo

CANDIDATES_MIN = 100
NO_VICTIMS = "No preemption victims found for incoming pod"
NOT_HELPFUL = "Preemption is not helpful for scheduling"


@dataclass(frozen=True, slots=True)
class Preemption:
    """The pod is to wait for `victims` (most important first) to leave `node`."""

    node: str
    victims: tuple[PodInfo, ...]
    violations: int


def preempt(
    pod: PodInfo, columns: Columns, profile: Profile, failed: Unplaced, budgets: Sequence[Obj], seed: int
) -> Preemption | str:
    """Returns the best preemption, or why there is none (for the pod's message)."""
    if (pod.obj.get("spec") or {}).get("preemptionPolicy") == "Never":
        return "not eligible due to preemptionPolicy=Never."
    waiting = columns.row_of.get(pod.nominated_node)
    if waiting is not None and any(
        other.terminating and other.priority < pod.priority for other in columns.pods[waiting].values()
    ):
        return "not eligible due to a terminating pod on the nominated node."
    rows = failed.curable
    limit = max(CANDIDATES_MIN, len(columns.row_of) // 10)
    found = []
    fruitless = 0
    for row in np.roll(rows, -(seed % len(rows))) if len(rows) else rows:
        candidate = _victims(pod, columns, profile, int(row), budgets)
        if candidate is None:
            fruitless += 1
        else:
            found.append(candidate)
            if len(found) >= limit:
                break
    if found:
        return min(found, key=_cost)
    reasons = Counter({NOT_HELPFUL: failed.nodes - len(rows), NO_VICTIMS: fruitless})
    return f"{available(failed.nodes)}: {counted(+reasons)}."


def _victims(pod: PodInfo, columns: Columns, profile: Profile, row: int, budgets: Sequence[Obj]) -> Preemption | None:
    lower = [one for one in columns.pods[row].values() if one.priority < pod.priority]
    if not lower:
        return None
    rows = np.array([row], dtype=np.int64)
    for one in lower:
        columns.remove_pod(one.key)
    kept: set[str] = set()
    victims: list[PodInfo] = []
    violations = 0
    try:
        if not len(filter_rows(pod, columns, profile.plugins, rows)):
            return None
        lower.sort(key=_importance)
        protected = _protected(lower, budgets)
        for one in sorted(lower, key=lambda other: other.key not in protected):
            columns.add_pod(one)
            kept.add(one.key)
            if not len(filter_rows(pod, columns, profile.plugins, rows)):
                columns.remove_pod(one.key)
                kept.discard(one.key)
                victims.append(one)
                violations += one.key in protected
    finally:
        for one in lower:
            if one.key not in kept:
                columns.add_pod(one)
    return Preemption(columns.names[row], tuple(sorted(victims, key=_importance)), violations) if victims else None


def _importance(pod: PodInfo) -> tuple[int, str]:
    """Sorts the most important first: higher priority, then the longer running."""
    return -pod.priority, _started(pod)


def _started(pod: PodInfo) -> str:
    return (pod.obj.get("status") or {}).get("startTime") or metadata(pod.obj).get("creationTimestamp") or ""


def _cost(candidate: Preemption) -> tuple[int, int, int, int, list[int]]:
    victims = candidate.victims
    highest = max(one.priority for one in victims)
    # Among equals, the node whose most important victims started last.
    latest = min(_started(one) for one in victims if one.priority == highest)
    return (
        candidate.violations,
        highest,
        sum(one.priority + 2**31 for one in victims),
        len(victims),
        [-ord(letter) for letter in latest],
    )


def _protected(pods: Sequence[PodInfo], budgets: Sequence[Obj]) -> set[str]:
    """Returns the keys of pods whose eviction would exceed a budget's `disruptionsAllowed`, the first ones spared."""
    protected: set[str] = set()
    for budget in budgets:
        selector = (budget.get("spec") or {}).get("selector")
        if not selector:
            continue
        status = budget.get("status") or {}
        allowed = status.get("disruptionsAllowed") or 0
        already = status.get("disruptedPods") or {}
        matches = from_object(selector).matches
        for pod in pods:
            name = metadata(pod.obj).get("name")
            if namespace_of(budget) != pod.namespace or not matches(labels_of(pod.obj)) or name in already:
                continue
            allowed -= 1
            if allowed < 0:
                protected.add(pod.key)
    return protected
