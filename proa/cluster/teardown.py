"""Takes a cluster away without a trace, whatever state it is in: running, half started, or all its processes killed.

Nothing here trusts a record alone: processes are found by the mark in their environment, containers by the root file
system or control group that they run in, mounts and namespaces by where they are.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from proa.cluster import kubeconfig, nodes, state
from proa.cluster.problems import Problem
from proa.cluster.state import Cluster

_STOP_SECONDS = 15.0


def cgroup_root(cluster_name: str) -> str:
    """Returns the control group, in every hierarchy, below which a cluster's pods are."""
    return f"/proa/{cluster_name}"


def check_root() -> None:
    """Raises Problem unless root runs this."""
    if os.geteuid() != 0:
        raise Problem("removing a cluster needs root", "sudo proa down")


def stop_processes(cluster: Cluster) -> None:
    """Ends supervisor, control plane, agents, containerds and every container of the cluster."""
    supervisor = state.processes(cluster.run).get("supervisor")
    if supervisor and supervisor.alive:
        _signal(supervisor.pid, signal.SIGTERM)
        _wait_gone([supervisor.pid], _STOP_SECONDS)
    for _ in range(20):  # a process may start another while we look
        found = {*state.marked(cluster.run), *container_processes(cluster)}
        left = [pid for pid in found if state.start_time(pid) is not None]  # zombies are for their parent to bury
        if not left:
            return
        for pid in left:
            _signal(pid, signal.SIGKILL)
        _wait_gone(left, 2.0)


def container_processes(cluster: Cluster) -> Iterator[int]:
    """Yields processes whose root file system is a snapshot of the cluster's, or whose control group is."""
    group, directory = f"{cgroup_root(cluster.name)}/", f"={cluster.directory}/"
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            lines = (entry / "cgroup").read_text().splitlines()
            if any(line.split(":", 2)[2].startswith(group) for line in lines):
                yield int(entry.name)
                continue
            for line in (entry / "mountinfo").read_text().splitlines():
                if line.split(" ", 5)[4] == "/":
                    if directory in line:
                        yield int(entry.name)
                    break


def remove(cluster: Cluster) -> None:
    """Ends everything and removes namespaces, mounts, control groups, files and the kubeconfig context."""
    stop_processes(cluster)
    unmount_below([str(cluster.run), cluster.directory])
    nodes.remove(cluster)
    remove_cgroups(cluster.name)
    for result in Path("/var/lib/cni/results").glob(f"{network_name(cluster.name, '')}*"):
        result.unlink(missing_ok=True)
    if cluster.kubeconfig:
        with contextlib.suppress(ValueError, OSError):
            kubeconfig.unmerge(Path(cluster.kubeconfig), kubeconfig.context_name(cluster.name))
    state.forget(cluster)


def network_name(cluster_name: str, node_name: str) -> str:
    """Returns the CNI network's name, which no other cluster on the machine has."""
    return f"proa.{cluster_name}.{node_name}"


def unmount_below(directories: Iterable[str]) -> None:
    """Unmounts everything mounted at or below the directories, last mounted first."""
    tops = tuple(os.path.realpath(one) for one in directories)
    points = [line.split(" ", 5)[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    ours = [
        point.replace("\\040", " ")
        for point in points
        if any(point == one or point.startswith(f"{one}/") for one in tops)
    ]
    if ours:
        subprocess.run(["umount", "--lazy", "--no-mtab", *reversed(ours)], capture_output=True, check=False)


def remove_cgroups(cluster_name: str) -> None:
    """Removes the cluster's control groups, empty by now, from every hierarchy."""
    base = Path("/sys/fs/cgroup")
    for hierarchy in [base, *base.glob("*/")]:
        top = hierarchy / cgroup_root(cluster_name).strip("/")
        if not top.is_dir():
            continue
        for directory, _, _ in os.walk(top, topdown=False):
            with contextlib.suppress(OSError):
                os.rmdir(directory)
        with contextlib.suppress(OSError):
            os.rmdir(top.parent)


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _wait_gone(pids: Iterable[int], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    for pid in pids:
        while state.start_time(pid) is not None and time.monotonic() < deadline:
            time.sleep(0.01)
