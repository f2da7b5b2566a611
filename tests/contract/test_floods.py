"""Floods by one user, over HTTPS: others are served, the one who floods is told to wait, nothing grows unbounded."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Iterator

import pytest

from proa.cluster.state import resident_bytes
from tests.support.apiserver_process import ApiServerProcess
from tests.support.rawhttp import Connection, Server, request

FLOODING = 100  # connections; a flow's queues hold 40 requests
LISTED = 500
WATCHES = 400
WATCH_BYTES_MAX = 160 * 1024  # with its TLS connection; measured: 48 KiB among 10,000
ROUNDS = 8
FLOWCONTROL = "/apis/flowcontrol.apiserver.k8s.io/v1"
# Room for few requests, so that few connections are a flood; mallory and bob share it.
LEVEL = {
    "metadata": {"name": "small"},
    "spec": {
        "type": "Limited",
        "limited": {
            "nominalConcurrencyShares": 5,
            "borrowingLimitPercent": 0,
            "limitResponse": {"type": "Queue", "queuing": {"queues": 64, "handSize": 4, "queueLengthLimit": 10}},
        },
    },
}
SCHEMA = {
    "metadata": {"name": "small"},
    "spec": {
        "priorityLevelConfiguration": {"name": "small"},
        "matchingPrecedence": 50,
        "distinguisherMethod": {"type": "ByUser"},
        "rules": [
            {
                "subjects": [{"kind": "User", "user": {"name": name}} for name in ("mallory", "bob")],
                "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "namespaces": ["*"]}],
            }
        ],
    },
}
SECONDS_MAX = 60.0
LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
CONFIG_MAPS = "/api/v1/namespaces/default/configmaps"
CREATED = "/api/v1/namespaces/kube-public/configmaps"
SCHEMA_UID = "x-kubernetes-pf-flowschema-uid"
NODE = {"Impersonate_User": "system:node:n1", "Impersonate_Group": "system:nodes"}


def user(name: str) -> dict[str, str]:
    return {"Impersonate_User": name}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    process = ApiServerProcess(tmp_path_factory.mktemp("floods"))
    process.start()
    try:
        made = Server(process.kubeconfig)
        assert process.process is not None
        made.pid = process.process.pid
        asyncio.run(prepare(made))
        yield made
    finally:
        process.kill()


async def prepare(server: Server) -> None:
    """Lets every user do everything, and makes what is listed."""
    admin = await server.connect()
    group = "rbac.authorization.k8s.io"
    binding = {
        "metadata": {"name": "everybody"},
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [{"apiGroup": group, "kind": "Group", "name": "system:authenticated"}],
    }
    made = await admin.request("POST", f"/apis/{group}/v1/clusterrolebindings", binding)
    assert made.status == 201, made.body

    for path, body in (("prioritylevelconfigurations", LEVEL), ("flowschemas", SCHEMA)):
        made = await admin.request("POST", f"{FLOWCONTROL}/{path}", body)
        assert made.status == 201, made.body
    uid = made.json["metadata"]["uid"]
    async with asyncio.timeout(SECONDS_MAX):
        while (await admin.request("GET", CONFIG_MAPS, **user("bob"))).headers[SCHEMA_UID] != uid:
            pass

    async def make(connection: Connection, first: int, step: int) -> None:
        for index in range(first, LISTED, step):
            body = {"metadata": {"name": f"c-{index}"}, "data": {"value": "x" * 500}}
            assert (await connection.request("POST", CONFIG_MAPS, body)).status == 201
        connection.close()

    makers = await server.connect_many(16)
    await asyncio.gather(*(make(one, first, len(makers)) for first, one in enumerate(makers)))
    admin.close()


async def flooded(connection: Connection, seen: Counter[int], stop: asyncio.Event, create: bool, who: str) -> None:
    """Asks again as soon as it is answered, until it is told to wait."""
    number = 0
    while not stop.is_set():
        number += 1
        if create:
            body = {"metadata": {"generateName": "flood-"}}
            answer = await connection.request("POST", CREATED, body, **user(who))
        else:
            answer = await connection.request("GET", CONFIG_MAPS, **user(who))
        seen[answer.status] += 1
        if answer.status == 429:
            assert answer.json["reason"] == "TooManyRequests" and int(answer.headers["retry-after"]) >= 1
            assert answer.headers[SCHEMA_UID]
            return


async def beat(connection: Connection) -> int:
    """A node renews its lease; returns the status."""
    lease = (await connection.request("GET", f"{LEASES}/n1", **NODE)).json
    lease["spec"]["renewTime"] = "2026-01-01T00:00:00.000000Z"
    return (await connection.request("PUT", f"{LEASES}/n1", lease, **NODE)).status


@pytest.mark.parametrize("create", [False, True], ids=["lists", "creates"])
async def test_a_flood_leaves_nodes_and_other_users_served(server: Server, create: bool) -> None:
    node, bob, stop = await server.connect(), await server.connect(), asyncio.Event()
    lease = {"metadata": {"name": "n1"}, "spec": {"holderIdentity": "n1"}}
    assert (await node.request("POST", LEASES, lease, **NODE)).status in (201, 409)
    seen: Counter[int] = Counter()
    connections = await server.connect_many(FLOODING)
    flood = [asyncio.create_task(flooded(one, seen, stop, create, "mallory")) for one in connections]
    async with asyncio.timeout(SECONDS_MAX):
        await asyncio.wait(flood, return_when=asyncio.FIRST_COMPLETED)
    beats, reads = Counter[int](), Counter[int]()
    for _ in range(ROUNDS):
        assert sum(not one.done() for one in flood) > FLOODING / 4
        beats[await beat(node)] += 1
        reads[(await bob.request("GET", f"{CONFIG_MAPS}/c-1", **user("bob"))).status] += 1
    stop.set()
    await asyncio.gather(*flood)
    assert beats == reads == {200: ROUNDS}
    assert seen[429] > 0 and seen[201 if create else 200] > 0 and set(seen) <= {200, 201, 429}
    metrics = (await node.request("GET", "/metrics", Accept="text/plain")).body.decode()
    refused = [
        line for line in metrics.splitlines() if line.startswith("apiserver_flowcontrol_rejected_requests_total")
    ]
    assert refused and all('flow_schema="small"' in line for line in refused)
    for one in (node, bob, *connections):
        one.close()


async def test_clients_that_do_not_read_their_lists_keep_nobody_waiting(server: Server) -> None:
    bob, silent = await server.connect(), [await server.connect(limit=1024) for _ in range(40)]
    for one in silent:
        await one.send(request("GET", CONFIG_MAPS, **user("mallory")))
    for _ in range(3):
        assert (await bob.request("GET", f"{CONFIG_MAPS}/c-1", **user("bob"))).status == 200
    for one in (bob, *silent):
        one.close()


async def test_many_watches_by_one_user(server: Server) -> None:
    admin, before = await server.connect(), resident_bytes(server.pid)
    path = f"{CONFIG_MAPS}?watch=1&fieldSelector=metadata.name%3Dwatched"
    watchers = await server.connect_many(WATCHES)
    for one in watchers:
        await one.send(request("GET", path, **user("eve")))
        assert (await one.head()).status == 200
    assert (resident_bytes(server.pid) - before) / WATCHES < WATCH_BYTES_MAX
    assert (await admin.request("POST", CONFIG_MAPS, {"metadata": {"name": "watched"}})).status == 201
    assert (await admin.request("GET", f"{CONFIG_MAPS}/watched")).status == 200
    async with asyncio.timeout(SECONDS_MAX):
        for one in watchers:
            assert json.loads(await one.chunk())["type"] == "ADDED"
    for one in (admin, *watchers):
        one.close()
