"""What a pod asks of its node: the sums that scheduler, kubelet, quota and `describe` all use.

Follows upstream's resource helpers: containers add up, init containers take turns on top of the sidecars (restartable
init containers) started before them, pod-level resources replace the sum for the resources that they name, overhead
comes on top. Amounts are integers: milli-units for cpu, whole units (bytes, pieces) for everything else.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Any

from proa.meta.objects import Obj
from proa.meta.quantity import parse

Amounts = dict[str, int]
Held = Mapping[str, Mapping[str, int]]  # by container
_POD = ""  # stands for the pod itself where containers go by name
_NOTHING: Mapping[str, Any] = MappingProxyType({})


@lru_cache(maxsize=4096)
def amount_of(resource: str, text: str) -> int:
    """Returns a quantity as an integer, rounded up: milli for cpu, else whole units; raises ValueError if malformed."""
    quantity = parse(text)
    return quantity.milli_value if resource == "cpu" else quantity.value


def amounts(resources: Mapping[str, str | int] | None) -> Amounts:
    """Returns a resource list (`requests`, `limits`, `allocatable`) as integers."""
    return {name: amount_of(name, str(text)) for name, text in (resources or {}).items()}


def add(total: Amounts, more: Mapping[str, int]) -> None:
    """Adds `more` to `total` in place."""
    for name, amount in more.items():
        total[name] = total.get(name, 0) + amount


def raise_to(total: Amounts, least: Mapping[str, int]) -> None:
    """Raises each amount of `total` in place to at least that of `least`."""
    for name, amount in least.items():
        if amount > total.get(name, 0):
            total[name] = amount


def is_sidecar(container: Obj) -> bool:
    """Tells whether an init container keeps running beside the main ones."""
    return container.get("restartPolicy") == "Always"


def pod_requests(pod: Obj, held: Held = _NOTHING, missing: Mapping[str, int] = _NOTHING) -> Amounts:
    """Returns what the pod requests from its node, overhead included.

    `held` (of `held_requests`) goes before what the containers ask for; `missing` are amounts of containers that do
    not request the resource at all.
    """
    return _pod_amounts(pod, "requests", held, missing)


def pod_limits(pod: Obj) -> Amounts:
    """Returns the sum of the pod's limits; a resource that a container does not limit counts with what others limit."""
    return _pod_amounts(pod, "limits")


def _pod_amounts(pod: Obj, which: str, held: Held = _NOTHING, missing: Mapping[str, int] = _NOTHING) -> Amounts:
    spec = pod.get("spec") or {}
    total: Amounts = {}
    for container in spec.get("containers") or ():
        add(total, _of_container(container, which, held, missing))
    sidecars: Amounts = {}
    highest: Amounts = {}
    for container in spec.get("initContainers") or ():
        own = _of_container(container, which, held, missing)
        if is_sidecar(container):
            add(sidecars, own)
            add(total, own)
            raise_to(highest, sidecars)
        else:
            add(own, sidecars)
            raise_to(highest, own)
    raise_to(total, highest)
    total.update(held[_POD] if _POD in held else amounts((spec.get("resources") or {}).get(which)))
    if which == "requests" or total:
        add(total, amounts(spec.get("overhead")))
    return total


def _of_container(container: Obj, which: str, held: Held, missing: Mapping[str, int]) -> Amounts:
    name = container.get("name", "")
    own = dict(held[name]) if name in held else amounts((container.get("resources") or {}).get(which))
    for resource, amount in missing.items():
        own.setdefault(resource, amount)
    return own


def held_requests(pod: Obj) -> Held:
    """Returns the requests of containers that are being resized (pod-level ones under an empty name).

    They are the larger of what is asked for, what the node has allocated and what the container really has; what is
    asked for does not count once the node has said that it is infeasible.
    """
    spec, status = pod.get("spec") or {}, pod.get("status") or {}
    found: dict[str, Amounts] = {}

    def note(name: str, holder: Obj, said: Obj) -> None:
        wanted = (holder.get("resources") or {}).get("requests") or {}
        real, allocated = (said.get("resources") or {}).get("requests"), said.get("allocatedResources")
        if real in (None, wanted) and allocated in (None, wanted):
            return
        most = {} if is_resize_pending(pod, "Infeasible") else amounts(wanted)
        raise_to(most, amounts(real))
        raise_to(most, amounts(allocated))
        found[name] = most

    for specs, statuses in (("containers", "containerStatuses"), ("initContainers", "initContainerStatuses")):
        said = {one["name"]: one for one in status.get(statuses) or ()}
        for container in spec.get(specs) or () if said else ():
            if container["name"] in said:
                note(container["name"], container, said[container["name"]])
    if (spec.get("resources") or {}).get("requests"):
        note(_POD, spec, status)
    return found


def is_resize_pending(pod: Obj, reason: str = "") -> bool:
    """Tells whether the node has not accepted a resize, for a certain reason if one is given."""
    return any(
        one.get("type") == "PodResizePending" and (not reason or one.get("reason") == reason)
        for one in (pod.get("status") or {}).get("conditions") or ()
    )


def qos_class(pod: Obj) -> str:
    """Returns Guaranteed, Burstable or BestEffort, by cpu and memory of the containers (or of the pod)."""
    spec = pod.get("spec") or {}
    pod_level = spec.get("resources")
    holders = [spec] if pod_level else [*(spec.get("containers") or ()), *(spec.get("initContainers") or ())]
    guaranteed, any_set = True, False
    for holder in holders:
        resources = holder.get("resources") or {}
        requests, limits = amounts(resources.get("requests")), amounts(resources.get("limits"))
        for name in ("cpu", "memory"):
            if requests.get(name) or limits.get(name):
                any_set = True
            if not limits.get(name) or requests.get(name, limits[name]) != limits[name]:
                guaranteed = False
    if not any_set:
        return "BestEffort"
    return "Guaranteed" if guaranteed else "Burstable"
