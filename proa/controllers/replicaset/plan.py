"""What a ReplicaSet needs (pure): pods to create or delete, and its status. Follows upstream's controller."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from proa.controllers.conditions import condition, find, without_condition
from proa.controllers.pods import DeletionOrder, is_active, is_finished, is_ready, seconds_to_available
from proa.controllers.tally import State
from proa.meta.objects import Obj, is_deleted, labels_of, metadata
from proa.meta.selectors import LabelSelector

BURST_MAX = 500
REPLICA_FAILURE = "ReplicaFailure"


@dataclass(frozen=True, slots=True)
class Plan:
    """`create` pods from the template; `delete` these, in order."""

    create: int = 0
    delete: tuple[Obj, ...] = ()


@dataclass(frozen=True, slots=True)
class Status:
    """The status to write (None: it is right already), and when a ready pod becomes available by age alone."""

    status: Obj | None
    recheck_seconds: float | None


def plan(
    replica_set: Obj, pods: Sequence[Obj], related_on_node: Callable[[], Mapping[str, int]], now: datetime
) -> Plan:
    """Compares the owned pods with the wanted number.

    `related_on_node` counts relatives per node, which spreads deletion; asked for only if pods are to go.
    """
    if is_deleted(replica_set):
        return Plan()
    active = [pod for pod in pods if is_active(pod)]
    missing = wanted(replica_set) - len(active)
    if missing >= 0:
        return Plan(create=min(missing, BURST_MAX))
    surplus = min(-missing, BURST_MAX)
    if -missing >= len(active):
        return Plan(delete=tuple(active[:surplus]))  # all of them go, in whichever order
    related = related_on_node()
    first = heapq.nsmallest(surplus, active, key=lambda pod: DeletionOrder(pod, related, now))
    return Plan(delete=tuple(first))


def wanted(replica_set: Obj) -> int:
    replicas = replica_set["spec"].get("replicas")
    return 1 if replicas is None else int(replicas)


@dataclass(frozen=True, slots=True)
class Counts:
    """A set's pods in numbers; `recheck_seconds`: when a ready pod becomes available by age alone."""

    active: int
    fully_labelled: int
    ready: int
    available: int
    terminating: int
    recheck_seconds: float | None = None


def count(replica_set: Obj, pods: Sequence[Obj], now: datetime) -> Counts:
    """Counts pods one by one."""
    spec = replica_set["spec"]
    labels = labels_of(spec.get("template") or {})
    min_ready_seconds = spec.get("minReadySeconds") or 0
    active = [pod for pod in pods if is_active(pod)]
    waits = [seconds_to_available(pod, min_ready_seconds, now) for pod in active]
    return Counts(
        len(active),
        sum(labels.items() <= labels_of(pod).items() for pod in active),
        sum(map(is_ready, active)),
        sum(wait == 0 for wait in waits),
        sum(is_deleted(pod) and not is_finished(pod) for pod in pods),
        min((wait for wait in waits if wait), default=None),
    )


def counted(replica_set: Obj, selector: LabelSelector, states: Mapping[State, int]) -> Counts | None:
    """Returns the counts by what was counted already; None if one must look at the pods: some are to be released, or
    count as available only after a while.
    """
    spec = replica_set["spec"]
    if spec.get("minReadySeconds") or is_deleted(replica_set):
        return None
    labels = labels_of(spec.get("template") or {}).items()
    active = full = ready = terminating = 0
    for state, number in states.items():
        own = dict(state.labels)
        if not selector.matches(own):
            return None
        if state.active:
            active += number
            full += number * (labels <= own.items())
            ready += number * state.ready
        terminating += number * state.terminating
    return Counts(active, full, ready, ready, terminating)


def status(replica_set: Obj, pods: Sequence[Obj], failure: str, now: datetime, *, terminating: bool = True) -> Status:
    """As `status_of`, of pods that are still to be counted."""
    return status_of(replica_set, count(replica_set, pods, now), failure, now, terminating=terminating)


def status_of(replica_set: Obj, counts: Counts, failure: str, now: datetime, *, terminating: bool = True) -> Status:
    """`failure` says why the last creation or deletion failed, empty if it did not.

    `terminating`: count pods that are being deleted too (ReplicationControllers do not).
    """
    new: dict[str, Any] = {
        "replicas": counts.active,
        "fullyLabeledReplicas": counts.fully_labelled,
        "readyReplicas": counts.ready,
        "availableReplicas": counts.available,
        "observedGeneration": metadata(replica_set).get("generation") or 0,
        "conditions": _conditions(replica_set, counts.active, failure, now),
    }
    if terminating:
        new["terminatingReplicas"] = counts.terminating
    zeros_shown = {"replicas", "terminatingReplicas"}
    new = {key: value for key, value in new.items() if value or key in zeros_shown}
    return Status(None if new == (replica_set.get("status") or {}) else new, counts.recheck_seconds)


def _conditions(replica_set: Obj, count: int, failure: str, now: datetime) -> list[Obj]:
    old = (replica_set.get("status") or {}).get("conditions") or []
    if not failure:
        return without_condition(old, REPLICA_FAILURE)
    if find(old, REPLICA_FAILURE) is not None:
        return list(old)
    reason = "FailedCreate" if count < wanted(replica_set) else "FailedDelete"
    return [*old, condition(REPLICA_FAILURE, "True", reason, failure, now)]
