"""A single-node cluster on real parts: how fast it starts, what it takes while nothing happens, how fast pods start."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Iterator

import uvloop

from benchmarks import pod_start
from benchmarks.figures import Figure
from benchmarks.lab import Lab, cpu_seconds, proa
from proa.cluster import state
from proa.cluster.state import Cluster

ROUNDS = 5
SETTLE_SECONDS = 10
IDLE_SECONDS = 60
_MIB = 1 << 20
# The libraries that the server cannot do without: what starting Python costs by itself.
_BARE = "import asyncio, ssl, uvloop, httptools, msgspec, apsw, cryptography.x509"


def node(lab: Lab) -> Cluster:
    return lab.cluster("node")


def start(lab: Lab) -> Iterator[Figure]:
    """The last of the clusters stays for what else is measured on one."""
    starts, bare = [], []
    for _ in range(ROUNDS):
        lab.discard("node")
        starts.append(lab.up("node"))
        begun = time.perf_counter()
        subprocess.run([sys.executable, "-c", _BARE], check=True)
        bare.append(time.perf_counter() - begun)
    floor = statistics.median(bare)
    for what, values, budget, upstream in (
        ("`proa up` to /readyz", [one.serving for one in starts], None, None),
        ("control plane's process to /readyz", [one.server for one in starts], 0.5, 3.0),
        ("`proa up` to first node Ready", [one.ready for one in starts], 1.5, None),
    ):
        yield Figure(
            what=what,
            value=statistics.median(values),
            unit="s",
            floor=floor,
            floor_is="Python and libraries",
            budget=budget,
            upstream=upstream,
        )


def _own(cluster: Cluster) -> dict[str, int]:
    """Returns the pids of the cluster's processes that are Proa's own, by name."""
    found = state.processes(cluster.run)
    return {name: process.pid for name, process in found.items() if not name.startswith("containerd")}


def memory(lab: Lab) -> Iterator[Figure]:
    cluster = node(lab)
    time.sleep(SETTLE_SECONDS)
    for name, pid in _own(cluster).items():
        kind = name.partition(".")[0]
        budget, upstream = {"server": (90, 495), "agent": (60, None)}.get(kind, (None, None))
        value = state.resident_bytes(pid) / _MIB
        yield Figure(what=f"resident memory: {kind}", value=value, unit="MiB", budget=budget, upstream=upstream)


def idle(lab: Lab) -> Iterator[Figure]:
    cluster = node(lab)
    time.sleep(SETTLE_SECONDS)
    pids = _own(cluster)
    before = {name: cpu_seconds(pid) for name, pid in pids.items()}
    time.sleep(IDLE_SECONDS)
    used = {name.partition(".")[0]: (cpu_seconds(pid) - before[name]) / IDLE_SECONDS for name, pid in pids.items()}
    parts = ", ".join(f"{name} {share:.2%}" for name, share in used.items())
    yield Figure(
        what=f"idle CPU over {IDLE_SECONDS} s ({parts})",
        value=sum(used.values()) * 100,
        unit="% of a core",
        budget=0.5,
        upstream=5.2,
    )


def pods(lab: Lab) -> Iterator[Figure]:
    cluster = node(lab)
    proa("image", "build", pod_start.IMAGE, "--deb", "busybox-static", "--load", "--name", cluster.name)
    medians = uvloop.run(pod_start.measure(cluster.name, ROUNDS))
    for what, kind, budget, ratio, upstream in (
        ("pod created to Ready", "pod", None, 1.15, None),
        ("deployment created to pod Ready", "deployment", 0.35, None, 0.69),
    ):
        yield Figure(
            what=what,
            value=medians[kind],
            unit="s",
            floor=medians["bare"],
            floor_is="bare CRI calls",
            budget=budget,
            budget_ratio=ratio,
            upstream=upstream,
        )
