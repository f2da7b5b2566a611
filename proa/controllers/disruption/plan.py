"""The status of a disruption budget (pure). Follows upstream's disruption controller."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from proa.controllers.conditions import condition, find, with_condition
from proa.controllers.numbers import scaled
from proa.controllers.pods import is_finished, is_ready
from proa.meta.objects import Obj, is_deleted, metadata, name_of
from proa.util.clock import parse_rfc3339

# How long an eviction that was allowed may take to show as a deletion.
DELETION_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Counts:
    """`expected` pods and how many of them must be healthy (`desired`)."""

    expected: int
    desired: int


def needs_scale(budget: Obj) -> bool:
    """Tells whether the count depends on the size that the pods' controllers are set to."""
    spec = budget["spec"]
    return spec.get("maxUnavailable") is not None or not isinstance(spec.get("minAvailable", 1), int)


def counts(budget: Obj, pods: int, scale: int) -> Counts:
    """`scale`: the sum of the sizes of the pods' controllers (see `needs_scale`)."""
    spec = budget["spec"]
    if spec.get("maxUnavailable") is not None:
        unavailable = scaled(spec["maxUnavailable"], scale, round_up=True)
        return Counts(scale, max(0, scale - unavailable))
    least = spec.get("minAvailable")
    if least is None:
        least = 1
    if isinstance(least, int):
        return Counts(pods, least)
    return Counts(scale, scaled(least, scale, round_up=True))


def status(budget: Obj, pods: Sequence[Obj], scale: int, now: datetime) -> tuple[Obj | None, float | None]:
    """Returns the status to write (None if it is right), and when an eviction that never happened is forgotten."""
    old = budget.get("status") or {}
    present = [pod for pod in pods if not is_finished(pod)]
    disrupted, recheck_seconds = _disrupted(old.get("disruptedPods") or {}, present, now)
    healthy = sum(is_ready(pod) and not is_deleted(pod) and name_of(pod) not in disrupted for pod in present)
    wanted = counts(budget, len(present), scale)
    allowed = max(0, healthy - wanted.desired) if wanted.expected > 0 else 0
    new: Obj = {
        "observedGeneration": metadata(budget).get("generation") or 0,
        "disruptionsAllowed": allowed,
        "currentHealthy": healthy,
        "desiredHealthy": wanted.desired,
        "expectedPods": wanted.expected,
    }
    if disrupted:
        new["disruptedPods"] = disrupted
    state = ("True", "SufficientPods") if allowed else ("False", "InsufficientPods")
    made = condition("DisruptionAllowed", *state, "", now)
    made |= {"message": "", "observedGeneration": new["observedGeneration"]}
    new["conditions"] = _conditions(old.get("conditions"), made)
    return (None if new == old else new), recheck_seconds


def failed(budget: Obj, why: str, now: datetime) -> Obj:
    """Returns the status of a budget that could not be computed: nothing may be evicted."""
    old = budget.get("status") or {}
    made = condition("DisruptionAllowed", "False", "SyncFailed", why, now)
    made["observedGeneration"] = metadata(budget).get("generation") or 0
    zeros = dict.fromkeys(("currentHealthy", "desiredHealthy", "expectedPods"), 0)
    return {**zeros, **old, "disruptionsAllowed": 0, "conditions": _conditions(old.get("conditions"), made)}


def _conditions(old: Sequence[Obj] | None, made: Obj) -> list[Obj]:
    listed = with_condition(old, made)
    generation = made["observedGeneration"]
    return [{**one, "observedGeneration": generation} if one["type"] == made["type"] else one for one in listed]


def seconds_to_stale(pod: Obj, now: datetime) -> float | None:
    """Returns how long a pod's condition DisruptionTarget holds without a deletion; None if it does not end that way.

    What the kubelet says stays: it may take its time to end a pod.
    """
    status = pod.get("status") or {}
    found = find(status.get("conditions"), "DisruptionTarget")
    if found is None or found.get("status") != "True" or is_deleted(pod) or is_finished(pod):
        return None
    if found.get("reason") == "TerminationByKubelet" or not found.get("lastTransitionTime"):
        return None
    return DELETION_SECONDS - (now - parse_rfc3339(found["lastTransitionTime"])).total_seconds()


def kept(budget: Obj, pods: Sequence[Obj], now: datetime) -> list[Obj]:
    """Returns pods that an eviction was allowed for, and that nobody has deleted in time."""
    noted = (budget.get("status") or {}).get("disruptedPods") or {}
    return [
        pod
        for pod in pods
        if name_of(pod) in noted
        and not is_deleted(pod)
        and (now - parse_rfc3339(noted[name_of(pod)])).total_seconds() >= DELETION_SECONDS
    ]


def _disrupted(noted: Mapping[str, str], pods: Sequence[Obj], now: datetime) -> tuple[dict[str, str], float | None]:
    """Returns the evictions that were allowed and have not shown yet."""
    found: dict[str, str] = {}
    waits = []
    for pod in pods:
        stamp = noted.get(name_of(pod))
        if stamp is None or is_deleted(pod):
            continue
        left = DELETION_SECONDS - (now - parse_rfc3339(stamp)).total_seconds()
        if left > 0:
            found[name_of(pod)] = stamp
            waits.append(left)
    return found, min(waits, default=None)
