"""The cgroup of a whole pod: its weight and limits, and its removal. Containers' own cgroups are the runtime's.

Knows the three layouts: version 2, version 1, and hybrid (version 1 controllers; an empty version 2 beside them).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from proa.kubelet.podspec import by_kind
from proa.kubelet.resources import CPU_PERIOD_MICROSECONDS, amounts, cpu_quota, cpu_shares, cpu_weight, pod_requests
from proa.meta.objects import Obj
from proa.meta.quantity import parse

_MOUNT = Path("/sys/fs/cgroup")


@cache
def is_version_2() -> bool:
    return (_MOUNT / "cgroup.controllers").exists()


def _hierarchies() -> list[Path]:
    if is_version_2():
        return [_MOUNT]
    return [path for path in _MOUNT.iterdir() if path.is_dir() and not path.is_symlink()] if _MOUNT.is_dir() else []


def pod_limits(pod: Obj) -> dict[str, int]:
    """The pod's limits, where every container has one: cpu in milli-cores, memory in bytes; with the pod's overhead."""
    overhead = (pod.get("spec") or {}).get("overhead") or {}
    result: dict[str, int] = {}
    for resource in ("cpu", "memory"):
        own = ((pod.get("spec") or {}).get("resources") or {}).get("limits") or {}
        limits = [amounts(one.spec.get("resources"), "limits").get(resource) for one in by_kind(pod, "main", "sidecar")]
        inits = [amounts(one.spec.get("resources"), "limits").get(resource) for one in by_kind(pod, "init")]
        known = [parse(one) for one in limits if one]
        if resource in own:
            total = parse(own[resource])
            result[resource] = total.milli_value if resource == "cpu" else total.value
        elif limits and len(known) == len(limits) and all(inits):
            amount = [one.milli_value if resource == "cpu" else one.value for one in known]
            largest = [parse(one).milli_value if resource == "cpu" else parse(one).value for one in inits if one]
            result[resource] = max([sum(amount), *largest])
        if resource in result and resource in overhead:
            more = parse(overhead[resource])
            result[resource] += more.milli_value if resource == "cpu" else more.value
    return result


def make_pod(cgroup: str, pod: Obj) -> None:
    """Makes the pod's cgroup and sets its weight and limits. What this host lacks is left out."""
    shares = cpu_shares(pod_requests(pod).get("cpu", 0))
    limits = pod_limits(pod)
    values: dict[str, str]
    if is_version_2():
        values = {"cpu.weight": str(cpu_weight(shares))}
        if limits.get("cpu"):
            values["cpu.max"] = f"{cpu_quota(limits['cpu'])} {CPU_PERIOD_MICROSECONDS}"
        if limits.get("memory"):
            values["memory.max"] = str(limits["memory"])
        _make_v2(cgroup)
        _write(_MOUNT / cgroup.lstrip("/"), values)
        return
    values = {"cpu.shares": str(shares)}
    if limits.get("cpu"):
        values["cpu.cfs_quota_us"] = str(cpu_quota(limits["cpu"]))
    _write(_MOUNT / "cpu" / cgroup.lstrip("/"), values)
    if limits.get("memory"):
        _write(_MOUNT / "memory" / cgroup.lstrip("/"), {"memory.limit_in_bytes": str(limits["memory"])})


def raise_limits(cgroup: str, pod: Obj) -> None:
    """Lifts the pod's limits as far as it or its containers may need while they are being resized."""
    limits = pod_limits(pod)
    for resource, (hierarchy, old, new) in _LIMIT_FILES.items():
        path = (
            (_MOUNT if is_version_2() else _MOUNT / hierarchy) / cgroup.lstrip("/") / (new if is_version_2() else old)
        )
        with contextlib.suppress(OSError, ValueError):
            wanted = limits.get(resource)
            present = path.read_text().split()[0]
            if wanted is None:
                path.write_text("max" if is_version_2() else "-1")
            elif present not in ("max", "-1"):
                amount = cpu_quota(wanted) if resource == "cpu" else wanted
                path.write_text(str(max(int(present), amount)))


_LIMIT_FILES = {
    "cpu": ("cpu", "cpu.cfs_quota_us", "cpu.max"),
    "memory": ("memory", "memory.limit_in_bytes", "memory.max"),
}


def _make_v2(cgroup: str) -> None:
    """Makes the path, handing the controllers that exist down to each level."""
    path = _MOUNT
    for part in cgroup.strip("/").split("/"):
        with contextlib.suppress(OSError):
            wanted = (path / "cgroup.controllers").read_text().split()
            for controller in wanted:
                with contextlib.suppress(OSError):
                    (path / "cgroup.subtree_control").write_text(f"+{controller}")
        path = path / part
        path.mkdir(exist_ok=True)


def _write(folder: Path, values: dict[str, str]) -> None:
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
    for name, value in values.items():
        with contextlib.suppress(OSError):
            (folder / name).write_text(value)


def remove(cgroup: str) -> None:
    """Removes a cgroup with all below it, in every hierarchy; what still holds processes stays."""
    for hierarchy in _hierarchies():
        for folder in _deepest_first(hierarchy / cgroup.lstrip("/")):
            with contextlib.suppress(OSError):
                os.rmdir(folder)


def _deepest_first(root: Path) -> Iterator[str]:
    for folder, _, _ in os.walk(root, topdown=False):
        yield folder


def remove_pod(root: str, uid: str) -> None:
    """Removes the cgroup of the pod below `root`, whatever its quality of service."""
    for tier in ("", "/burstable", "/besteffort"):
        remove(f"{root}/kubepods{tier}/pod{uid}")


def pods_under(root: str) -> dict[str, str]:
    """Returns pod uid -> cgroup for all pod cgroups below `root`/kubepods, whether anything is in them or not."""
    found: dict[str, str] = {}
    for hierarchy in _hierarchies():
        base = hierarchy / root.lstrip("/") / "kubepods"
        for pattern in ("pod*", "burstable/pod*", "besteffort/pod*"):
            for path in base.glob(pattern):
                found[path.name.removeprefix("pod")] = "/" + str(path.relative_to(hierarchy))
    return found
