"""What one pod costs in CPU time, from its creation to the state where nothing more happens to it.

All of the control plane is one process (API server, store, scheduler, controllers, and the simulated kubelets where
there are any), so its CPU seconds divided by the pods are the cost; who else works on the machine changes them little.
The floor is what cannot be saved: for each pod the TLS echo of one request of that size for every request that came in,
and one bare row in a group commit for every revision that the store took.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

from benchmarks.api import send
from benchmarks.echo import EchoServer
from benchmarks.figures import Figure
from benchmarks.lab import Lab, admin_load, cpu_seconds, module
from benchmarks.simulated import deployment, new_namespace, pod
from benchmarks.watchers import Watchers, Watching
from proa.cluster import state
from proa.cluster.state import Cluster
from proa.cluster.up import Api

ROUNDS = 3
NODES = 100
PODS = 1000
DEPLOYMENTS = 100
WRITERS = 16
GROUP = 16  # about so many writes share a commit while pods come
_LOOK_SECONDS = 0.3
_IDLE_LOOKS = 3
_IDLE_SHARE = 0.25  # of a core: less than that, and the work is over
_ANSWER_BYTES = 2500  # about what the answer to the creation of such a pod takes


@dataclass(frozen=True, slots=True)
class Shape:
    """How PODS pods come into being: `count` objects of a `kind` are created, with this body."""

    what: str
    kind: str
    count: int
    body: str

    @property
    def path(self) -> str:
        return "/api/v1" if self.kind == "pods" else "/apis/apps/v1"


SHAPES = (
    Shape("single pods", "pods", PODS, pod()),
    Shape("one Deployment", "deployments", 1, deployment("bench", PODS)),
    Shape(f"{DEPLOYMENTS} Deployments", "deployments", DEPLOYMENTS, deployment("bench-%d", PODS // DEPLOYMENTS)),
)


@dataclass(frozen=True, slots=True)
class Cost:
    """Milliseconds of CPU time per pod of the control plane's process and the client's, revisions per pod, the seconds
    from the first request to the last pod, and those until nothing more happened.
    """

    server_ms: float
    client_ms: float
    revisions: float
    seconds: float
    span_seconds: float


def costs(lab: Lab) -> Iterator[Figure]:
    """Yields the cost of each shape, to bound (nodes without kubelets) and to Running (simulated nodes)."""
    bare = lab.cluster("pod-cost-bare", "--nodes", "0")
    _make_nodes(bare)
    yield from _measured(bare, f"bound, {NODES} nodes without kubelets", "spec.nodeName!%3D")
    lab.discard("pod-cost-bare")
    simulated = lab.cluster("pod-cost", "--nodes", "0", "--simulated-nodes", str(NODES))
    yield from _measured(simulated, f"Running, {NODES} simulated nodes", "status.phase%3DRunning")
    lab.discard("pod-cost")


def _measured(cluster: Cluster, until: str, selector: str) -> Iterator[Figure]:
    found: dict[str, list[Cost]] = {shape.what: [] for shape in SHAPES}
    for _ in range(ROUNDS):
        for shape in SHAPES:
            _renew_leases(cluster)
            found[shape.what].append(once(cluster, shape, selector))
    echo_ms, row_ms = echo_cost_ms(cluster), row_cost_ms(cluster)
    for shape in SHAPES:
        rounds = found[shape.what]
        revisions = statistics.median(one.revisions for one in rounds)
        client_ms = statistics.median(one.client_ms for one in rounds)
        yield Figure(
            what=f"{shape.what} to {until} ({revisions:.1f} revisions, client {client_ms:.2f} ms)",
            value=statistics.median(one.server_ms for one in rounds),
            unit="ms/pod",
            floor=echo_ms * shape.count / PODS + row_ms * revisions,
            floor_is="TLS echoes and bare commits",
        )


def once(cluster: Cluster, shape: Shape, selector: str) -> Cost:
    """Creates a shape's objects in a new namespace, and waits until all pods are as the field selector says."""
    server = state.processes(cluster.run)["server"].pid
    namespace = new_namespace(cluster)
    path = f"/api/v1/namespaces/{namespace}/pods?watch=1&fieldSelector={selector}"
    watching = Watching(admin_load(cluster, "GET", path, 1, 1), 1, PODS, '{"type":"ADDED"')
    load = admin_load(
        cluster, "POST", f"{shape.path}/namespaces/{namespace}/{shape.kind}", WRITERS, shape.count, shape.body
    )
    with Watchers(watching) as watchers:
        until_idle(server)
        revision, before, begun = newest_revision(cluster), cpu_seconds(server), time.monotonic()
        sent = send(load, "201")
        seconds = watchers.finished() - begun
        until_idle(server)
        span_seconds = time.monotonic() - begun
        used, revisions = cpu_seconds(server) - before, newest_revision(cluster) - revision
    return Cost(used * 1000 / PODS, sent.cpu_seconds * 1000 / PODS, revisions / PODS, seconds, span_seconds)


