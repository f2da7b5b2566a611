"""Looks a machine over: what Proa needs, whether it is there, and the command that mends what is not."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from proa.cluster import containerd, nodes, state
from proa.cluster.problems import Problem

_DISK_BYTES_MIN = 2 * 2**30
_MEMORY_BYTES_MIN = 2**30


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at. `grade` is ok, note (something will not work, or work differently) or bad."""

    what: str
    grade: str
    detail: str
    remedy: str = ""


def examine() -> Iterator[Finding]:
    """Yields a finding per thing, the most basic first."""
    for check in _CHECKS:
        try:
            yield from check()
        except Problem as problem:
            yield Finding(check.__name__.strip("_").replace("_", " "), "bad", problem.what, problem.remedy)


def _python() -> Iterator[Finding]:
    version = ".".join(str(part) for part in sys.version_info[:3])
    yield Finding("Python", "ok", version)


def _root() -> Iterator[Finding]:
    if os.geteuid() == 0:
        yield Finding("root", "ok", "yes")
    else:
        yield Finding("root", "bad", "nodes need network namespaces and mounts", "sudo proa …")


def _containerd() -> Iterator[Finding]:
    yield Finding("containerd", "ok", ".".join(str(part) for part in containerd.version()))


def _tools() -> Iterator[Finding]:
    for tool, package, use in (
        ("runc", "runc", "runs containers"),
        ("ip", "iproute2", "makes nodes' networks"),
        ("nft", "nftables", "carries services"),
        ("iptables", "iptables", "host ports (the portmap plugin uses it)"),
        ("nsenter", "util-linux", "starts programs inside nodes"),
    ):
        path = shutil.which(tool)
        if path:
            yield Finding(tool, "ok", path)
        else:
            yield Finding(tool, "bad", f"not installed; {use}", f"apt-get install {package}")
    for tool, package, use in (
        ("conntrack", "conntrack", "clears UDP flows to endpoints that are gone"),
        ("kubectl", "kubernetes-client", "the client of your choice will do"),
        ("apt-get", "apt", "`proa image build` takes packages from it"),
    ):
        path = shutil.which(tool)
        if path:
            yield Finding(tool, "ok", path)
        else:
            yield Finding(tool, "note", f"not installed; {use}", f"apt-get install {package}")


def _cni_plugins() -> Iterator[Finding]:
    yield Finding("CNI plugins", "ok", str(containerd.cni_directory()))


def _control_groups() -> Iterator[Finding]:
    kind = control_groups()
    if kind == "none":
        yield Finding("cgroups", "bad", "no hierarchy is mounted", "mount -t cgroup2 none /sys/fs/cgroup")
    else:
        yield Finding("cgroups", "ok", kind)


def control_groups() -> str:
    """Returns `v2`, `hybrid`, `v1` or `none`."""
    base = Path("/sys/fs/cgroup")
    if (base / "cgroup.controllers").exists():
        return "v2"
    if (base / "unified" / "cgroup.controllers").exists():
        return "hybrid"
    return "v1" if (base / "memory").is_dir() else "none"


def _kernel() -> Iterator[Finding]:
    yield Finding("kernel", "ok", os.uname().release)
    if (
        not Path("/proc/sys/net/bridge").exists()
        and subprocess.run(["modprobe", "br_netfilter"], capture_output=True, check=False).returncode
    ):
        yield Finding("br_netfilter", "bad", "bridged pods would not see services", "modprobe br_netfilter")
    if containerd.lacks_sys_resource():
        yield Finding("CAP_SYS_RESOURCE", "note", "absent: out-of-memory scores of containers stay at the default")
    if not Path("/sys/module/apparmor").exists():
        yield Finding("AppArmor", "note", "absent: profiles that pods ask for are refused")
    try:
        socket.socket(socket.AF_INET, socket.SOCK_STREAM, 132).close()
    except OSError:
        yield Finding("SCTP", "note", "absent: services with protocol SCTP do not work")


def _space() -> Iterator[Finding]:
    place = state.home()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if free < _DISK_BYTES_MIN:
        yield Finding("disk", "bad", f"{free / 2**30:.1f} GiB free in {place}", "make room, or use --data-dir")
    else:
        yield Finding("disk", "ok", f"{free / 2**30:.0f} GiB free in {place}")
    available = next(
        int(line.split()[1]) * 1024
        for line in Path("/proc/meminfo").read_text().splitlines()
        if line.startswith("MemAvailable:")
    )
    grade = "ok" if available >= _MEMORY_BYTES_MIN else "note"
    yield Finding("memory", grade, f"{available / 2**30:.1f} GiB available")
    if os.geteuid() == 0:
        kind = containerd.snapshotter(place)
        yield Finding("snapshots", "ok" if kind == "overlayfs" else "note", kind)


def _network() -> Iterator[Finding]:
    if shutil.which("ip"):
        segment = nodes.network(nodes.free_segment(0, [one.segment for one in state.all_clusters()]))
        yield Finding("address range", "ok", f"{segment} and others of {nodes.SEGMENTS} are free")


_CHECKS: tuple[Callable[[], Iterator[Finding]], ...] = (
    _python,
    _root,
    _containerd,
    _tools,
    _cni_plugins,
    _control_groups,
    _kernel,
    _space,
    _network,
)
