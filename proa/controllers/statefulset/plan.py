"""The next step of a StatefulSet (pure). Follows upstream's stateful set control.

With OrderedReady each step waits for the one before: pods start from the lowest ordinal and stop from the highest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from proa.controllers.numbers import scaled
from proa.controllers.pods import is_ready, phase, seconds_to_available
from proa.controllers.revisions import HASH_LABEL
from proa.controllers.statefulset.identity import first_ordinal, has_identity, ordinal_of, replicas
from proa.meta.objects import Obj, is_deleted, labels_of, metadata


@dataclass(frozen=True, slots=True)
class NewPod:
    """A pod to create, by the update revision or by the current one."""

    ordinal: int
    updated: bool


@dataclass(frozen=True, slots=True)
class Plan:
    """`delete` and `create` pods, `mend` the identity of others, write the `status` (None: it is right)."""

    create: tuple[NewPod, ...] = ()
    delete: tuple[Obj, ...] = ()
    mend: tuple[Obj, ...] = ()
    status: Obj | None = None
    recheck_seconds: float | None = None


@dataclass(slots=True)
class _Steps:
    create: list[NewPod] = field(default_factory=list)
    delete: list[Obj] = field(default_factory=list)
    mend: list[Obj] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)


def strategy(stateful_set: Obj) -> str:
    return str((stateful_set["spec"].get("updateStrategy") or {}).get("type") or "RollingUpdate")


def _rolling(stateful_set: Obj) -> Obj:
    return (stateful_set["spec"].get("updateStrategy") or {}).get("rollingUpdate") or {}


def _partition(stateful_set: Obj) -> int:
    return int(_rolling(stateful_set).get("partition") or 0)


def _is_running(pod: Obj) -> bool:
    return phase(pod) == "Running" and is_ready(pod)


def _is_healthy(pod: Obj) -> bool:
    return _is_running(pod) and not is_deleted(pod)


def condemned(stateful_set: Obj, pods: Sequence[Obj]) -> list[Obj]:
    """Returns the pods that must go, highest ordinal first."""
    low, high = first_ordinal(stateful_set), first_ordinal(stateful_set) + replicas(stateful_set)
    listed = [pod for pod in pods if not low <= ordinal_of(stateful_set, pod) < high]
    return sorted(listed, key=lambda pod: ordinal_of(stateful_set, pod), reverse=True)


def plan(
    stateful_set: Obj, pods: Sequence[Obj], current: str, update: str, collisions: int | None, now: datetime
) -> Plan:
    """`pods`: those the set controls. `current` and `update`: names of the revisions it moves from and to."""
    pods = [pod for pod in pods if ordinal_of(stateful_set, pod) >= 0]
    steps = _Steps()
    if not is_deleted(stateful_set):
        _scale(stateful_set, pods, current, update, steps, now)
    status = _status(stateful_set, pods, current, update, collisions, now)
    return Plan(tuple(steps.create), tuple(steps.delete), tuple(steps.mend), status, min(steps.waits, default=None))


def _scale(stateful_set: Obj, pods: Sequence[Obj], current: str, update: str, steps: _Steps, now: datetime) -> None:
    ordered = stateful_set["spec"].get("podManagementPolicy", "OrderedReady") == "OrderedReady"
    by_ordinal = {ordinal_of(stateful_set, pod): pod for pod in pods}
    low = first_ordinal(stateful_set)
    wanted = range(low, low + replicas(stateful_set))
    for ordinal in wanted:
        if not _keep_replica(stateful_set, by_ordinal.get(ordinal), ordinal, ordered, current, update, steps, now):
            return
    surplus = condemned(stateful_set, pods)
    unhealthy = [pod for pod in [*by_ordinal.values()] if not _is_healthy(pod)]
    first_unhealthy = min(unhealthy, key=lambda pod: ordinal_of(stateful_set, pod), default=None)
    for pod in surplus:
        if is_deleted(pod):
            if ordered:
                return
            continue
        if ordered and not _is_running(pod) and pod is not first_unhealthy:
            return
        steps.delete.append(pod)
        if ordered:
            return
    if strategy(stateful_set) == "RollingUpdate":
        _roll(stateful_set, [by_ordinal[one] for one in wanted if one in by_ordinal], update, steps, now)


def _keep_replica(
    stateful_set: Obj,
    pod: Obj | None,
    ordinal: int,
    ordered: bool,
    current: str,
    update: str,
    steps: _Steps,
    now: datetime,
) -> bool:
    """Sees to one ordinal; returns whether the next one's turn has come."""
    if pod is None:
        steps.create.append(NewPod(ordinal, current == update or not _needs_current(stateful_set, ordinal)))
        return not ordered
    if phase(pod) in ("Failed", "Succeeded"):
        if not is_deleted(pod):
            steps.delete.append(pod)
        return not ordered
    if ordered and is_deleted(pod):
        return False
    if not has_identity(stateful_set, pod) and not is_deleted(pod):
        steps.mend.append(pod)
    if ordered and not _is_running(pod):
        return False
    left = seconds_to_available(pod, stateful_set["spec"].get("minReadySeconds") or 0, now)
    if left:
        steps.waits.append(left)
    return not ordered or left == 0


