"""Preemption: which pods of lower priority make room for one that fits nowhere. Pure.

Follows upstream's DefaultPreemption: on each node where it could help, remove all pods of lower priority, then take
back as many as still fit (those protected by a PodDisruptionBudget first, then by priority); among the nodes choose
the one with the fewest budget violations, then the lowest highest victim, the lowest sum, the fewest, the youngest.

Nodes that lack nothing but resources, and on which no budget can be violated, are worked out all at once in arrays
(`tiers.py`); the others one by one, by asking the filters.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from proa.meta.objects import Obj, labels_of, metadata, namespace_of
from proa.meta.selectors import from_object
from proa.scheduler.columns import Columns, Ints, Mask
from proa.scheduler.cycle import Unplaced, available, counted, filter_rows, finish
from proa.scheduler.extender import Ask, asking_preemption
from proa.scheduler.framework import Profile
from proa.scheduler.plugins.resources import NodeResourcesFit
from proa.scheduler.pod import PodInfo, Selection
from proa.scheduler.tiers import Evictions, Tiers, by_resources, importance, short_without, started

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
    """Returns the best preemption, or why there is none (for the pod's message); for profiles without extenders."""
    return finish(preempting(pod, columns, profile, failed, budgets, seed))  # type: ignore[no-any-return]


def preempting(
    pod: PodInfo, columns: Columns, profile: Profile, failed: Unplaced, budgets: Sequence[Obj], seed: int
) -> Generator[Ask, Any, Preemption | str]:
    """As `preempt`; yields questions to extenders. Raises ExtenderError."""
    if (pod.obj.get("spec") or {}).get("preemptionPolicy") == "Never":
        return "not eligible due to preemptionPolicy=Never."
    if _is_waiting_for_victims(pod, columns, failed):
        return "not eligible due to a terminating pod on the nominated node."
    rows = np.unique(failed.curable)
    if len(rows):
        rows = np.roll(rows, -(seed % len(rows)))
    nodes = len(columns.row_of)
    limit = min(max(profile.candidates_min, nodes * profile.candidates_percentage // 100), max(nodes, 1))
    easy, hard = _sorted_out(pod, columns, profile, rows, budgets)
    found = _cheapest(pod, columns, profile, easy, limit, everything=bool(profile.extenders))
    outcome = Unplaced(failed.nodes)
    for tried, row in enumerate(hard):
        if len(found) >= limit or (found and tried >= profile.candidates_min):
            break
        candidate = _victims(pod, columns, profile, int(row), budgets, outcome)
        if candidate is not None:
            found.append(candidate)
    if found and profile.extenders:
        found = yield from asking_preemption(pod, profile.extenders, found)
    if found:
        return min(found, key=_cost)
    reasons = outcome.reasons + _why_not(pod, columns, profile, easy)
    reasons[NOT_HELPFUL] += failed.nodes - len(rows)
    return f"{available(failed.nodes)}: {counted(+reasons)}."


def _why_not(pod: PodInfo, columns: Columns, profile: Profile, rows: Ints) -> Counter[str]:
    """Returns why none of the rows that lack resources only can be helped."""
    fit = _fit_of(profile)
    if fit is None or not len(rows):
        return Counter()
    nobody, short = short_without(Tiers.of(columns), rows, pod.priority, fit.wanted(pod, columns))
    return Counter({NO_VICTIMS: nobody, **short})


def _is_waiting_for_victims(pod: PodInfo, columns: Columns, failed: Unplaced) -> bool:
    """Tells whether pods that were told to make room for this one are still on their way out, on a node that they would
    help."""
    row = columns.row_of.get(pod.nominated_node)
    return (
        row is not None
        and row in failed.curable
        and any(
            other.terminating and other.priority < pod.priority and _is_preempted(other.obj)
            for other in columns.pods[row].values()
        )
    )


def _is_preempted(pod: Obj) -> bool:
    return any(
        one.get("type") == "DisruptionTarget"
        and one.get("status") == "True"
        and one.get("reason") == "PreemptionByScheduler"
        for one in (pod.get("status") or {}).get("conditions") or ()
    )


# ---------------------------------------------------------------- all nodes at once


def _fit_of(profile: Profile) -> NodeResourcesFit | None:
    return next((one for one in profile.filters if isinstance(one, NodeResourcesFit)), None)


def _sorted_out(
    pod: PodInfo, columns: Columns, profile: Profile, rows: Ints, budgets: Sequence[Obj]
) -> tuple[Ints, Ints]:
    """Splits rows into those that lack resources only and those to be looked at one by one."""
    fit = _fit_of(profile)
    if fit is None or pod.affinity or not len(rows) or fit.served(pod, columns):
        return rows[:0], rows
    others = [one for one in profile.filters if one is not fit]
    good = np.zeros(columns.capacity, dtype=bool)
    good[filter_rows(pod, columns, others, rows)] = True
    good &= ~_may_violate(columns, budgets)
    return rows[good[rows]], rows[~good[rows]]


def _may_violate(columns: Columns, budgets: Sequence[Obj]) -> Mask:
    """Returns the rows with more pods of one budget than it lets go."""
    mask = np.zeros(columns.capacity, dtype=bool)
    for budget in budgets:
        selector = (budget.get("spec") or {}).get("selector")
        if selector:
            allowed = (budget.get("status") or {}).get("disruptionsAllowed") or 0
            mask |= columns.matching(Selection(selector, (namespace_of(budget),))) > allowed
    return mask


def _cheapest(
    pod: PodInfo, columns: Columns, profile: Profile, rows: Ints, limit: int, *, everything: bool
) -> list[Preemption]:
    """Returns the best of the first `limit` candidates among rows that lack resources only (or all of them)."""
    fit = _fit_of(profile)
    if fit is None or not len(rows):
        return []
    wanted = [(number, amount) for number, amount, _ in fit.wanted(pod, columns)]
    tiers = Tiers.of(columns)
    parts: list[Evictions] = []
    found = 0
    for start in range(0, len(rows), limit):
        part = by_resources(tiers, rows[start : start + limit], pod.priority, wanted)
        parts.append(part)
        found += len(part.rows)
        if found >= limit:
            break
    if not found:
        return []
    width = max(part.victims.shape[1] for part in parts)
    all_victims = np.vstack([np.pad(part.victims, ((0, 0), (0, width - part.victims.shape[1]))) for part in parts])
    evictions = Evictions(np.concatenate([part.rows for part in parts]), all_victims)
    order: Any = range(found) if everything else np.lexsort(tuple(reversed(evictions.costs(tiers))))[:1]
    return [
        Preemption(
            columns.names[evictions.rows[at]],
            tuple(tiers.pods[evictions.rows[at]][slot] for slot in np.flatnonzero(evictions.victims[at])),
            0,
        )
        for at in order
    ]


# ---------------------------------------------------------------- one node at a time


def _victims(
    pod: PodInfo, columns: Columns, profile: Profile, row: int, budgets: Sequence[Obj], outcome: Unplaced
) -> Preemption | None:
    """Returns what would make room on a row; if nothing does, `outcome` counts why."""
    lower = [one for one in columns.pods[row].values() if one.priority < pod.priority]
    if not lower:
        outcome.reasons[NO_VICTIMS] += 1
        return None
    rows = np.array([row], dtype=np.int64)
    for one in lower:
        columns.remove_pod(one.key)
    kept: set[str] = set()
    victims: list[PodInfo] = []
    violations = 0
    try:
        if not len(filter_rows(pod, columns, profile.filters, rows, outcome)):
            return None
        lower.sort(key=importance)
        protected = _protected(lower, budgets)
        for one in sorted(lower, key=lambda other: other.key not in protected):
            columns.add_pod(one)
            kept.add(one.key)
            if not len(filter_rows(pod, columns, profile.filters, rows)):
                columns.remove_pod(one.key)
                kept.discard(one.key)
                victims.append(one)
                violations += one.key in protected
    finally:
        for one in lower:
            if one.key not in kept:
                columns.add_pod(one)
    return Preemption(columns.names[row], tuple(sorted(victims, key=importance)), violations) if victims else None


def _cost(candidate: Preemption) -> tuple[int, int, int, int, list[int]]:
    victims = candidate.victims
    highest = max(one.priority for one in victims)
    # Among equals, the node whose most important victims started last.
    latest = min(started(one) for one in victims if one.priority == highest)
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
