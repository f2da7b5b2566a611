"""Logs, exec, attach, port-forward and proxying through the API server to a kubelet, over TLS."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from proa.apiserver.app import ApiServer, Options
from proa.client.interface import UserInfo
from proa.client.local import LocalClient
from proa.client.resources import (
    MUTATINGADMISSIONPOLICIES,
    MUTATINGADMISSIONPOLICYBINDINGS,
    NODES,
    PODS,
    SERVICEACCOUNTS,
    VALIDATINGADMISSIONPOLICIES,
    VALIDATINGADMISSIONPOLICYBINDINGS,
)
from proa.cluster.pki import COMPONENTS, Pki, api_server, node_leaves
from proa.wire import portforward, remotecommand, websocket
from proa.wire.client import HttpClient
from proa.wire.http import Request, Response
from proa.wire.remotecommand import Streams, UpgradeRefused
from proa.wire.server import Server, serve
from proa.wire.tls import client_context, server_context

POD = "/api/v1/namespaces/default/pods/web"
ALL = Streams(stdin=True, stdout=True, stderr=True)


class Kubelet:
    """Answers as a kubelet does; what runs in its pods echoes in upper case."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.subject = b""

    async def __call__(self, request: Request) -> Response | None:
        self.asked.append(f"{request.method} {request.target}")
        assert request.peer_certificate is not None, "the API server must show its certificate"
        action = request.target.split("/")[1]
        if action == "containerLogs":
            if "previous" in request.target:
                return Response(status=400, body=b'previous terminated container "main" in pod "web" not found\n')
            return Response(body=_lines())
        if action == "exec":
            return await self._exec(request)
        if action == "portForward":
            return await self._forward(request)
        return Response(status=404 if action == "missing" else 200, body=f"{request.method} {request.target}".encode())

    async def _exec(self, request: Request) -> Response | None:
        session = await remotecommand.accept(request, ALL)
        if isinstance(session, Response):
            return session
        assert session.stdin is not None and session.stdout is not None
        while data := await session.stdin.read():
            await session.stdout.write(data.upper())
        await session.finish(exit_code=7)
        return None

    async def _forward(self, request: Request) -> Response | None:
        forwarding = await portforward.accept(request)
        if isinstance(forwarding, Response):
            return forwarding
        async with asyncio.TaskGroup() as tasks:
            async for connection in forwarding:
                tasks.create_task(_serve_http(connection))
        await forwarding.close()
        return None


async def _lines() -> AsyncIterator[bytes]:
    yield b"one\n"
    yield b"two\n"


async def _serve_http(connection: portforward.Connection) -> None:
    """What listens in the pod: a small web server on every port but 81."""
    if connection.port == 81:
        await connection.fail("connection refused")
        return
    data = await connection.data.read()
    line = data.split(b"\r\n", 1)[0]
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nX-Port: %d\r\n\r\n" % (len(line), connection.port)
    if line.startswith(b"GET /moved"):
        head, line = b"HTTP/1.1 302 Found\r\nLocation: /other\r\nContent-Length: 0\r\n\r\n", b""
    await connection.data.write(head + line)
    await connection.end()


class World:
    def __init__(self, server: ApiServer, client: HttpClient, kubelet: Kubelet, listener: Server) -> None:
        self.server = server
        self.client = client
        self.kubelet = kubelet
        self.listener = listener


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    pki = Pki(tmp_path)
    pki.ensure([*COMPONENTS, api_server([]), *node_leaves("n", ["127.0.0.1"])])
    ca = pki.certificate("ca")

    def client(name: str):  # type: ignore[no-untyped-def]
        return client_context(ca, pki.certificate(name), pki.key(name))

    kubelet = Kubelet()
    node = "nodes/n/server"
    listener = await serve(kubelet, context=server_context(pki.certificate(node), pki.key(node), ca))
    server = ApiServer(
        Options(
            ssl_context=server_context(pki.certificate("apiserver"), pki.key("apiserver"), ca),
            kubelet_context=client("apiserver-kubelet-client"),
            service_account_key=pki.key("sa").read_bytes(),
        )
    )
    await server.start()
    local = LocalClient(server.api, UserInfo("test", ("system:masters",)))
    await local.create(SERVICEACCOUNTS, {"metadata": {"name": "default"}}, "default")
    status = {
        "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": listener.port}},
    }
    made = await local.create(NODES, {"metadata": {"name": "n"}})
    await local.update(NODES, {**made, "status": status}, subresource="status")
    containers = [{"name": "main", "image": "x", "ports": [{"containerPort": 8080, "name": "http"}]}]
    pod = await local.create(
        PODS, {"metadata": {"name": "web"}, "spec": {"nodeName": "n", "containers": containers}}, "default"
    )
    await local.update(PODS, {**pod, "status": {"phase": "Running", "podIP": "10.1.1.1"}}, subresource="status")
    await local.create(PODS, {"metadata": {"name": "idle"}, "spec": {"containers": containers}}, "default")
    async with asyncio.timeout(20), HttpClient(f"https://127.0.0.1:{server.port}", context=client("admin")) as http:
        yield World(server, http, kubelet, listener)
    await server.stop()
    await listener.close(0.1)


