"""Requests and limits as cgroup values. Pure; follows upstream's kubelet (`cm/helpers_linux`, `qos/policy`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from proa.kubelet.podspec import SIDECAR, ContainerSpec, by_kind, qos_class
from proa.meta.objects import Obj
from proa.meta.quantity import parse

CPU_PERIOD_MICROSECONDS = 100_000
_QUOTA_MIN = 1000
_SHARES_MIN, _SHARES_MAX = 2, 262_144
_OOM_GUARANTEED, _OOM_BEST_EFFORT = -997, 1000
_HUGE = "hugepages-"
_CRITICAL = ("system-node-critical", "system-cluster-critical")


def cpu_shares(milli: int) -> int:
    return min(_SHARES_MAX, max(_SHARES_MIN, milli * 1024 // 1000))


def cpu_weight(shares: int) -> int:
    """Cgroup v2's weight (1 to 10,000) for v1's shares (2 to 262,144)."""
    return 1 + (shares - 2) * 9999 // 262_142


def cpu_quota(milli: int) -> int:
    return max(_QUOTA_MIN, milli * CPU_PERIOD_MICROSECONDS // 1000)


def amounts(resources: Obj | None, kind: str) -> dict[str, str]:
    """Returns the requests or limits; a limit without a request is a request too."""
    resources = resources or {}
    limits = resources.get("limits") or {}
    if kind == "limits":
        return dict(limits)
    return {**limits, **(resources.get("requests") or {})}


def memory_limit(resources: Obj | None) -> int | None:
    """The memory limit in bytes; None if there is none."""
    limit = amounts(resources, "limits").get("memory")
    return parse(limit).value if limit else None


def linux_resources(pod: Obj, container: ContainerSpec, memory_capacity_bytes: int) -> dict[str, Any]:
    """Returns CRI's LinuxContainerResources for a container."""
    resources = container.spec.get("resources")
    limits, requests = amounts(resources, "limits"), amounts(resources, "requests")
    result: dict[str, Any] = {
        "cpu_shares": cpu_shares(parse(requests["cpu"]).milli_value if "cpu" in requests else 0),
        "oom_score_adj": oom_score_adj(pod, container, memory_capacity_bytes),
    }
    if "cpu" in limits and parse(limits["cpu"]).milli_value:
        result["cpu_period"] = CPU_PERIOD_MICROSECONDS
        result["cpu_quota"] = cpu_quota(parse(limits["cpu"]).milli_value)
    if "memory" in limits:
        result["memory_limit_in_bytes"] = parse(limits["memory"]).value
    huge = [
        {"page_size": name.removeprefix(_HUGE).replace("i", "") + "B", "limit": parse(value).value}
        for name, value in sorted(limits.items())
        if name.startswith(_HUGE)
    ]
    if huge:
        result["hugepage_limits"] = huge
    return result


def oom_score_adj(pod: Obj, container: ContainerSpec, memory_capacity_bytes: int) -> int:
    """How soon the kernel ends the container when memory runs out: from -997 (last) to 1000 (first)."""
    if (pod.get("spec") or {}).get("priorityClassName") == _CRITICAL[0]:
        return _OOM_GUARANTEED
    quality = qos_class(pod)
    if quality == "Guaranteed":
        return _OOM_GUARANTEED
    if quality == "BestEffort":
        return _OOM_BEST_EFFORT
    score = _burstable_score(container, memory_capacity_bytes)
    if container.kind == SIDECAR:
        mains = by_kind(pod, "main")
        score = min([score, *(_burstable_score(one, memory_capacity_bytes) for one in mains)])
    return score


def _burstable_score(container: ContainerSpec, memory_capacity_bytes: int) -> int:
    request = amounts(container.spec.get("resources"), "requests").get("memory")
    asked = parse(request).value if request else 0
    score = 1000 - 1000 * asked // max(1, memory_capacity_bytes)
    return min(_OOM_BEST_EFFORT - 1, max(1000 + _OOM_GUARANTEED, score))


def pod_requests(pod: Obj) -> dict[str, int]:
    """What the pod asks of the node as a whole, in milli-units: containers together, or an init container if larger."""
    result: dict[str, int] = {}
    sidecars: dict[str, int] = {}
    largest_init: dict[str, int] = {}
    for container in by_kind(pod, "init", "sidecar"):
        asks = _milli(amounts(container.spec.get("resources"), "requests"))
        if container.kind == SIDECAR:
            sidecars = _sum(sidecars, asks)
            asks = sidecars
        else:
            asks = _sum(sidecars, asks)
        largest_init = {key: max(largest_init.get(key, 0), asks.get(key, 0)) for key in {*largest_init, *asks}}
    for container in by_kind(pod, "main"):
        result = _sum(result, _milli(amounts(container.spec.get("resources"), "requests")))
    result = _sum(result, sidecars)
    result = {key: max(result.get(key, 0), largest_init.get(key, 0)) for key in {*result, *largest_init}}
    spec = pod.get("spec") or {}
    result.update(_milli(amounts(spec.get("resources"), "requests")))
    return _sum(result, _milli(spec.get("overhead") or {}))


def _milli(resources: Mapping[str, Any]) -> dict[str, int]:
    return {name: parse(value).milli_value for name, value in resources.items()}


def _sum(first: Mapping[str, int], second: Mapping[str, int]) -> dict[str, int]:
    return {key: first.get(key, 0) + second.get(key, 0) for key in {*first, *second}}
