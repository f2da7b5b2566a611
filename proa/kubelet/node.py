"""This machine as a Node object: what it has, what it runs, how it is. Builds values; `heartbeat.py` sends them.

Follows upstream's node status: capacity and allocatable, addresses, conditions with their reasons, nodeInfo, images.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from proa.apis.storage.local_path import FOLDER_ANNOTATION
from proa.kubelet.cri.types import Condition, Image, Version
from proa.kubelet.options import KubeletOptions
from proa.meta.objects import Obj
from proa.util.clock import rfc3339

KUBELET_VERSION = "v1.36.2"
_IMAGES_MAX = 50
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm"}
# Upstream's default hard eviction thresholds: below them the node is under pressure. But a machine that is used for
# other things, too, may well have a tenth of a large disk left: what is absolutely enough is enough.
MEMORY_AVAILABLE_MIN = 100 * 1024 * 1024
_DISK_AVAILABLE_SHARE_MIN = 0.10
_DISK_AVAILABLE_ENOUGH = 4 * 1024**3
_INODES_FREE_SHARE_MIN = 0.05
_INODES_FREE_ENOUGH = 200_000

# What a kubelet tells when it reports a condition of this status for the first time.
TRANSITIONS: Mapping[tuple[str, str], str] = {
    ("MemoryPressure", "True"): "NodeHasInsufficientMemory",
    ("MemoryPressure", "False"): "NodeHasSufficientMemory",
    ("DiskPressure", "True"): "NodeHasDiskPressure",
    ("DiskPressure", "False"): "NodeHasNoDiskPressure",
    ("PIDPressure", "True"): "NodeHasInsufficientPID",
    ("PIDPressure", "False"): "NodeHasSufficientPID",
    ("Ready", "True"): "NodeReady",
    ("Ready", "False"): "NodeNotReady",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What is measured of the machine; bytes, milli-cores, counts."""

    cpu_milli: int
    memory_bytes: int
    memory_available_bytes: int
    disk_bytes: int
    disk_available_bytes: int
    inodes: int
    inodes_free: int
    processes: int
    processes_max: int


def measure(options: KubeletOptions) -> Machine:
    """Reads the machine's figures from /proc and the file system of the root folder."""
    memory = _memory_info()
    options.root.mkdir(parents=True, exist_ok=True)
    disk = os.statvfs(options.root)
    return Machine(
        cpu_milli=options.cpu_capacity_milli or 1000 * (os.cpu_count() or 1),
        memory_bytes=options.memory_capacity_bytes or memory.get("MemTotal", 0),
        memory_available_bytes=memory.get("MemAvailable", 0),
        disk_bytes=disk.f_blocks * disk.f_frsize,
        disk_available_bytes=disk.f_bavail * disk.f_frsize,
        inodes=disk.f_files,
        inodes_free=disk.f_favail,
        processes=_first_number("/proc/loadavg"),
        processes_max=_first_number("/proc/sys/kernel/pid_max"),
    )


def _memory_info() -> dict[str, int]:
    result = {}
    for line in Path("/proc/meminfo").read_text().splitlines():
        name, _, rest = line.partition(":")
        result[name] = int(rest.split()[0]) * (1024 if rest.endswith("kB") else 1)
    return result


def _first_number(path: str) -> int:
    text = Path(path).read_text()
    # /proc/loadavg: 0.1 0.2 0.3 running/total last; the total counts threads, as the pid limit does.
    return int(text.split()[3].partition("/")[2]) if path.endswith("loadavg") else int(text)


def base_labels(options: KubeletOptions) -> dict[str, str]:
    architecture = _ARCHITECTURES.get(platform.machine(), platform.machine())
    return {
        "beta.kubernetes.io/arch": architecture,
        "beta.kubernetes.io/os": "linux",
        "kubernetes.io/arch": architecture,
        "kubernetes.io/hostname": options.node_name,
        "kubernetes.io/os": "linux",
        **options.labels,
    }


def new_node(options: KubeletOptions) -> Obj:
    """Returns the Node to register, without status."""
    spec: Obj = {}
    if options.taints:
        spec["taints"] = [dict(taint) for taint in options.taints]
    if options.provider_id:
        spec["providerID"] = options.provider_id
    annotations = {"volumes.kubernetes.io/controller-managed-attach-detach": "true", **options.annotations}
    if options.local_volumes is not None:
        annotations[FOLDER_ANNOTATION] = str(options.local_volumes)
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": options.node_name, "labels": base_labels(options), "annotations": annotations},
        "spec": spec,
    }


