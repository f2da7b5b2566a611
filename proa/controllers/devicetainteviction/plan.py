"""When a pod has to leave because of its devices' taints (pure). Follows upstream's device taint eviction."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timedelta

from proa.meta.objects import Obj, uid_of
from proa.util.clock import parse_rfc3339

# (driver, pool, device) -> its taints.
Taints = Callable[[str, str, str], Iterable[Obj]]


def evict_at(pod: Obj, claims: Iterable[Obj], taints_of: Taints, first_seen: datetime) -> datetime | None:
    """Returns when the pod must go, None if it may stay.

    `claims` are those that may be reserved for it. A taint that does not say since when it is there counts from
    `first_seen`.
    """
    times = [
        time
        for claim in claims
        if any(one.get("uid") == uid_of(pod) for one in (claim.get("status") or {}).get("reservedFor") or ())
        for result in results_of(claim)
        for taint in taints_of(result["driver"], result["pool"], result["device"])
        if (time := _end_of_stay(taint, result.get("tolerations") or (), first_seen)) is not None
    ]
    return min(times, default=None)


def results_of(claim: Obj) -> Iterator[Obj]:
    """Yields the devices that were allocated to a claim."""
    allocation = (claim.get("status") or {}).get("allocation") or {}
    yield from (allocation.get("devices") or {}).get("results") or ()


def _end_of_stay(taint: Obj, tolerations: Iterable[Obj], first_seen: datetime) -> datetime | None:
    if taint.get("effect") != "NoExecute":
        return None
    since = parse_rfc3339(taint["timeAdded"]) if taint.get("timeAdded") else first_seen
    used = [one for one in tolerations if _tolerates(one, taint)]
    if not used:
        return since
    ends = [max(0, one["tolerationSeconds"]) for one in used if one.get("tolerationSeconds") is not None]
    return since + timedelta(seconds=min(ends)) if ends else None


def _tolerates(toleration: Obj, taint: Obj) -> bool:
    if toleration.get("effect") and toleration["effect"] != taint.get("effect"):
        return False
    if toleration.get("key") and toleration["key"] != taint.get("key"):
        return False
    if toleration.get("operator") == "Exists":
        return True
    return (toleration.get("value") or "") == (taint.get("value") or "")
