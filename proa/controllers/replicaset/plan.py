"""What a ReplicaSet needs (pure): pods to create or delete, and its status. Follows upstream's controller."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from proa.controllers.conditions import condition, find, without_condition
from proa.controllers.pods import DeletionOrder, is_active, is_finished, is_ready, seconds_to_available
from proa.meta.objects import Obj, is_deleted, labels_of, metadata

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
    related = related_on_node()
    ranked = sorted(active, key=lambda pod: DeletionOrder(pod, related, now))
    return Plan(delete=tuple(ranked[: min(-missing, BURST_MAX)]))


def wanted(replica_set: Obj) -> int:
    replicas = replica_set["spec"].get("replicas")
    return 1 if replicas is None else int(replicas)


def status(replica_set: Obj, pods: Sequence[Obj], failure: str, now: datetime, *, terminating: bool = True) -> Status:
    """Counts the pods. `failure` says why the last creation or deletion failed, empty if it did not.

    `terminating`: count pods that are being deleted too (ReplicationControllers do not).
    """
    spec, old = replica_set["spec"], replica_set.get("status") or {}
    labels = labels_of(spec.get("template") or {})
    min_ready_seconds = spec.get("minReadySeconds") or 0
    active = [pod for pod in pods if is_active(pod)]
    waits = [seconds_to_available(pod, min_ready_seconds, now) for pod in active]
    new: dict[str, Any] = {
        "replicas": len(active),
        "fullyLabeledReplicas": sum(labels.items() <= labels_of(pod).items() for pod in active),
        "readyReplicas": sum(map(is_ready, active)),
        "availableReplicas": sum(wait == 0 for wait in waits),
        "observedGeneration": metadata(replica_set).get("generation") or 0,
        "conditions": _conditions(replica_set, len(active), failure, now),
    }
    if terminating:
        new["terminatingReplicas"] = sum(is_deleted(pod) and not is_finished(pod) for pod in pods)
    zeros_shown = {"replicas", "terminatingReplicas"}
    new = {key: value for key, value in new.items() if value or key in zeros_shown}
    pending = [wait for wait in waits if wait]
    return Status(None if new == old else new, min(pending, default=None))


def _conditions(replica_set: Obj, count: int, failure: str, now: datetime) -> list[Obj]:
    old = (replica_set.get("status") or {}).get("conditions") or []
    if not failure:
        return without_condition(old, REPLICA_FAILURE)
    if find(old, REPLICA_FAILURE) is not None:
        return list(old)
    reason = "FailedCreate" if count < wanted(replica_set) else "FailedDelete"
    return [*old, condition(REPLICA_FAILURE, "True", reason, failure, now)]
