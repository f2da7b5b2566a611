"""Pods created, bound and run on simulated nodes, through the whole control plane over HTTPS."""

from __future__ import annotations

import json
import statistics
import time
import uuid
from collections.abc import Iterator

from benchmarks.api import send
from benchmarks.figures import Figure
from benchmarks.lab import Lab, admin_load
from benchmarks.watchers import Watchers, Watching
from proa.cluster.state import Cluster

ROUNDS = 3
NODES = 100
PODS = 1000
WRITERS = 16
SPEC = {"containers": [{"name": "c", "image": "bench", "resources": {"requests": {"cpu": "1m", "memory": "1Mi"}}}]}


def pods(lab: Lab) -> Iterator[Figure]:
    cluster = lab.cluster("simulated", "--nodes", "0", "--simulated-nodes", str(NODES))
    bound, running, deployed = [], [], []
    for _ in range(ROUNDS):
        seconds = _timed(cluster, "pods", WRITERS, PODS, pod())
        bound.append(PODS / seconds[0])
        running.append(PODS / seconds[1])
        deployed.append(PODS / _timed(cluster, "deployments", 1, 1, deployment("bench", PODS))[0])
    lab.discard("simulated")
    for what, values, budget, upstream in (
        (f"pods created and bound, {NODES} nodes", bound, 600, 150),
        (f"pods created to Running, {NODES} simulated nodes", running, 500, None),
        (f"a Deployment of {PODS:,}: pods bound", deployed, None, 22),
    ):
        yield Figure(what=what, value=statistics.median(values), unit="/s", budget=budget, upstream=upstream)


def _timed(cluster: Cluster, kind: str, writers: int, count: int, body: str) -> tuple[float, float]:
    """Creates `count` objects in a new namespace; returns the seconds until PODS pods are bound, and Running."""
    namespace = new_namespace(cluster)
    watch = f"/api/v1/namespaces/{namespace}/pods?watch=1&fieldSelector="
    bound = Watching(admin_load(cluster, "GET", watch + "spec.nodeName!%3D", 1, 1), 1, PODS, '{"type":"ADDED"')
    running = Watching(admin_load(cluster, "GET", watch + "status.phase%3DRunning", 1, 1), 1, PODS, '{"type":"ADDED"')
    group = "/api/v1" if kind == "pods" else "/apis/apps/v1"
    load = admin_load(cluster, "POST", f"{group}/namespaces/{namespace}/{kind}", writers, count, body)
    with Watchers(bound) as first, Watchers(running) as second:
        begun = time.monotonic()
        send(load, "201")
        return first.finished() - begun, second.finished() - begun


def new_namespace(cluster: Cluster) -> str:
    """Makes a namespace that takes pods; returns its name."""
    namespace = f"b-{uuid.uuid4().hex[:6]}"
    meta = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}
    send(admin_load(cluster, "POST", "/api/v1/namespaces", 1, 1, json.dumps(meta)), "201")
    # Pods are refused before the namespace has its service account.
    _until_admitted(cluster, namespace)
    return namespace


def _until_admitted(cluster: Cluster, namespace: str, seconds_max: float = 10.0) -> None:
    from proa.cluster.up import Api

    api, deadline = Api(cluster), time.monotonic() + seconds_max
    while api.get(f"/api/v1/namespaces/{namespace}/serviceaccounts/default")[0] != 200:
        if time.monotonic() > deadline:
            raise RuntimeError("the namespace gets no service account")
        time.sleep(0.02)


def pod() -> str:
    return json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p-%d"}, "spec": SPEC})


def deployment(name: str, replicas: int) -> str:
    labels = {"app": name}
    template = {"metadata": {"labels": labels}, "spec": SPEC}
    spec = {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template}
    return json.dumps({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": spec})
