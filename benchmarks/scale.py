"""Five thousand simulated nodes in one process: what they cost at rest, how fast and at which cost pods come to them.

`rates` and `workloads` take minutes, `full` (50,000 pods) longer: they run when they are named. Seconds are the wall's,
and suffer from whatever else the machine does; CPU time is the control plane's process, less what the nodes' leases
cost at rest, for a run that takes longer because the machine is busy renews more of them.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Generator, Iterator
from http.client import HTTPException
from typing import Any

from benchmarks.api import send
from benchmarks.figures import Figure
from benchmarks.lab import Lab, admin_load, cpu_seconds
from benchmarks.pod_cost import PODS, SHAPES, Cost, echo_cost_ms, newest_revision, once, row_cost_ms, until_idle
from benchmarks.simulated import SPEC, deployment, new_namespace
from proa.cluster import state
from proa.cluster.state import Cluster
from proa.cluster.up import Api

NODES = 5000
ROUNDS = 3
FULL_PODS = 50_000
JOB_INDEXES, JOB_PARALLELISM = 10_000, 1000
ENDPOINTS = 5000
IDLE_SECONDS = 30
_POLL_SECONDS = 0.5
_MIB, _KIB = 1 << 20, 1 << 10
_ON_NODES = f"{NODES:,} simulated nodes"


def _cluster(lab: Lab) -> Cluster:
    return lab.cluster("scale", "--nodes", "0", "--simulated-nodes", str(NODES))


def _server(cluster: Cluster) -> int:
    return state.processes(cluster.run)["server"].pid


# ---------------------------------------------------------------- at rest, and pods by the thousand


def rates(lab: Lab) -> Iterator[Figure]:
    """Memory and idle CPU; pods created and bound, and Running, by the second and by the CPU second."""
    yield from _start(lab)
    cluster = _cluster(lab)
    rest = yield from _at_rest(cluster, _ON_NODES)
    bound: dict[str, list[Cost]] = {shape.what: [] for shape in SHAPES}
    running: dict[str, list[Cost]] = {shape.what: [] for shape in SHAPES}
    for _ in range(ROUNDS):
        for shape in SHAPES:
            bound[shape.what].append(once(cluster, shape, "spec.nodeName!%3D"))
            running[shape.what].append(once(cluster, shape, "status.phase%3DRunning"))
    echo_ms, row_ms = echo_cost_ms(cluster), row_cost_ms(cluster)
    for shape in SHAPES:
        costs = bound[shape.what], running[shape.what]
        floor_ms = echo_ms * shape.count / PODS + row_ms * statistics.median(one.revisions for one in costs[1])
        for what, rounds, budget in (("created and bound", costs[0], None), ("created to Running", costs[1], 500)):
            yield Figure(
                what=f"{shape.what}, {PODS:,} pods {what}, {_ON_NODES}",
                value=statistics.median(PODS / one.seconds for one in rounds),
                unit="/s",
                floor=1000 / floor_ms,
                floor_is="TLS echoes and bare commits on one core",
                budget=budget,
            )
        yield Figure(
            what=f"{shape.what}, CPU from create to Ready, {_ON_NODES}",
            value=statistics.median(one.server_ms - rest * one.span_seconds * 1000 / PODS for one in costs[1]),
            unit="ms/pod",
            floor=floor_ms,
            floor_is="TLS echoes and bare commits",
        )
    yield _silent(cluster)


def _start(lab: Lab) -> Iterator[Figure]:
    lab.discard("scale")
    start = lab.up("scale", "--nodes", "0", "--simulated-nodes", str(NODES))
    server = _server(_cluster(lab))
    used = cpu_seconds(server)
    yield Figure(what=f"`proa up` to {NODES:,} simulated nodes Ready (CPU {used:.1f} s)", value=start.ready, unit="s")


def _at_rest(cluster: Cluster, what: str) -> Generator[Figure, None, float]:
    """Returns the share of a core that the server takes while nothing happens but leases."""
    server = _server(cluster)
    share = _share_at_rest(server)
    resident = state.resident_bytes(server) / _MIB
    yield Figure(what=f"resident memory: server, {what}", value=resident, unit="MiB")
    yield Figure(what=f"idle CPU over {IDLE_SECONDS} s: server, {what}", value=share * 100, unit="% of a core")
    return share


def _share_at_rest(server: int) -> float:
    until_idle(server)
    before, begun = cpu_seconds(server), time.monotonic()
    time.sleep(IDLE_SECONDS)
    return (cpu_seconds(server) - before) / (time.monotonic() - begun)


def _silent(cluster: Cluster) -> Figure:
    """Counts nodes that are called silent although nothing is wrong with them but our own load."""
    nodes = json.loads(Api(cluster).send("GET", "/api/v1/nodes", 60)[1])["items"]
    tainted = sum(bool(node["spec"].get("taints")) for node in nodes)
    return Figure(what="nodes that were called silent under this load", value=float(tainted), unit="nodes", budget=0.5)


# ---------------------------------------------------------------- controllers


def workloads(lab: Lab) -> Iterator[Figure]:
    """A DaemonSet on all nodes, a Job of 10,000 indexes, a service over thousands of pods."""
    cluster = _cluster(lab)
    rest = _share_at_rest(_server(cluster))
    echo_ms, row_ms = echo_cost_ms(cluster), row_cost_ms(cluster)

    def figures(what: str, pods: int, found: tuple[float, float, float]) -> Iterator[Figure]:
        seconds, cpu, revisions = found
        floor_ms = (echo_ms + row_ms * revisions) / pods
        yield Figure(what=what, value=seconds, unit="s", floor=floor_ms * pods / 1000, floor_is="bare commits")
        yield Figure(what=f"{what}: CPU", value=cpu * 1000 / pods, unit="ms/pod", floor=floor_ms, floor_is="the same")

    yield from figures(f"a DaemonSet on {_ON_NODES}", NODES, _daemon_set(cluster, rest))
    what = f"a Job of {JOB_INDEXES:,} indexes, {JOB_PARALLELISM:,} at a time"
    yield from figures(what, JOB_INDEXES, _job(cluster, rest))
    what = f"a Deployment of {ENDPOINTS:,} behind a service, to the last endpoint"
    yield from figures(what, ENDPOINTS, _service(cluster, rest))
    yield _silent(cluster)
    lab.discard("scale")


def _timed(
    cluster: Cluster, objects: dict[str, Any], done: Callable[[], bool], rest: float, limit: float
) -> tuple[float, float, int]:
    """Creates objects (by path); returns seconds until they are done, CPU seconds and revisions to the end.

    `rest`: the share of a core that is not theirs.
    """
    server = _server(cluster)
    until_idle(server)
    revision, before, begun = newest_revision(cluster), cpu_seconds(server), time.monotonic()
    for path, body in objects.items():
        send(admin_load(cluster, "POST", path, 1, 1, body if isinstance(body, str) else json.dumps(body)), "201")
    while not _answered(done):
        if time.monotonic() - begun > limit:
            raise RuntimeError(f"{', '.join(objects)}: not done after {limit:.0f} s")
        time.sleep(_POLL_SECONDS)
    seconds = time.monotonic() - begun
    until_idle(server)
    used = cpu_seconds(server) - before - rest * (time.monotonic() - begun)
    return seconds, used, newest_revision(cluster) - revision


def _answered(done: Callable[[], bool]) -> bool:
    try:
        return done()
    except (OSError, HTTPException):
        return False  # too busy to answer within seconds: asked again


def _status(cluster: Cluster, path: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Api(cluster).get(path)[1]).get("status") or {}
    return found


def _template(name: str, spec: dict[str, Any], annotations: dict[str, str] | None = None) -> dict[str, Any]:
    return {"metadata": {"labels": {"app": name}, "annotations": annotations or {}}, "spec": spec}


def _daemon_set(cluster: Cluster, rest: float) -> tuple[float, float, int]:
    path = f"/apis/apps/v1/namespaces/{new_namespace(cluster)}/daemonsets"
    spec = {"selector": {"matchLabels": {"app": "bench"}}, "template": _template("bench", SPEC)}
    body = {"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": "bench"}, "spec": spec}

    def done() -> bool:
        return bool(_status(cluster, f"{path}/bench").get("numberAvailable", 0) >= NODES)

    return _timed(cluster, {path: body}, done, rest, 600)


def _job(cluster: Cluster, rest: float) -> tuple[float, float, int]:
    path = f"/apis/batch/v1/namespaces/{new_namespace(cluster)}/jobs"
    template = _template("bench", {**SPEC, "restartPolicy": "Never"}, {"proa.dev/life": "{run: {seconds: 1}}"})
    spec = {"completions": JOB_INDEXES, "parallelism": JOB_PARALLELISM, "completionMode": "Indexed"}
    body = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "bench"},
        "spec": {**spec, "template": template},
    }

    def done() -> bool:
        conditions = _status(cluster, f"{path}/bench").get("conditions") or ()
        return any(one["type"] == "Complete" and one["status"] == "True" for one in conditions)

    return _timed(cluster, {path: body}, done, rest, 900)


def _service(cluster: Cluster, rest: float) -> tuple[float, float, int]:
    namespace = new_namespace(cluster)
    spec = {"selector": {"app": "bench"}, "ports": [{"port": 80}]}
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "bench"}, "spec": spec}

    def done() -> bool:
        listed = Api(cluster).get(f"/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices")[1]
        return listed.count(b'"ready":true') >= ENDPOINTS

    objects = {
        f"/api/v1/namespaces/{namespace}/services": service,
        f"/apis/apps/v1/namespaces/{namespace}/deployments": deployment("bench", ENDPOINTS),
    }
    return _timed(cluster, objects, done, rest, 600)


# ---------------------------------------------------------------- all that the design promises


def full(lab: Lab) -> Iterator[Figure]:
    """One Deployment of 50,000 pods on 5,000 nodes."""
    lab.discard("scale")
    cluster = _cluster(lab)
    server = _server(cluster)
    path = f"/apis/apps/v1/namespaces/{new_namespace(cluster)}/deployments"
    rest = _share_at_rest(server)
    resident = state.resident_bytes(server)

    def done() -> bool:
        return bool(_status(cluster, f"{path}/bench").get("availableReplicas", 0) >= FULL_PODS)

    seconds, cpu, revisions = _timed(cluster, {path: deployment("bench", FULL_PODS)}, done, rest, 1800)
    what = f"a Deployment of {FULL_PODS:,} on {_ON_NODES}"
    floor_ms = row_cost_ms(cluster) * revisions / FULL_PODS
    yield Figure(
        what=f"{what}: available", value=FULL_PODS / seconds, unit="/s", floor=1000 / floor_ms, floor_is="bare commits"
    )
    yield Figure(what=f"{what}: CPU", value=cpu * 1000 / FULL_PODS, unit="ms/pod", floor=floor_ms, floor_is="the same")
    grown = (state.resident_bytes(server) - resident) / _KIB / FULL_PODS
    yield Figure(what=f"{what}: memory", value=grown, unit="KiB/pod")
    yield from _at_rest(cluster, f"{NODES:,} nodes with {FULL_PODS:,} pods")
    yield _silent(cluster)
    lab.discard("scale")