def resources(options: KubeletOptions, machine: Machine) -> tuple[dict[str, str], dict[str, str]]:
    """Returns (capacity, allocatable) as quantity texts."""
    capacity = {
        "cpu": _cpu(machine.cpu_milli),
        "ephemeral-storage": f"{machine.disk_bytes // 1024}Ki",
        "memory": f"{machine.memory_bytes // 1024}Ki",
        "pods": str(options.pods_max),
    }
    allocatable = {
        **capacity,
        "cpu": _cpu(max(0, machine.cpu_milli - options.cpu_reserved_milli)),
        "ephemeral-storage": str(int(machine.disk_bytes * (1 - _DISK_AVAILABLE_SHARE_MIN))),
        "memory": f"{max(0, machine.memory_bytes - options.memory_reserved_bytes) // 1024}Ki",
    }
    for folder in sorted(Path("/sys/kernel/mm/hugepages").glob("hugepages-*kB")):
        kilobytes = int(folder.name.removeprefix("hugepages-").removesuffix("kB"))
        total = int((folder / "nr_hugepages").read_text()) * kilobytes
        name = f"hugepages-{kilobytes // 1024}Mi" if kilobytes < 1024 * 1024 else f"hugepages-{kilobytes // 1024**2}Gi"
        capacity[name] = allocatable[name] = f"{total}Ki" if total else "0"
    return capacity, allocatable


def _cpu(milli: int) -> str:
    return str(milli // 1000) if milli % 1000 == 0 else f"{milli}m"


def addresses(options: KubeletOptions) -> list[Obj]:
    internal = [{"type": "InternalIP", "address": address} for address in options.node_ips]
    return [*internal, {"type": "Hostname", "address": options.node_name}]


def node_info(version: Version | None) -> Obj:
    def read(path: str) -> str:
        try:
            return Path(path).read_text().strip()
        except OSError:
            return ""

    names = dict(line.partition("=")[::2] for line in read("/etc/os-release").splitlines() if "=" in line)
    return {
        "machineID": read("/etc/machine-id"),
        "systemUUID": read("/sys/class/dmi/id/product_uuid") or read("/etc/machine-id"),
        "bootID": read("/proc/sys/kernel/random/boot_id"),
        "kernelVersion": platform.release(),
        "osImage": names.get("PRETTY_NAME", "Linux").strip('"'),
        "containerRuntimeVersion": f"{version.name}://{version.version}" if version else "",
        "kubeletVersion": KUBELET_VERSION,
        "kubeProxyVersion": "",
        "operatingSystem": "linux",
        "architecture": _ARCHITECTURES.get(platform.machine(), platform.machine()),
    }


def images_status(images: Sequence[Image]) -> list[Obj]:
    """The largest images on the node, with all their names."""
    listed = sorted((one for one in images if one.tags or one.digests), key=lambda one: -one.size_bytes)
    return [{"names": [*one.digests, *one.tags], "sizeBytes": one.size_bytes} for one in listed[:_IMAGES_MAX]]


def conditions(
    machine: Machine, runtime: Sequence[Condition], failure: str, before: Sequence[Obj], now: datetime
) -> list[Obj]:
    """Returns the node's conditions; others' conditions are kept. `failure` is why the kubelet itself is not ready."""
    disk_short = machine.disk_available_bytes < min(
        machine.disk_bytes * _DISK_AVAILABLE_SHARE_MIN, _DISK_AVAILABLE_ENOUGH
    ) or machine.inodes_free < min(machine.inodes * _INODES_FREE_SHARE_MIN, _INODES_FREE_ENOUGH)
    wanted = [
        _pressure(
            "MemoryPressure",
            machine.memory_available_bytes < MEMORY_AVAILABLE_MIN,
            ("KubeletHasInsufficientMemory", "kubelet has insufficient memory available"),
            ("KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
        ),
        _pressure(
            "DiskPressure",
            disk_short,
            ("KubeletHasDiskPressure", "kubelet has disk pressure"),
            ("KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
        ),
        _pressure(
            "PIDPressure",
            machine.processes > machine.processes_max * 0.9,
            ("KubeletHasInsufficientPID", "kubelet has insufficient PID available"),
            ("KubeletHasSufficientPID", "kubelet has sufficient PID available"),
        ),
        _ready(runtime, failure),
    ]
    known = {one["type"]: one for one in before}
    result = []
    for condition in wanted:
        old = known.pop(condition["type"], None)
        same = old is not None and old.get("status") == condition["status"]
        condition["lastHeartbeatTime"] = rfc3339(now)
        condition["lastTransitionTime"] = old["lastTransitionTime"] if same and old else rfc3339(now)
        result.append(condition)
    return [*known.values(), *result]


def _pressure(kind: str, present: bool, bad: tuple[str, str], good: tuple[str, str]) -> Obj:
    reason, message = bad if present else good
    return {"type": kind, "status": "True" if present else "False", "reason": reason, "message": message}


def _ready(runtime: Sequence[Condition], failure: str) -> Obj:
    problems = [failure] if failure else []
    for one in runtime:
        if not one.status:
            what = "network" if one.type == "NetworkReady" else "status"
            problems.append(
                f"container runtime {what} not ready: {one.type}=false reason:{one.reason} message:{one.message}"
            )
    if not runtime and not failure:
        problems.append("container runtime status check may not have completed yet")
    if problems:
        message = problems[0] if len(problems) == 1 else f"[{', '.join(problems)}]"
        return {"type": "Ready", "status": "False", "reason": "KubeletNotReady", "message": message}
    message = "kubelet is posting ready status"
    return {"type": "Ready", "status": "True", "reason": "KubeletReady", "message": message}
