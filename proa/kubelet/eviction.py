"""Which pods must leave the node: those over their local storage limits, and the one to give way when memory runs out.

Pure; `housekeeping.py` measures and carries out. Follows upstream's eviction manager: limits of emptyDir volumes and of
ephemeral storage, and the order by use over request, priority, and by how much.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from proa.kubelet.podspec import containers_of, is_static, is_terminal
from proa.kubelet.resources import pod_requests
from proa.meta.objects import Obj, uid_of
from proa.meta.quantity import parse

EVICTED = "Evicted"
_STORAGE = "ephemeral-storage"
_CRITICAL_PRIORITY = 2_000_000_000


@dataclass(frozen=True, slots=True)
class LocalUse:
    """Bytes on the node's disk: by emptyDir volume (medium default), and by container (writable layer and logs)."""

    volumes: Mapping[str, int] = field(default_factory=dict)
    containers: Mapping[str, int] = field(default_factory=dict)


def limited_volumes(pod: Obj) -> dict[str, str]:
    """The pod's emptyDir volumes on disk that have a size limit, with the limit."""
    found = {}
    for volume in (pod.get("spec") or {}).get("volumes") or []:
        source = volume.get("emptyDir")
        if source and not source.get("medium") and source.get("sizeLimit") and parse(source["sizeLimit"]).value:
            found[volume["name"]] = str(source["sizeLimit"])
    return found


def is_limited(pod: Obj) -> bool:
    """Tells whether the pod's use of local storage has to be measured."""
    limits = ((one.spec.get("resources") or {}).get("limits") or {} for one in containers_of(pod))
    return bool(limited_volumes(pod)) or any(_STORAGE in one for one in limits)


def over_limit(pod: Obj, use: LocalUse) -> str | None:
    """Says which limit of local storage the pod exceeds, as upstream words it; None if none."""
    for name, size in limited_volumes(pod).items():
        if use.volumes.get(name, 0) > parse(size).value:
            return f'Usage of EmptyDir volume "{name}" exceeds the limit "{size}". '
    limits: dict[str, Any] = {}
    for container in containers_of(pod):
        limit = ((container.spec.get("resources") or {}).get("limits") or {}).get(_STORAGE)
        if limit is not None:
            limits[container.name] = limit
            if use.containers.get(container.name, 0) > parse(limit).value:
                return f'Container {container.name} exceeded its local ephemeral storage limit "{limit}". '
    mains = [one["name"] for one in (pod.get("spec") or {}).get("containers") or []]
    if mains and all(name in limits for name in mains):
        total = sum(parse(limits[name]).value for name in mains)
        if sum(use.volumes.values()) + sum(use.containers.values()) > total:
            return f"Pod ephemeral local storage usage exceeds the total limit of containers {total}. "
    return None


def first_to_go(pods: Iterable[Obj], memory_use: Mapping[str, int]) -> Obj | None:
    """Returns the pod to evict when the node's memory runs out; `memory_use` is bytes by pod uid."""

    def rank(pod: Obj) -> tuple[bool, int, int]:
        asked = pod_requests(pod).get("memory", 0) // 1000
        used = memory_use.get(uid_of(pod), 0)
        return used <= asked, _priority(pod), asked - used

    candidates = [
        one for one in pods if not (is_terminal(one) or is_static(one) or _priority(one) >= _CRITICAL_PRIORITY)
    ]
    return min(candidates, key=rank, default=None)


def _priority(pod: Obj) -> int:
    return int((pod.get("spec") or {}).get("priority") or 0)