def _needs_current(stateful_set: Obj, ordinal: int) -> bool:
    """Tells whether a pod that has to be made during an update still belongs to the revision before it."""
    if strategy(stateful_set) != "RollingUpdate":
        return False
    low, partition = first_ordinal(stateful_set), _rolling(stateful_set).get("partition")
    if partition is None:
        return ordinal < low + int((stateful_set.get("status") or {}).get("currentReplicas") or 0)
    return ordinal < low + int(partition)


def _roll(stateful_set: Obj, pods: Sequence[Obj], update: str, steps: _Steps, now: datetime) -> None:
    """Replaces pods of older revisions from the highest ordinal, no more at once than may be unavailable."""
    low = first_ordinal(stateful_set)
    most = max(
        1, scaled(_rolling(stateful_set).get("maxUnavailable"), replicas(stateful_set), round_up=True, default=1)
    )
    min_ready_seconds = stateful_set["spec"].get("minReadySeconds") or 0
    unavailable = sum(
        is_deleted(pod) or seconds_to_available(pod, min_ready_seconds, now) != 0 or phase(pod) != "Running"
        for pod in pods
    )
    for pod in reversed(pods):
        if ordinal_of(stateful_set, pod) < low + _partition(stateful_set):
            return
        old = labels_of(pod).get(HASH_LABEL) != update
        healthy = _is_healthy(pod) and seconds_to_available(pod, min_ready_seconds, now) == 0
        if old and not is_deleted(pod):
            if healthy and unavailable >= most:
                return
            steps.delete.append(pod)
            unavailable += healthy
            if most == 1:
                return
        elif not healthy and most == 1:
            return


def _status(
    stateful_set: Obj, pods: Sequence[Obj], current: str, update: str, collisions: int | None, now: datetime
) -> Obj | None:
    old = stateful_set.get("status") or {}
    min_ready_seconds = stateful_set["spec"].get("minReadySeconds") or 0
    present = [pod for pod in pods if not is_deleted(pod)]
    ready = [pod for pod in pods if _is_running(pod)]
    updated = sum(labels_of(pod).get(HASH_LABEL) == update for pod in present)
    new: Obj = {
        "replicas": len(pods),
        "readyReplicas": len(ready),
        "availableReplicas": sum(seconds_to_available(pod, min_ready_seconds, now) == 0 for pod in ready),
        "currentReplicas": sum(labels_of(pod).get(HASH_LABEL) == current for pod in present),
        "updatedReplicas": updated,
    }
    complete = updated == new["replicas"] == new["readyReplicas"] == replicas(stateful_set)
    if strategy(stateful_set) == "RollingUpdate" and complete and current != update:
        new["currentReplicas"], current = updated, update
    shown = {"replicas", "availableReplicas"}
    new = {key: value for key, value in new.items() if value or key in shown}
    new |= {"currentRevision": current, "updateRevision": update, "collisionCount": collisions or 0}
    if metadata(stateful_set).get("generation"):
        new["observedGeneration"] = metadata(stateful_set)["generation"]
    if old.get("conditions"):
        new["conditions"] = old["conditions"]
    return None if new == old else new


def in_use(pods: Sequence[Obj], current: str, update: str) -> set[str]:
    """Returns the names of the revisions that must be kept."""
    return {current, update, *(labels_of(pod).get(HASH_LABEL, "") for pod in pods)}
