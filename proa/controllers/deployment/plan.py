"""The next step of a rollout (pure). Follows upstream's deployment controller: one kind of step at a time, after which
the replica sets' changes bring the deployment back here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from proa.controllers.deployment import progress
from proa.controllers.deployment.sets import (
    MAX,
    REVISION,
    Sets,
    annotations_for_new,
    counted,
    is_rolling,
    make,
    replicas,
    revision,
    size_annotations,
    sort_out,
    surge_max,
    total,
    unavailable_max,
)
from proa.controllers.pods import is_finished
from proa.meta.objects import Obj, annotations_of, is_deleted, metadata, name_of


@dataclass(frozen=True, slots=True)
class Change:
    """A replica set's new size and annotations."""

    replica_set: Obj
    size: int
    annotations: Mapping[str, str]
    min_ready_seconds: int

    @property
    def scales(self) -> bool:
        return self.size != replicas(self.replica_set)


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do now, in this order. `revision`: the deployment's annotation, if it must change.

    `recheck_seconds`: when the progress deadline passes.
    """

    create: Obj | None = None
    changes: tuple[Change, ...] = ()
    delete: tuple[Obj, ...] = ()
    revision: str | None = None
    status: Obj | None = None
    recheck_seconds: float | None = None


def plan(deployment: Obj, replica_sets: Sequence[Obj], pods: Mapping[str, Sequence[Obj]], now: datetime) -> Plan:
    """`replica_sets` are those that the deployment owns; `pods` are theirs, by the replica set's uid."""
    sets = sort_out(deployment, replica_sets)
    if is_deleted(deployment):
        return Plan(status=progress.status(deployment, sets, now, rollout=False).status)
    if deployment["spec"].get("paused") or _is_resized(deployment, sets):
        return _resize(deployment, sets, now)
    step = _rolling(deployment, sets) if is_rolling(deployment) else _recreate(deployment, sets, pods)
    delete = _history_to_delete(deployment, sets) if not step.create and not _scales(step) else ()
    # An updated set counts in the status only once its own controller has reported it.
    outcome = progress.status(deployment, sets, now, rollout=True)
    return Plan(
        create=step.create,
        changes=step.changes,
        delete=delete if outcome.complete else (),
        revision=_revision_annotation(deployment, sets),
        status=outcome.status,
        recheck_seconds=outcome.recheck_seconds,
    )


def _scales(step: Plan) -> bool:
    return any(change.scales for change in step.changes)


# ---------------------------------------------------------------- revisions


def _next_revision(sets: Sets) -> int:
    return max(map(revision, sets.old), default=0) + 1


def _revision_annotation(deployment: Obj, sets: Sets) -> str | None:
    """Returns the revision that the deployment must show, or None if it does."""
    next_revision = _next_revision(sets)
    shown = str(max(revision(sets.new), next_revision)) if sets.new is not None else str(next_revision)
    return None if annotations_of(deployment).get(REVISION) == shown else shown


def _change(deployment: Obj, sets: Sets, replica_set: Obj, size: int) -> Change | None:
    """Returns what must change about a replica set so that it has this size and the right annotations."""
    old = annotations_of(replica_set)
    annotations = dict(old)
    min_ready_seconds = replica_set["spec"].get("minReadySeconds") or 0
    if replica_set is sets.new:
        annotations = annotations_for_new(deployment, old, _next_revision(sets))
        min_ready_seconds = deployment["spec"].get("minReadySeconds") or 0
    if size > 0:
        annotations.update(size_annotations(deployment))
    same_age = min_ready_seconds == (replica_set["spec"].get("minReadySeconds") or 0)
    if size == replicas(replica_set) and annotations == old and same_age:
        return None
    return Change(replica_set, size, annotations, min_ready_seconds)


def _step(deployment: Obj, sets: Sets, sizes: Mapping[str, int]) -> Plan:
    """Returns the changes that give replica sets, by name, their sizes; the new set's annotations are kept right."""
    changes = [
        _change(deployment, sets, one, sizes.get(name_of(one), replicas(one)))
        for one in sets.all
        if one is sets.new or name_of(one) in sizes
    ]
    return Plan(changes=tuple(change for change in changes if change is not None))


# ---------------------------------------------------------------- strategies


def _new_size(deployment: Obj, sets: Sets) -> int:
    """Returns how large the new replica set may be now."""
    wanted = replicas(deployment)
    current = replicas(sets.new) if sets.new is not None else 0
    if current >= wanted or not is_rolling(deployment):
        return wanted
    room = wanted + surge_max(deployment) - total(sets.all)
    return current + max(0, min(room, wanted - current))


def _rolling(deployment: Obj, sets: Sets) -> Plan:
    if sets.new is None:
        return Plan(create=make(deployment, _next_revision(sets), _new_size(deployment, sets)))
    size = _new_size(deployment, sets)
    if size != replicas(sets.new):
        return _step(deployment, sets, {name_of(sets.new): size})
    return _step(deployment, sets, _smaller_old(deployment, sets))


