"""The API server over HTTPS with client certificates: reads, lists, durable creates, watches."""

from __future__ import annotations

import json
import statistics
import time
import uuid
from collections.abc import Iterator
from dataclasses import replace

import uvloop

from benchmarks.echo import EchoServer
from benchmarks.figures import Figure
from benchmarks.lab import Lab, admin_load, module
from benchmarks.load import Load, Outcome, generate
from benchmarks.watchers import Watchers, Watching
from proa.cluster import state
from proa.cluster.state import Cluster

ROUNDS = 3
LISTED = 1000
WATCHERS, CHANGES = 100, 300
IDLE_WATCHES = 500
BODY = json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c-%d"}, "data": {"key": "value"}})
_KIB = 1024


def plane(lab: Lab) -> Cluster:
    """Returns a control plane without nodes, on SQLite."""
    return lab.cluster("plane", "--nodes", "0")


def send(load: Load, expected: str) -> Outcome:
    """Sends a load; raises RuntimeError if any answer has another status."""
    outcome: Outcome = uvloop.run(generate(load))
    if set(outcome.statuses) != {expected}:
        raise RuntimeError(f"{load.method} {load.path}: answers by status {outcome.statuses}")
    return outcome


def rates(load: Load, expected: str) -> float:
    """Returns the median rate over the rounds."""
    return statistics.median(send(load, expected).per_second for _ in range(ROUNDS))


def new_namespace(cluster: Cluster) -> str:
    """Makes a namespace; returns the path of its config maps."""
    name = f"b-{uuid.uuid4().hex[:6]}"
    body = json.dumps({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    send(admin_load(cluster, "POST", "/api/v1/namespaces", 1, 1, body), "201")
    return f"/api/v1/namespaces/{name}/configmaps"


def filled(cluster: Cluster) -> str:
    """Makes a namespace with LISTED config maps; returns their path."""
    path = new_namespace(cluster)
    send(admin_load(cluster, "POST", path, 16, LISTED, BODY), "201")
    return path


def size(cluster: Cluster, path: str) -> int:
    """Returns the bytes of an answer's body."""
    from proa.cluster.up import Api

    return len(Api(cluster).get(path)[1])


def reads(lab: Lab) -> Iterator[Figure]:
    cluster = plane(lab)
    path = filled(cluster)
    for what, target, connections, requests, upstream in (
        ("GET of a ConfigMap, 16 clients", f"{path}/c-1", 16, 20000, 3100),
        (f"LIST of {LISTED:,} ConfigMaps, 4 clients", path, 4, 600, 125),
    ):
        load = admin_load(cluster, "GET", target, connections, requests)
        with EchoServer(cluster.path / "pki", size(cluster, target)) as echo:
            floor = rates(replace(load, port=echo.port), "200")
        measured = rates(load, "200")
        yield Figure(
            what=what,
            value=measured,
            unit="/s",
            floor=floor,
            floor_is="TLS echo",
            budget=4 * upstream,
            upstream=upstream,
        )


def creates(lab: Lab) -> Iterator[Figure]:
    cluster = plane(lab)
    for clients, requests, upstream, factor in ((1, 1000, 560, 0), (64, 6000, 1000, 2.5)):
        outcomes = [
            send(admin_load(cluster, "POST", new_namespace(cluster), clients, requests, BODY), "201")
            for _ in range(ROUNDS)
        ]
        arguments = {"directory": str(lab.path), "group": clients, "rows": requests}
        floor = statistics.median(module("benchmarks.store", arguments)["per_second"] for _ in range(ROUNDS))
        yield Figure(
            what=f"durable create, {clients} client{'s' * (clients > 1)}",
            value=statistics.median(outcome.per_second for outcome in outcomes),
            unit="/s",
            floor=floor,
            floor_is=f"SQLite, groups of {clients}",
            budget=factor * upstream or None,
            upstream=upstream,
        )


def fan_out(lab: Lab) -> Iterator[Figure]:
    cluster = plane(lab)

    def once() -> float:
        path = new_namespace(cluster)
        send(admin_load(cluster, "POST", path, 1, 1, BODY.replace("c-%d", "first")), "201")
        watch = admin_load(cluster, "GET", f"{path}?watch=1&fieldSelector=metadata.name!%3Dkube-root-ca.crt", 1, 1)
        with Watchers(Watching(watch, WATCHERS, CHANGES + 1)) as watchers:
            begun = time.monotonic()
            send(admin_load(cluster, "POST", path, 16, CHANGES, BODY), "201")
            return WATCHERS * CHANGES / (watchers.finished() - begun)

    value = statistics.median(once() for _ in range(ROUNDS))
    what = f"watch events to {WATCHERS} watchers, 16 writers"
    yield Figure(what=what, value=value, unit="/s", budget=3 * 23000, upstream=23000)


def idle_watches(lab: Lab) -> Iterator[Figure]:
    """On a control plane of its own: memory that earlier work freed would hide what a watch takes."""
    cluster = lab.cluster("idle-watches", "--nodes", "0")
    path = new_namespace(cluster)
    send(admin_load(cluster, "POST", path, 1, 1, BODY), "201")
    watch = admin_load(cluster, "GET", f"{path}?watch=1", 1, 1)
    server = state.processes(cluster.run)["server"].pid
    time.sleep(2)
    measured = _growth(server, watch)
    with EchoServer(cluster.path / "pki", 100) as echo:
        floor = _growth(echo.process.pid, replace(watch, port=echo.port))
    lab.discard("idle-watches")
    yield Figure(
        what="memory per idle watch over TLS",
        value=measured,
        unit="KiB",
        floor=floor,
        floor_is="TLS echo connection",
        budget=32,
    )


def _growth(pid: int, watch: Load) -> float:
    """Returns by how many KiB the process grows per connection."""
    before = state.resident_bytes(pid)
    with Watchers(Watching(watch, IDLE_WATCHES, 1_000_000)):
        time.sleep(1)
        return (state.resident_bytes(pid) - before) / IDLE_WATCHES / _KIB


def stall(lab: Lab) -> Iterator[Figure]:
    found = [module("benchmarks.store", {"directory": str(lab.path), "stall_seconds": 4.0}) for _ in range(ROUNDS)]
    yield Figure(
        what="longest store stall, 64 writers, compacting",
        value=statistics.median(one["stall_ms"] for one in found),
        unit="ms",
        floor=statistics.median(one["bare_ms"] for one in found),
        floor_is="longest bare commit",
        budget=50,
    )
