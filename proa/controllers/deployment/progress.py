"""A deployment's status (pure): counts, and the conditions Available, Progressing and ReplicaFailure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from proa.controllers.conditions import condition, find, with_condition, without_condition
from proa.controllers.deployment.sets import Sets, counted, replicas, total, unavailable_max
from proa.meta.objects import Obj, is_deleted, metadata, name_of
from proa.util.clock import parse_rfc3339

AVAILABLE = "Available"
PROGRESSING = "Progressing"
REPLICA_FAILURE = "ReplicaFailure"
_NO_DEADLINE = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Outcome:
    """`status`: what to write, None if it is right already. `complete`: the rollout is over."""

    status: Obj | None
    complete: bool
    recheck_seconds: float | None = None


def status(deployment: Obj, sets: Sets, now: datetime, *, rollout: bool) -> Outcome:
    """`rollout` false: paused, being resized or deleted, when progress is not judged."""
    old = deployment.get("status") or {}
    new = _counts(deployment, sets)
    conditions = list(old.get("conditions") or [])
    enough = replicas(deployment) - unavailable_max(deployment)
    if new["availableReplicas"] >= enough:
        available = ("True", "MinimumReplicasAvailable", "Deployment has minimum availability.")
    else:
        available = ("False", "MinimumReplicasUnavailable", "Deployment does not have minimum availability.")
    conditions = with_condition(conditions, condition(AVAILABLE, *available, now, updated=True))
    complete = _is_complete(deployment, new)
    recheck_seconds = None
    if rollout:
        conditions = _progressing(deployment, sets, new, conditions, complete, now)
        conditions = _failure(sets, conditions)
        recheck_seconds = _seconds_to_deadline(deployment, conditions, complete, now)
    elif not is_deleted(deployment):
        conditions = _paused(deployment, conditions, now)
    new["conditions"] = conditions
    shown = {key: value for key, value in new.items() if value or key == "terminatingReplicas"}
    return Outcome(None if shown == old else shown, complete, recheck_seconds)


def _counts(deployment: Obj, sets: Sets) -> dict[str, Any]:
    available = sum(counted(one, "availableReplicas") for one in sets.all)
    new: dict[str, Any] = {
        "observedGeneration": metadata(deployment).get("generation") or 0,
        "replicas": sum(counted(one, "replicas") for one in sets.all),
        "updatedReplicas": counted(sets.new, "replicas") if sets.new is not None else 0,
        "readyReplicas": sum(counted(one, "readyReplicas") for one in sets.all),
        "availableReplicas": available,
        "unavailableReplicas": max(0, total(sets.all) - available),
    }
    if all("terminatingReplicas" in (one.get("status") or {}) for one in sets.all):
        new["terminatingReplicas"] = sum(counted(one, "terminatingReplicas") for one in sets.all)
    collisions = (deployment.get("status") or {}).get("collisionCount")
    if collisions is not None:
        new["collisionCount"] = collisions
    return new


def _is_complete(deployment: Obj, new: Obj) -> bool:
    wanted = replicas(deployment)
    return bool(new["updatedReplicas"] == new["replicas"] == new["availableReplicas"] == wanted)


def _is_progressing(old: Obj, new: Obj) -> bool:
    def outdated(status: Obj) -> int:
        return int(status.get("replicas") or 0) - int(status.get("updatedReplicas") or 0)

    grew = any(new[name] > (old.get(name) or 0) for name in ("updatedReplicas", "readyReplicas", "availableReplicas"))
    return grew or outdated(new) < outdated(old)


def deadline_seconds(deployment: Obj) -> int | None:
    seconds = deployment["spec"].get("progressDeadlineSeconds")
    return None if seconds is None or seconds >= _NO_DEADLINE else int(seconds)


def _timed_out(deployment: Obj, current: Obj | None, now: datetime) -> bool:
    deadline = deadline_seconds(deployment)
    if current is None or deadline is None or current.get("reason") == "NewReplicaSetAvailable":
        return False
    if current.get("reason") == "ProgressDeadlineExceeded":
        return True
    since = current.get("lastUpdateTime") or current.get("lastTransitionTime")
    return since is not None and (now - parse_rfc3339(since)).total_seconds() > deadline


def _progressing(
    deployment: Obj, sets: Sets, new: Obj, conditions: list[Obj], complete: bool, now: datetime
) -> list[Obj]:
    if deadline_seconds(deployment) is None:
        return without_condition(conditions, PROGRESSING)
    current = find(conditions, PROGRESSING)
    finished_before = (
        new["replicas"] == new["updatedReplicas"] and (current or {}).get("reason") == "NewReplicaSetAvailable"
    )
    if finished_before:
        return conditions
    name = name_of(sets.new) if sets.new is not None else ""
    subject = f'ReplicaSet "{name}"' if name else f'Deployment "{name_of(deployment)}"'
    if complete:
        text = f"{subject} has successfully progressed."
        return with_condition(
            conditions, condition(PROGRESSING, "True", "NewReplicaSetAvailable", text, now, updated=True)
        )
    if _is_progressing(deployment.get("status") or {}, new):
        text = f"{subject} is progressing."
        made = condition(PROGRESSING, "True", "ReplicaSetUpdated", text, now, updated=True)
        if current is not None and current.get("status") == "True":
            made["lastTransitionTime"] = current.get("lastTransitionTime")
        return [*without_condition(conditions, PROGRESSING), made]
    if _timed_out(deployment, current, now):
        text = f"{subject} has timed out progressing."
        return with_condition(
            conditions, condition(PROGRESSING, "False", "ProgressDeadlineExceeded", text, now, updated=True)
        )
    if current is None and sets.new is not None:
        text = f'Found new replica set "{name}"'
        return with_condition(conditions, condition(PROGRESSING, "True", "FoundNewReplicaSet", text, now, updated=True))
    return conditions


def _failure(sets: Sets, conditions: list[Obj]) -> list[Obj]:
    """Shows the replica failure of the new set, or else of an old one."""
    for one in ([sets.new] if sets.new is not None else []) + list(sets.old):
        found = find((one.get("status") or {}).get("conditions"), REPLICA_FAILURE)
        if found is not None:
            shown = {**found, "lastUpdateTime": found.get("lastTransitionTime")}
            return with_condition(conditions, shown)
    return without_condition(conditions, REPLICA_FAILURE)


def _paused(deployment: Obj, conditions: list[Obj], now: datetime) -> list[Obj]:
    if deadline_seconds(deployment) is None:
        return conditions
    current = (find(conditions, PROGRESSING) or {}).get("reason")
    if current == "ProgressDeadlineExceeded":
        return conditions
    paused = bool(deployment["spec"].get("paused"))
    if paused and current != "DeploymentPaused":
        reason, text = "DeploymentPaused", "Deployment is paused"
    elif not paused and current == "DeploymentPaused":
        reason, text = "DeploymentResumed", "Deployment is resumed"
    else:
        return conditions
    return with_condition(conditions, condition(PROGRESSING, "Unknown", reason, text, now, updated=True))


def resumed(deployment: Obj, now: datetime) -> list[Obj] | None:
    """Returns the conditions with the pause taken back if the deployment was resumed just now, else None."""
    old = (deployment.get("status") or {}).get("conditions") or []
    if deployment["spec"].get("paused"):
        return None
    changed = _paused(deployment, list(old), now)
    return None if changed == old else changed


def created(deployment: Obj, name: str, error: str, now: datetime) -> list[Obj]:
    """Returns the conditions after a new replica set was made, or could not be."""
    old = list((deployment.get("status") or {}).get("conditions") or [])
    if deadline_seconds(deployment) is None:
        return old
    if error:
        made = condition(PROGRESSING, "False", "ReplicaSetCreateError", error, now, updated=True)
    else:
        text = f'Created new replica set "{name}"'
        made = condition(PROGRESSING, "True", "NewReplicaSetCreated", text, now, updated=True)
    return with_condition(old, made)


def _seconds_to_deadline(deployment: Obj, conditions: list[Obj], complete: bool, now: datetime) -> float | None:
    deadline = deadline_seconds(deployment)
    current = find(conditions, PROGRESSING)
    if complete or deadline is None or current is None:
        return None
    if current.get("reason") in ("NewReplicaSetAvailable", "ProgressDeadlineExceeded"):
        return None
    since = parse_rfc3339(current.get("lastUpdateTime") or current["lastTransitionTime"])
    return max(1.0, deadline - (now - since).total_seconds() + 1)
