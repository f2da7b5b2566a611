"""What a pod asks of its node: the sums that scheduler, kubelet, quota and `describe` all use.

Follows upstream's resource helpers: containers add up, init containers take turns on top of the sidecars (restartable
init containers) started before them, pod-level resources replace the sum for the resources that they name, overhead
comes on top. Amounts are integers: milli-units for cpu, whole units (bytes, pieces) for everything else.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache

from proa.meta.objects import Obj
from proa.meta.quantity import parse

Amounts = dict[str, int]


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


def pod_requests(pod: Obj) -> Amounts:
    """Returns what the pod requests from its node, overhead included."""
    return _pod_amounts(pod, "requests")


def pod_limits(pod: Obj) -> Amounts:
    """Returns the sum of the pod's limits; a resource that a container does not limit counts with what others limit."""
    return _pod_amounts(pod, "limits")


def _pod_amounts(pod: Obj, which: str) -> Amounts:
    spec = pod.get("spec") or {}
    total = _sum(spec.get("containers") or (), which)
    sidecars: Amounts = {}
    highest: Amounts = {}
    for container in spec.get("initContainers") or ():
        own = amounts((container.get("resources") or {}).get(which))
        if is_sidecar(container):
            add(sidecars, own)
            add(total, own)
            raise_to(highest, sidecars)
        else:
            add(own, sidecars)
            raise_to(highest, own)
    raise_to(total, highest)
    total.update(amounts((spec.get("resources") or {}).get(which)))
    if which == "requests" or total:
        add(total, amounts(spec.get("overhead")))
    return total


def _sum(containers: Iterable[Obj], which: str) -> Amounts:
    total: Amounts = {}
    for container in containers:
        add(total, amounts((container.get("resources") or {}).get(which)))
    return total


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
