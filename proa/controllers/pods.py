"""What controllers ask of pods (pure): active, ready, available, from a template, in which order to delete."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any

from proa.controllers.conditions import find, is_true
from proa.meta.gvk import GVK
from proa.meta.objects import Obj, annotations_of, copy_object, is_deleted, metadata, name_of, uid_of
from proa.util.clock import parse_rfc3339

DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"
_PHASE_ORDER = {"Pending": 0, "Unknown": 1, "Running": 2}


def phase(pod: Obj) -> str:
    return (pod.get("status") or {}).get("phase") or "Pending"


def is_finished(pod: Obj) -> bool:
    """Tells whether the pod has ended by itself."""
    return phase(pod) in ("Succeeded", "Failed")


def is_active(pod: Obj) -> bool:
    """Tells whether the pod counts as a replica: neither ended nor being deleted."""
    return not is_finished(pod) and not is_deleted(pod)


def is_ready(pod: Obj) -> bool:
    return is_true((pod.get("status") or {}).get("conditions"), "Ready")


def seconds_to_available(pod: Obj, min_ready_seconds: int, now: datetime) -> float | None:
    """Returns how long until a ready pod counts as available: 0 if it does, None if it is not ready."""
    ready = find((pod.get("status") or {}).get("conditions"), "Ready")
    if ready is None or ready.get("status") != "True":
        return None
    if not min_ready_seconds:
        return 0.0
    if not ready.get("lastTransitionTime"):
        return None
    since = (now - parse_rfc3339(ready["lastTransitionTime"])).total_seconds()
    return max(0.0, min_ready_seconds - since)


def is_available(pod: Obj, min_ready_seconds: int, now: datetime) -> bool:
    return seconds_to_available(pod, min_ready_seconds, now) == 0.0


def owner_reference(owner: Obj, kind: GVK) -> Obj:
    """Returns the reference that makes `owner` the controller of an object."""
    return {
        "apiVersion": kind.api_version,
        "kind": kind.kind,
        "name": name_of(owner),
        "uid": uid_of(owner),
        "controller": True,
        "blockOwnerDeletion": True,
    }


def pod_from_template(template: Obj, owner: Obj, kind: GVK) -> Obj:
    """Returns a new pod of `owner`, whose name the server generates."""
    base = metadata(template)
    meta: dict[str, Any] = {"generateName": f"{name_of(owner)}-", "namespace": metadata(owner).get("namespace")}
    for part in ("labels", "annotations", "finalizers"):
        if base.get(part):
            meta[part] = copy_object(base[part])
    meta["ownerReferences"] = [owner_reference(owner, kind)]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": copy_object(template.get("spec") or {})}


@lru_cache(maxsize=4096)  # stamps are whole seconds: thousands of pods share few
def _rank(since: str, now: datetime) -> int:
    """Returns the power of two of an age in nanoseconds, so that pods of about one age are alike."""
    seconds = (now - parse_rfc3339(since)).total_seconds()
    return int(math.log2(seconds * 1e9)) if seconds > 0 else -1


class DeletionOrder:
    """How soon a pod goes in a scale-down: what sorts first goes first.

    Upstream's order: unassigned, pending, not ready, cheaper by annotation, more relatives on its node, ready for a
    shorter time, more restarts, newer. Ages that differ but are about the same leave it to the uids.
    """

    __slots__ = ("_age", "_first", "_ready", "_restarts", "_uid")

    def __init__(self, pod: Obj, related_on_node: Mapping[str, int], now: datetime) -> None:
        status, spec = pod.get("status") or {}, pod.get("spec") or {}
        node = spec.get("nodeName") or ""
        ready = is_ready(pod)
        since = (find(status.get("conditions"), "Ready") or {}).get("lastTransitionTime") or "" if ready else ""
        created = metadata(pod).get("creationTimestamp") or ""
        on_node = related_on_node.get(node, 0)
        self._first = (bool(node), _PHASE_ORDER.get(phase(pod), 2), ready, deletion_cost(pod), -on_node)
        self._ready = since, _rank(since, now) if since else 0
        self._restarts = _restarts(spec, status)
        self._age = created, _rank(created, now) if created else 0
        self._uid = uid_of(pod)

    def __lt__(self, other: DeletionOrder) -> bool:
        if self._first != other._first:
            return self._first < other._first
        if self._ready[0] != other._ready[0]:
            return self._younger(self._ready, other._ready, other)
        if self._restarts != other._restarts:
            return self._restarts > other._restarts
        if self._age[0] != other._age[0]:
            return self._younger(self._age, other._age, other)
        return self._uid < other._uid

    def _younger(self, own: tuple[str, int], their: tuple[str, int], other: DeletionOrder) -> bool:
        if not own[0] or not their[0]:
            return not own[0]
        return own[1] < their[1] if own[1] != their[1] else self._uid < other._uid


def _restarts(spec: Obj, status: Obj) -> tuple[int, int]:
    """Returns the most restarts of a container, and of a sidecar."""
    sidecars = {one.get("name") for one in spec.get("initContainers") or () if one.get("restartPolicy") == "Always"}
    return (
        max((one.get("restartCount") or 0 for one in status.get("containerStatuses") or ()), default=0),
        max(
            (
                one.get("restartCount") or 0
                for one in status.get("initContainerStatuses") or ()
                if one["name"] in sidecars
            ),
            default=0,
        ),
    )


def deletion_cost(pod: Obj) -> int:
    """Returns the pod's deletion cost; 0 if it has none or one that is no number."""
    text = annotations_of(pod).get(DELETION_COST, "0")
    try:
        return int(text) if text == "0" or not text.lstrip("-").startswith("0") else 0
    except ValueError:
        return 0
