"""How long a pod takes to start on a running cluster, against the bare calls to the container runtime for the same pod.

`python -m benchmarks.pod_start NAME` measures on the cluster that `proa up --name NAME` made, whose node must have the
busybox image. A pod counts from its creation until the API shows it Ready; the floor is the time of RunPodSandbox,
CreateContainer and StartContainer; a deployment counts from its creation until its pod is Ready.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import uvloop

from proa.client.http import HttpClient
from proa.client.interface import DeleteOptions, ListOptions
from proa.client.kubeconfig import load
from proa.client.resources import DEPLOYMENTS, PODS
from proa.cluster import state
from proa.cluster.teardown import cgroup_root
from proa.kubelet.cri.client import CriRuntime

IMAGE = "docker.io/library/busybox:latest"
SECONDS_MAX = 30.0
COMMAND = ["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 1; done"]
CONTAINER = {"name": "c", "image": IMAGE, "imagePullPolicy": "IfNotPresent", "command": COMMAND}


async def bare(runtime: CriRuntime, folder: Path, cgroup: str) -> float:
    """Starts a container by the runtime's calls alone; returns seconds."""
    uid = uuid.uuid4().hex
    around: dict[str, Any] = {
        "metadata": {"name": "bare", "namespace": "bench", "uid": uid},
        "log_directory": str(folder),
        "linux": {
            "cgroup_parent": f"{cgroup}/bench/{uid}",
            "security_context": {"namespace_options": {}, "seccomp": {"profile_type": "RuntimeDefault"}},
        },
    }
    config = {
        "metadata": {"name": "c"},
        "image": {"image": IMAGE},
        "command": COMMAND,
        "log_path": "c.log",
        "linux": {},
    }
    begun = time.perf_counter()
    sandbox = await runtime.run_sandbox(around)
    await runtime.start_container(await runtime.create_container(sandbox, config, around))
    seconds = time.perf_counter() - begun
    await runtime.remove_sandbox(sandbox)
    return seconds


async def until_ready(client: HttpClient, label: str, act: Callable[[], Awaitable[Any]]) -> float:
    """Does something that makes a pod with the label `bench` appear; returns the seconds until it is Ready."""
    listed = await client.list(PODS, "default", ListOptions(label_selector=f"bench={label}"))
    options = ListOptions(label_selector=f"bench={label}", resource_version=listed.resource_version)
    stream = client.watch(PODS, "default", options)
    begun = time.perf_counter()
    doing = asyncio.ensure_future(act())
    async with asyncio.timeout(SECONDS_MAX):
        async for event in stream:
            conditions = (event.object.get("status") or {}).get("conditions") or []
            if any(one["type"] == "Ready" and one["status"] == "True" for one in conditions):
                break
    seconds = time.perf_counter() - begun
    await doing
    return seconds


async def pod(client: HttpClient) -> float:
    """Starts a pod; returns seconds."""
    name = f"bench-{uuid.uuid4().hex[:6]}"
    meta = {"name": name, "labels": {"bench": name}}
    obj = {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": {"containers": [CONTAINER]}}
    seconds = await until_ready(client, name, lambda: client.create(PODS, obj, "default"))
    await client.delete(PODS, name, "default", DeleteOptions(grace_seconds=0))
    return seconds


async def deployment(client: HttpClient) -> float:
    """Starts a deployment of one pod; returns seconds."""
    name = f"bench-{uuid.uuid4().hex[:6]}"
    labels = {"bench": name}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [CONTAINER]}}
    spec = {"replicas": 1, "selector": {"matchLabels": labels}, "template": template}
    obj = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": spec}
    seconds = await until_ready(client, name, lambda: client.create(DEPLOYMENTS, obj, "default"))
    await client.delete(DEPLOYMENTS, name, "default", DeleteOptions(propagation="Background"))
    return seconds


async def measure(cluster_name: str, rounds: int = 5) -> dict[str, float]:
    """Returns medians in seconds of `bare`, `pod` and `deployment`."""
    cluster = state.existing(cluster_name)
    node = next(iter(cluster.nodes))
    runtime = CriRuntime(f"unix://{cluster.run / node.name / 'containerd.sock'}")
    client = HttpClient(load(cluster.path / "kubeconfig"))
    kinds: dict[str, Callable[[], Awaitable[float]]] = {
        "bare": lambda: bare(runtime, cluster.path / "bench-logs", cgroup_root(cluster.name)),
        "pod": lambda: pod(client),
        "deployment": lambda: deployment(client),
    }
    seconds: dict[str, list[float]] = {kind: [] for kind in kinds}
    try:
        for _ in range(rounds):
            for kind, once in kinds.items():
                seconds[kind].append(await once())
    finally:
        await client.close()
        await runtime.close()
    return {kind: statistics.median(values) for kind, values in seconds.items()}


def main() -> None:
    medians = uvloop.run(measure(sys.argv[1] if len(sys.argv) > 1 else "default"))
    for kind, seconds in medians.items():
        print(f"{kind:12} {seconds * 1000:6.0f} ms   {seconds / medians['bare']:.2f} x bare calls")


if __name__ == "__main__":
    main()