def _smaller_old(deployment: Obj, sets: Sets) -> dict[str, int]:
    """Returns how far old replica sets may shrink: first what is unhealthy, then what availability allows."""
    assert sets.new is not None
    if not total(sets.old):
        return {}
    available_min = replicas(deployment) - unavailable_max(deployment)
    new_unavailable = replicas(sets.new) - counted(sets.new, "availableReplicas")
    allowance = total(sets.all) - available_min - new_unavailable
    if allowance <= 0:
        return {}
    sizes: dict[str, int] = {}
    for one in sets.old_active:
        unhealthy = min(allowance, replicas(one) - counted(one, "availableReplicas"))
        if unhealthy > 0:
            sizes[name_of(one)] = replicas(one) - unhealthy
            allowance -= unhealthy
    # A set's status may not tell yet of pods that it was told to give up.
    surplus = sum(min(replicas(one), counted(one, "availableReplicas")) for one in sets.all) - available_min
    for one in sets.old_active:
        size = sizes.get(name_of(one), replicas(one))
        healthy = min(size, surplus)
        if healthy > 0:
            sizes[name_of(one)] = size - healthy
            surplus -= healthy
    return sizes


def _recreate(deployment: Obj, sets: Sets, pods: Mapping[str, Sequence[Obj]]) -> Plan:
    if sets.old_active:
        return _step(deployment, sets, {name_of(one): 0 for one in sets.old_active})
    if any(not is_finished(pod) for one in sets.old for pod in pods.get(metadata(one)["uid"], ())):
        return Plan()
    if sets.new is None:
        return Plan(create=make(deployment, _next_revision(sets), replicas(deployment)))
    return _step(deployment, sets, {name_of(sets.new): replicas(deployment)})


# ---------------------------------------------------------------- resizing, also while paused


def _is_resized(deployment: Obj, sets: Sets) -> bool:
    """Tells whether the deployment's size has changed since its active replica sets were last sized."""
    wanted = size_annotations(deployment)
    for one in sets.all:
        desired = annotations_of(one).get("deployment.kubernetes.io/desired-replicas", "")
        if replicas(one) > 0 and desired.isdecimal() and desired != wanted["deployment.kubernetes.io/desired-replicas"]:
            return True
    return False


def _resize(deployment: Obj, sets: Sets, now: datetime) -> Plan:
    step = _step(deployment, sets, _resized(deployment, sets))
    outcome = progress.status(deployment, sets, now, rollout=False)
    delete = _history_to_delete(deployment, sets) if deployment["spec"].get("paused") and not _scales(step) else ()
    return Plan(changes=step.changes, delete=delete, status=outcome.status)


def _resized(deployment: Obj, sets: Sets) -> dict[str, int]:
    wanted = replicas(deployment)
    active = [one for one in sets.all if replicas(one) > 0]
    if len(active) <= 1:
        only = active[0] if active else sets.new or (sets.old[-1] if sets.old else None)
        return {name_of(only): wanted} if only is not None else {}
    if sets.new is not None and _is_saturated(deployment, sets.new):
        return {name_of(one): 0 for one in sets.old_active}
    return _proportional(deployment, active) if is_rolling(deployment) else {}


def _is_saturated(deployment: Obj, replica_set: Obj) -> bool:
    wanted = replicas(deployment)
    desired = annotations_of(replica_set).get("deployment.kubernetes.io/desired-replicas")
    return replicas(replica_set) == wanted == counted(replica_set, "availableReplicas") and desired == str(wanted)


def _proportional(deployment: Obj, active: Sequence[Obj]) -> dict[str, int]:
    """Spreads a change of size in the middle of a rollout over the active sets, by their share."""
    wanted = replicas(deployment)
    size_max = wanted + surge_max(deployment) if wanted else 0
    to_add = size_max - total(active)
    # The largest first; among equals the newest grows and the oldest shrinks first.
    by_age = sorted(active, key=lambda one: metadata(one).get("creationTimestamp") or "", reverse=to_add > 0)
    ordered = sorted(by_age, key=replicas, reverse=True)
    sizes: dict[str, int] = {}
    added = 0
    for one in ordered:
        share = _share(deployment, one, size_max)
        left = to_add - added
        share = min(share, left) if to_add > 0 else max(share, left)
        if to_add == 0 or replicas(one) == 0:
            share = 0
        sizes[name_of(one)] = replicas(one) + share
        added += share
    first = name_of(ordered[0])
    sizes[first] = max(0, sizes[first] + to_add - added)
    return sizes


def _share(deployment: Obj, replica_set: Obj, size_max: int) -> int:
    if not replicas(deployment):
        return -replicas(replica_set)
    text = annotations_of(replica_set).get(MAX, "")
    earlier_max = int(text) if text.isdecimal() else counted(deployment, "replicas")
    if not earlier_max:
        return 0
    # Rounds half away from zero, as upstream does.
    return int(replicas(replica_set) * size_max / earlier_max + 0.5) - replicas(replica_set)


# ---------------------------------------------------------------- history


def _history_to_delete(deployment: Obj, sets: Sets) -> tuple[Obj, ...]:
    """Returns old, empty replica sets beyond the history limit, oldest revision first."""
    limit = deployment["spec"].get("revisionHistoryLimit")
    if limit is None:
        return ()
    present = [one for one in sets.old if not is_deleted(one)]
    surplus = len(present) - int(limit)
    if surplus <= 0:
        return ()
    oldest = sorted(present, key=lambda one: (revision(one), metadata(one).get("creationTimestamp") or ""))[:surplus]
    return tuple(
        one
        for one in oldest
        if not replicas(one)
        and not counted(one, "replicas")
        and (metadata(one).get("generation") or 0) <= counted(one, "observedGeneration")
    )