def until_idle(pid: int) -> None:
    """Waits until a process has had little to do for a few looks: on a busy machine it may merely have had to wait.
    Renewing thousands of leases counts as little."""
    before, began, idle = cpu_seconds(pid), time.monotonic(), 0
    while idle < _IDLE_LOOKS:
        time.sleep(_LOOK_SECONDS)
        now, at = cpu_seconds(pid), time.monotonic()
        idle = idle + 1 if now - before < _IDLE_SHARE * (at - began) else 0
        before, began = now, at


def newest_revision(cluster: Cluster) -> int:
    """Returns the store's newest revision."""
    answer = json.loads(Api(cluster).get("/api/v1/namespaces?limit=1")[1])
    return int(answer["metadata"]["resourceVersion"])


# ---------------------------------------------------------------- the floor


def echo_cost_ms(cluster: Cluster) -> float:
    """Returns the CPU time that a server needs for a bare exchange, in milliseconds."""
    load = admin_load(cluster, "POST", "/", WRITERS, 5 * PODS, pod())
    with EchoServer(cluster.path / "pki", _ANSWER_BYTES) as echo:
        before = cpu_seconds(echo.process.pid)
        send(replace(load, port=echo.port), "200")
        return (cpu_seconds(echo.process.pid) - before) * 1000 / (5 * PODS)


def row_cost_ms(cluster: Cluster) -> float:
    """Returns the CPU time of one row in a group commit, in milliseconds."""
    found = module("benchmarks.store", {"directory": str(cluster.path), "group": GROUP, "rows": 20 * PODS})
    return float(found["cpu_ms"])


# ---------------------------------------------------------------- nodes that nobody runs


def _make_nodes(cluster: Cluster) -> None:
    """Makes nodes that are Ready and do nothing; `_renew_leases` keeps them so."""
    capacity = {"cpu": "64", "memory": "256Gi", "pods": str(PODS)}
    ready = {"type": "Ready", "status": "True", "reason": "KubeletReady", "lastHeartbeatTime": _now()}
    status = {"capacity": capacity, "allocatable": capacity, "conditions": [ready]}
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "bare-%d"}, "status": status}
    send(admin_load(cluster, "POST", "/api/v1/nodes", WRITERS, NODES, json.dumps(node)), "201")
    leases = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
    send(admin_load(cluster, "POST", leases, WRITERS, NODES, _lease()), "201")
    deadline = time.monotonic() + 30
    while b"node.kubernetes.io/not-ready" in Api(cluster).get("/api/v1/nodes")[1]:
        if time.monotonic() > deadline:
            raise RuntimeError("the nodes keep their taints")
        time.sleep(0.1)


def _renew_leases(cluster: Cluster) -> None:
    if not cluster.simulated_nodes:
        leases = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/bare-%d"
        load = admin_load(cluster, "PATCH", leases, WRITERS, NODES, _lease())
        send(replace(load, content_type="application/merge-patch+json"), "200")


def _lease() -> str:
    spec = {"holderIdentity": "bare-%d", "leaseDurationSeconds": 40, "renewTime": _now(".000000Z")}
    meta = {"name": "bare-%d", "namespace": "kube-node-lease"}
    return json.dumps({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": meta, "spec": spec})


def _now(end: str = "Z") -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime()) + end
