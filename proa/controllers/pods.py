"""What controllers ask of pods (pure): active, ready, available, from a template, in which order to delete."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime
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


def _log_age(since: str | None, now: datetime) -> float:
    """Returns the age's power of two, so that pods of about one age are alike."""
    if not since:
        return -1.0
    seconds = (now - parse_rfc3339(since)).total_seconds()
    return math.floor(math.log2(seconds)) if seconds >= 1 else 0.0


def deletion_order(pod: Obj, related_on_node: Mapping[str, int], now: datetime) -> tuple[Any, ...]:
    """Returns the sort key of a scale-down: what sorts first goes first.

    Upstream's order: unassigned, pending, not ready, cheaper by annotation, more relatives on its node, ready for a
    shorter time, more restarts, newer.
    """
    status = pod.get("status") or {}
    node = (pod.get("spec") or {}).get("nodeName") or ""
    ready = find(status.get("conditions"), "Ready")
    ready_since = (ready or {}).get("lastTransitionTime") if is_ready(pod) else None
    restarts = max((one.get("restartCount") or 0 for one in status.get("containerStatuses") or ()), default=0)
    return (
        bool(node),
        _PHASE_ORDER.get(phase(pod), 2),
        is_ready(pod),
        deletion_cost(pod),
        -related_on_node.get(node, 0),
        _log_age(ready_since, now),
        -restarts,
        _log_age(metadata(pod).get("creationTimestamp"), now),
        uid_of(pod),
    )


def deletion_cost(pod: Obj) -> int:
    """Returns the pod's deletion cost; 0 if it has none or one that is no number."""
    text = annotations_of(pod).get(DELETION_COST, "0")
    try:
        return int(text) if text == "0" or not text.lstrip("-").startswith("0") else 0
    except ValueError:
        return 0