async def answer(world: World, url: str, method: str = "GET", body: bytes = b"") -> tuple[int, bytes]:
    response = await world.client.request(method, url, body=body)
    return response.status, await response.read()


async def test_logs(world: World) -> None:
    assert await answer(world, f"{POD}/log?follow=true&tailLines=5&container=main") == (200, b"one\ntwo\n")
    assert world.kubelet.asked[-1] == "GET /containerLogs/default/web/main?follow=true&tailLines=5"
    status, body = await answer(world, f"{POD}/log?previous=true")
    assert (status, msgspec.json.decode(body)["reason"]) == (400, "BadRequest")
    for url, code in (
        (f"{POD}/log?container=other", 400),
        (f"{POD}/log?tailLines=-1", 422),
        (f"{POD}/log?sinceSeconds=x", 400),
        ("/api/v1/namespaces/default/pods/none/log", 404),
    ):
        assert (await answer(world, url))[0] == code, url
    assert await answer(world, "/api/v1/namespaces/default/pods/idle/log") == (200, b"")


@pytest.mark.parametrize(("protocol", "as_text"), [("binary.k8s.io", False), ("base64.binary.k8s.io", True)])
async def test_logs_over_a_websocket(world: World, protocol: str, as_text: bool) -> None:
    _, socket = await websocket.connect(world.client, f"{POD}/log?tailLines=5", (protocol,))
    assert socket is not None and socket.subprotocol == protocol
    messages = []
    while (message := await socket.receive()) is not None:
        messages.append(message)
    assert {text for text, _ in messages} == {as_text}
    assert b"".join(base64.b64decode(data) if as_text else data for _, data in messages) == b"one\ntwo\n"
    answer, refused = await websocket.connect(world.client, f"{POD}/log", ("other.k8s.io",))
    assert refused is None and answer.status == 403


@pytest.mark.parametrize("carrier", ["spdy", "v5", "v4"])
async def test_exec(world: World, carrier: str) -> None:
    url = f"{POD}/exec?command=cat&command=-&stdin=1&stdout=1&stderr=1"
    if carrier == "spdy":
        session = await remotecommand.connect(world.client, url, ALL)
    else:
        versions = [f"{carrier}.channel.k8s.io"]
        session = await remotecommand.connect_websocket(world.client, url, ALL, versions=versions)
    assert session.stdin is not None and session.stdout is not None
    await session.stdin.write(b"hello")
    assert await session.stdout.read() == b"HELLO"
    if carrier != "v4":  # which cannot tell the end of stdin
        await session.stdin.close()
        status = msgspec.json.decode(await session.error.read())
        assert status["details"]["causes"][0]["message"] == "7"
    await session.close()
    asked = world.kubelet.asked[-1].split(" ", 1)[1]
    assert asked == "/exec/default/web/main?command=cat&command=-&input=1&output=1&error=1"


async def test_exec_is_refused_before_the_upgrade(world: World) -> None:
    for url, status in (
        (f"{POD}/exec?command=x", 400),
        (f"{POD}/exec?stdout=1", 400),
        (f"{POD}/exec?command=x&stdout=1&container=other", 400),
        ("/api/v1/namespaces/default/pods/idle/exec?command=x&stdout=1", 400),
        ("/api/v1/namespaces/default/pods/none/exec?command=x&stdout=1", 404),
    ):
        with pytest.raises(UpgradeRefused) as refused:
            await remotecommand.connect(world.client, url, ALL)
        assert refused.value.status == status, url
        assert msgspec.json.decode(refused.value.body)["kind"] == "Status"


@pytest.mark.parametrize("tunnel", [False, True])
async def test_port_forward(world: World, tunnel: bool) -> None:
    forwarder = await portforward.connect(world.client, f"{POD}/portforward", tunnel=tunnel)
    good, bad = await forwarder.open(80), await forwarder.open(81)
    await good.data.write(b"GET /x HTTP/1.1\r\n\r\n")
    assert b"X-Port: 80" in await good.data.read()
    assert await bad.error.read() == b"connection refused"
    await forwarder.close()


