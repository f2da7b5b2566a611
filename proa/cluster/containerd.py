"""A containerd of a node's own: its configuration for containerd 1.6 to 2.x on every kind of host, and readiness.

One version 2 file serves 1.6 and 1.7, and 2.x, whose CRI plugin is split in two (`cri.v1.images`, `cri.v1.runtime`),
gets a version 3 file. Everything that containerd would share with another containerd on the host (root, state, socket,
runc's root, pod network namespaces) is below the node's directories.
"""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from proa.cluster.images import PAUSE_IMAGE
from proa.cluster.problems import Problem

_CAP_SYS_RESOURCE = 24
_CNI_DIRECTORIES = ("/opt/cni/bin", "/usr/lib/cni", "/usr/libexec/cni")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Where a node's containerd keeps things, and what the host allows."""

    root: Path  # images and snapshots
    state: Path  # sockets, mounts: on a tmpfs if possible, short enough for socket names
    cni_config: Path
    cni_bin: Path
    snapshotter: str
    restrict_oom_score: bool
    version: tuple[int, int]

    @property
    def socket(self) -> Path:
        return self.state / "containerd.sock"


def render(settings: Settings) -> str:
    """Returns the configuration file's text."""
    head: dict[str, object] = {
        "version": 3 if settings.version >= (2, 0) else 2,
        "root": str(settings.root),
        "state": str(settings.state / "state"),
        "oom_score": 0,
    }
    runc = {"runtime_type": "io.containerd.runc.v2"}
    options = {"SystemdCgroup": False, "Root": str(settings.state / "runc")}
    common: dict[str, object] = {
        "restrict_oom_score_adj": settings.restrict_oom_score,
        "netns_mounts_under_state_dir": True,
        "disable_apparmor": not Path("/sys/module/apparmor").exists(),
        "tolerate_missing_hugetlb_controller": True,
        "max_container_log_line_size": 16384,
    }
    cni: dict[str, object] = {"conf_dir": str(settings.cni_config)}
    if settings.version >= (2, 1):
        cni["bin_dirs"] = [str(settings.cni_bin)]
    else:
        cni["bin_dir"] = str(settings.cni_bin)
    tables: dict[str, dict[str, object]] = {"": head, "grpc": {"address": str(settings.socket)}}
    if settings.version >= (2, 0):
        images, runtime = "plugins.'io.containerd.cri.v1.images'", "plugins.'io.containerd.cri.v1.runtime'"
        tables[images] = {"snapshotter": settings.snapshotter}
        tables[f"{images}.pinned_images"] = {"sandbox": PAUSE_IMAGE}
    else:
        runtime = "plugins.'io.containerd.grpc.v1.cri'"
        common["sandbox_image"] = PAUSE_IMAGE
    tables[runtime] = dict(common)
    tables[f"{runtime}.cni"] = cni
    default: dict[str, object] = {"default_runtime_name": "runc"}
    tables[f"{runtime}.containerd"] = (
        default if settings.version >= (2, 0) else {**default, "snapshotter": settings.snapshotter}
    )
    tables[f"{runtime}.containerd.runtimes.runc"] = dict(runc)
    tables[f"{runtime}.containerd.runtimes.runc.options"] = dict(options)
    return "\n".join(_table(name, values) for name, values in tables.items())


def _table(name: str, values: dict[str, object]) -> str:
    lines = [f"[{name}]"] if name else []
    return "\n".join([*lines, *(f"{key} = {_value(value)}" for key, value in values.items())]) + "\n"


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return "[" + ", ".join(_value(one) for one in value) + "]"
    return str(value) if isinstance(value, int) else f'"{value}"'


# ---------------------------------------------------------------- what the host has


def version() -> tuple[int, int]:
    """Returns (major, minor) of the installed containerd; raises Problem if there is none that serves."""
    program = shutil.which("containerd")
    if program is None:
        raise Problem("containerd is not installed", "run script/setup, or: apt-get install containerd runc")
    shown = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout
    found = re.search(r"\bv?(\d+)\.(\d+)\.\d+", shown)
    if found is None or (int(found[1]), int(found[2])) < (1, 6):
        raise Problem(f"containerd 1.6 or later is needed, found {shown.strip() or program}", "upgrade containerd")
    return int(found[1]), int(found[2])


def cni_directory() -> Path:
    """Returns where the reference CNI plugins are; raises Problem if they are nowhere."""
    for directory in _CNI_DIRECTORIES:
        if all((Path(directory) / plugin).exists() for plugin in ("bridge", "host-local", "portmap", "loopback")):
            return Path(directory)
    raise Problem(
        "the CNI plugins are not installed", "run script/setup, or: apt-get install containernetworking-plugins"
    )


def lacks_sys_resource() -> bool:
    """Tells whether this process may not lower OOM scores, as on many CI machines."""
    status = Path("/proc/self/status").read_text()
    effective = int(re.search(r"^CapEff:\s*([0-9a-f]+)", status, re.MULTILINE)[1], 16)  # type: ignore[index]
    return not effective >> _CAP_SYS_RESOURCE & 1


@functools.cache
def snapshotter(directory: Path) -> str:
    """Returns `overlayfs` if an overlay can be mounted below `directory`, else `native` (copies)."""
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=directory) as base:
        for name in ("lower", "upper", "work", "merged"):
            os.mkdir(f"{base}/{name}")
        options = f"lowerdir={base}/lower,upperdir={base}/upper,workdir={base}/work"
        command = ["mount", "-t", "overlay", "overlay", "-o", options, f"{base}/merged"]
        if subprocess.run(command, capture_output=True, check=False).returncode:
            return "native"
        subprocess.run(["umount", f"{base}/merged"], check=True)
    return "overlayfs"