async def test_pods_are_reached_through_their_node(world: World) -> None:
    assert await answer(world, f"{POD}:http/proxy/a/b?c=d") == (200, b"GET /a/b?c=d HTTP/1.1")
    response = await world.client.request("GET", f"{POD}/proxy/", headers=[("Authorization", "secret")])
    assert response.header("x-port") == "8080"
    await response.read()
    redirect = await world.client.request("GET", f"{POD}/proxy?q=1")
    assert (redirect.status, redirect.header("location")) == (301, f"{POD}/proxy/?q=1")
    moved = await world.client.request("GET", f"{POD}/proxy/moved")
    assert (moved.status, moved.header("location")) == (302, f"{POD}/proxy/other")
    assert (await answer(world, f"{POD}:81/proxy/"))[0] == 503
    assert (await answer(world, f"{POD}:nope/proxy/"))[0] == 400


async def test_nodes_are_proxied(world: World) -> None:
    assert await answer(world, "/api/v1/nodes/n/proxy/stats/summary?x=1") == (200, b"GET /stats/summary?x=1")
    status, body = await answer(world, "/api/v1/nodes/n/proxy/run/x", "POST", b"data")
    assert (status, body) == (200, b"POST /run/x")
    assert (await answer(world, "/api/v1/nodes/none/proxy/x"))[0] == 404


async def test_a_dead_kubelet_is_an_error(world: World) -> None:
    await world.listener.close(0)
    status, body = await answer(world, f"{POD}/log")
    assert (status, msgspec.json.decode(body)["message"].startswith("error dialing backend")) == (500, True)
    with pytest.raises(UpgradeRefused):
        await remotecommand.connect(world.client, f"{POD}/exec?command=x&stdout=1", ALL)


async def test_connections_are_asked_about_with_their_options(world: World) -> None:
    """A policy allows reading with exec, one port, and one path of the proxy; another changes the command."""
    local = LocalClient(world.server.api, UserInfo("test", ("system:masters",)))
    rule = {
        "operations": ["CONNECT"],
        "apiGroups": [""],
        "apiVersions": ["v1"],
        "resources": ["pods/exec", "pods/attach", "pods/portforward", "pods/proxy"],
    }
    by_kind = (
        "object.kind == 'PodExecOptions' ? object.command[0] == 'cat' && object.stdin && request.name == 'web' :"
        "object.kind == 'PodPortForwardOptions' ? object.ports == [8080] :"
        "object.kind == 'PodProxyOptions' ? object.path == '/fine' : false"
    )
    shown = "request.operation + ' ' + request.kind.kind + ' ' + request.subResource"
    spec = {
        "matchConstraints": {"resourceRules": [rule]},
        "validations": [{"expression": by_kind, "messageExpression": shown}],
    }
    await local.create(VALIDATINGADMISSIONPOLICIES, {"metadata": {"name": "p"}, "spec": spec})
    binding = {"policyName": "p", "validationActions": ["Deny"]}
    await local.create(VALIDATINGADMISSIONPOLICYBINDINGS, {"metadata": {"name": "p"}, "spec": binding})
    refused = {
        f"{POD}/exec?command=rm&stdin=1": "CONNECT PodExecOptions exec",
        f"{POD}/attach?stdin=1": "CONNECT PodAttachOptions attach",
        f"{POD}/portforward?ports=22": "CONNECT PodPortForwardOptions portforward",
        f"{POD}/proxy/secret": "CONNECT PodProxyOptions proxy",
    }
    for url, said in refused.items():
        status, body = await answer(world, url, "POST" if "proxy" not in url else "GET")
        assert status == 422
        assert msgspec.json.decode(body)["message"].endswith(f"denied request: {said}")
    assert (await answer(world, f"{POD}/proxy/fine"))[0] == 200
    command = await remotecommand.connect(world.client, f"{POD}/exec?command=cat&stdin=1&stdout=1&stderr=1", ALL)
    await command.close()
    # What a mutating policy makes of the options is what happens.
    change = {"patchType": "JSONPatch", "jsonPatch": {"expression": _REPLACED}}
    mutating = {
        "matchConstraints": {"resourceRules": [rule]},
        "matchConditions": [{"name": "exec", "expression": "object.kind == 'PodExecOptions'"}],
        "mutations": [change],
        "reinvocationPolicy": "Never",
    }
    await local.create(MUTATINGADMISSIONPOLICIES, {"metadata": {"name": "m"}, "spec": mutating})
    await local.create(MUTATINGADMISSIONPOLICYBINDINGS, {"metadata": {"name": "m"}, "spec": {"policyName": "m"}})
    command = await remotecommand.connect(world.client, f"{POD}/exec?command=rm&stdin=1&stdout=1&stderr=1", ALL)
    await command.close()
    assert "command=cat" in world.kubelet.asked[-1]


_REPLACED = "[JSONPatch{op: 'replace', path: '/command/0', value: 'cat'}]"
