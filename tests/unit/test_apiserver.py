"""The API server as a whole, without a network: requests into the HTTP handler, calls into the in-process API."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from proa.apiserver.app import ApiServer, Options, Surroundings, default_parts
from proa.apiserver.decoding import BODY_BYTES_MAX
from proa.apiserver.encoding import Decoded, encode
from proa.apiserver.negotiation import Form, negotiate
from proa.apiserver.requestinfo import parse_request
from proa.apiserver.services.pools import Owner
from proa.client.interface import MERGE_PATCH, ListOptions, UserInfo
from proa.client.local import LocalClient
from proa.client.resources import CONFIGMAPS, IPADDRESSES, NAMESPACES, SERVICECIDRS, SERVICES
from proa.meta.errors import StatusError
from proa.meta.gvk import GVR
from proa.meta.objects import Obj
from proa.storage.interface import Entry
from proa.wire.http import BodyTooLarge, Request

ADMIN = UserInfo("admin", ("system:masters",))


class Body:
    def __init__(self, data: bytes) -> None:
        self.data = data

    async def read(self, size_max: int) -> bytes:
        if len(self.data) > size_max:
            raise BodyTooLarge
        return self.data


class Fixed:
    """Everybody is an administrator, or whom the header `user` names."""

    async def authenticate(self, request: Request) -> UserInfo:
        name = request.header("user")
        return UserInfo(name, ("system:authenticated",)) if name else ADMIN


@dataclass
class Reply:
    status: int
    headers: dict[str, str]
    raw: bytes
    head: bytes = b""

    @property
    def body(self) -> Any:
        return json.loads(self.raw)


class Http:
    """Asks the handler as a connection would."""

    def __init__(self, server: ApiServer) -> None:
        self.server = server

    def _request(self, method: str, target: str, body: Any, headers: Mapping[str, str]) -> Request:
        data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        sent = {"accept": "application/json", "user-agent": "test/1", **headers}
        if data and "content-type" not in sent:
            sent["content-type"] = "application/json"

        async def upgrade(_: Any) -> Any:
            raise AssertionError("nothing is to be upgraded")

        return Request(
            method=method,
            target=target,
            headers=sent,
            body=Body(data),
            peer_certificate=None,
            peer_address="127.0.0.1",
            upgrade=upgrade,
        )

    async def __call__(self, method: str, target: str, body: Any = None, **headers: str) -> Reply:
        named = {key.replace("_", "-"): value for key, value in headers.items()}
        response = await self.server.http(self._request(method, target, body, named))
        assert response is not None
        found = response.body
        if isinstance(found, bytes):
            raw = found
        elif isinstance(found, AsyncIterator):
            raw = b"".join([chunk async for chunk in found])
        else:
            raw = b"".join(found)
        if response.sent is not None:
            response.sent()
        return Reply(response.status, dict(response.headers), raw, response.head)

    async def until_configured(self) -> None:
        """Waits until priority and fairness knows the stored objects, not only the built-in ones."""
        while not self.server.gate.flow(ADMIN, "get", path="/").head:
            await asyncio.sleep(0)

    async def watch(self, target: str) -> AsyncIterator[Obj]:
        """Yields the frames of a watch as they come."""
        response = await self.server.http(self._request("GET", target, None, {}))
        assert response is not None and response.status == 200
        assert not isinstance(response.body, bytes)
        async for chunk in response.body:  # type: ignore[union-attr]
            for line in chunk.splitlines():
                yield json.loads(line)


@pytest.fixture(autouse=True)
def guard(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fails if anybody changes an object that is shared."""
    kept: list[tuple[Obj, bytes]] = []
    put, get = Decoded.put, Decoded.get

    def guarded_put(self: Decoded, revision: int, obj: Obj) -> None:
        kept.append((obj, encode(obj)))
        put(self, revision, obj)

    def guarded_get(self: Decoded, entry: Entry) -> Obj:
        obj = get(self, entry)
        kept.append((obj, encode(obj)))
        return obj

    monkeypatch.setattr(Decoded, "put", guarded_put)
    monkeypatch.setattr(Decoded, "get", guarded_get)
    yield
    for obj, before in kept:
        assert encode(obj) == before, "a shared object was changed"


def parts(around: Surroundings) -> Any:
    return replace(default_parts(around), authenticator=Fixed())


@pytest.fixture
async def server() -> AsyncIterator[ApiServer]:
    made = ApiServer(Options(reads_max=3, writes_max=200), make_parts=parts)
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
def http(server: ApiServer) -> Http:
    return Http(server)


@pytest.fixture
def client(server: ApiServer) -> LocalClient:
    return LocalClient(server.api, ADMIN)


CONFIG_MAPS = "/api/v1/namespaces/default/configmaps"


def config_map(name: str, **more: Any) -> Obj:
    meta = {"name": name, **more.pop("metadata", {})}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, **more}


# ---------------------------------------------------------------- reading requests


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("GET /api/v1/pods", ("list", "pods", "", "", "")),
        ("GET /api/v1/namespaces/n/pods?watch=1", ("watch", "pods", "n", "", "")),
        ("GET /api/v1/namespaces/n/pods?watch=0", ("list", "pods", "n", "", "")),
        ("GET /api/v1/watch/namespaces/n/pods", ("watch", "pods", "n", "", "")),
        ("GET /api/v1/namespaces/n/pods/p", ("get", "pods", "n", "p", "")),
        ("PUT /api/v1/namespaces/n/pods/p/status", ("update", "pods", "n", "p", "status")),
        ("DELETE /api/v1/namespaces/n/pods", ("deletecollection", "pods", "n", "", "")),
        ("GET /api/v1/namespaces/n", ("get", "namespaces", "", "n", "")),
        ("PUT /api/v1/namespaces/n/finalize", ("update", "namespaces", "", "n", "finalize")),
        ("PATCH /apis/apps/v1/namespaces/n/deployments/d/scale", ("patch", "deployments", "n", "d", "scale")),
        ("POST /apis/rbac.authorization.k8s.io/v1/clusterroles", ("create", "clusterroles", "", "", "")),
        ("FOO /api/v1/nodes", ("", "nodes", "", "", "")),
    ],
)
def test_request_lines(line: str, expected: tuple[str, ...]) -> None:
    info = parse_request(*line.split(" "))
    assert info.resource is not None
    assert (info.verb, info.resource.resource, info.namespace, info.name, info.subresource) == expected


@pytest.mark.parametrize(
    "path", ["/", "/healthz", "/api", "/api/v1", "/apis/apps/v1", "/openapi/v3/apis/apps/v1", "//api/v1/x"]
)
def test_paths_outside_the_api(path: str) -> None:
    assert parse_request("GET", path).resource is None


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("", Form()),
        ("*/*", Form()),
        ("application/json", Form()),
        ("image/png, application/yaml;q=0.2", Form("application/yaml")),
        ("application/json;as=Table;g=meta.k8s.io;v=v1,application/json", Form("application/json", "Table", "v1")),
        ("application/json;as=Table;g=meta.k8s.io;v=v9,application/json", Form()),
        ("application/vnd.kubernetes.protobuf", Form("application/vnd.kubernetes.protobuf")),
        ("image/png", None),
        ("application/*", None),
    ],
)
def test_negotiation(accept: str, expected: Form | None) -> None:
    if expected is None:
        with pytest.raises(StatusError) as refused:
            negotiate(accept)
        assert refused.value.code == 406
    else:
        assert negotiate(accept) == expected


# ---------------------------------------------------------------- one encoding


async def test_an_object_is_the_same_bytes_everywhere(http: Http) -> None:
    watch = http.watch(f"{CONFIG_MAPS}?watch=1&timeoutSeconds=60")
    first = asyncio.ensure_future(anext(watch))
    created = await http("POST", CONFIG_MAPS, config_map("a", data={"k": "v"}))
    assert created.status == 201
    got = await http("GET", f"{CONFIG_MAPS}/a")
    assert got.raw == created.raw
    listed = await http("GET", CONFIG_MAPS)
    typeless = created.raw.replace(b'"kind":"ConfigMap","apiVersion":"v1",', b"", 1)
    assert typeless in listed.raw
    async with asyncio.timeout(5):
        event = await first
    assert event == {"type": "ADDED", "object": created.body}
    await watch.aclose()  # type: ignore[attr-defined]


# ---------------------------------------------------------------- watch


async def test_a_selection_turns_changes_into_additions_and_deletions(http: Http) -> None:
    start = (await http("GET", CONFIG_MAPS)).body["metadata"]["resourceVersion"]
    steps: list[Obj] = [{"x": "y"}, {"x": "y", "more": "1"}, {"x": "z"}, {"x": "y"}]
    await http("POST", CONFIG_MAPS, config_map("other"))
    await http("POST", CONFIG_MAPS, config_map("a", metadata={"labels": steps[0]}))
    for labels in steps[1:]:
        await http("PUT", f"{CONFIG_MAPS}/a", config_map("a", metadata={"labels": labels}))
    await http("DELETE", f"{CONFIG_MAPS}/a")
    query = f"watch=1&labelSelector=x%3Dy&resourceVersion={start}&timeoutSeconds=1"
    frames = [frame async for frame in http.watch(f"{CONFIG_MAPS}?{query}")]
    assert [frame["type"] for frame in frames] == ["ADDED", "MODIFIED", "DELETED", "ADDED", "DELETED"]
    versions = [int(frame["object"]["metadata"]["resourceVersion"]) for frame in frames]
    assert versions == sorted(set(versions))
    # What ceases to match is shown as it last matched, at the revision of the change.
    assert frames[2]["object"]["metadata"]["labels"] == steps[1]


async def test_initial_events_end_with_a_bookmark(http: Http) -> None:
    await http("POST", CONFIG_MAPS, config_map("a"))
    query = "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true&timeoutSeconds=1"
    frames = [frame async for frame in http.watch(f"{CONFIG_MAPS}?{query}")]
    assert [frame["type"] for frame in frames[:-1]] == ["ADDED"] * (len(frames) - 1)
    assert frames[-1]["type"] == "BOOKMARK"
    assert frames[-1]["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}


async def test_a_bookmark_tells_of_progress_elsewhere_and_only_then(http: Http) -> None:
    start = (await http("GET", CONFIG_MAPS)).body["metadata"]["resourceVersion"]
    query = f"watch=1&resourceVersion={start}&allowWatchBookmarks=true&timeoutSeconds=1"
    assert [frame async for frame in http.watch(f"{CONFIG_MAPS}?{query}")] == []
    made = await http("POST", "/api/v1/namespaces/default/secrets", {"metadata": {"name": "s"}})
    (frame,) = [frame async for frame in http.watch(f"{CONFIG_MAPS}?{query}")]
    assert frame["type"] == "BOOKMARK"
    assert frame["object"]["metadata"]["resourceVersion"] == made.body["metadata"]["resourceVersion"]


async def test_a_watch_from_a_forgotten_revision_says_gone(http: Http) -> None:
    await http("POST", CONFIG_MAPS, config_map("a"))
    await http.server.store.compact(http.server.store.revision)
    (frame,) = [frame async for frame in http.watch(f"{CONFIG_MAPS}?watch=1&resourceVersion=1&timeoutSeconds=5")]
    assert (frame["type"], frame["object"]["code"], frame["object"]["reason"]) == ("ERROR", 410, "Expired")


# ---------------------------------------------------------------- lists


async def test_pages_show_one_revision(http: Http) -> None:
    for index in range(5):
        await http("POST", CONFIG_MAPS, config_map(f"c{index}"))
    first = (await http("GET", f"{CONFIG_MAPS}?limit=2")).body
    await http("DELETE", f"{CONFIG_MAPS}/c3")
    await http("POST", CONFIG_MAPS, config_map("c2a"))
    second = (await http("GET", f"{CONFIG_MAPS}?limit=9&continue={first['metadata']['continue']}")).body
    names = [item["metadata"]["name"] for item in first["items"] + second["items"]]
    assert [name for name in names if name.startswith("c")] == ["c0", "c1", "c2", "c3", "c4"]
    assert first["metadata"]["resourceVersion"] == second["metadata"]["resourceVersion"]
    await http.server.store.compact(http.server.store.revision)
    late = await http("GET", f"{CONFIG_MAPS}?continue={first['metadata']['continue']}")
    assert (late.status, late.body["reason"]) == (410, "Expired")


# ---------------------------------------------------------------- writes


async def test_contending_updates_add_up(http: Http, client: LocalClient) -> None:
    await client.create(CONFIGMAPS, config_map("n", data={"count": "0"}), "default")

    async def increment() -> None:
        while True:
            obj = await client.get(CONFIGMAPS, "n", "default")
            data = {"count": str(int(obj["data"]["count"]) + 1)}
            try:
                await client.update(CONFIGMAPS, {**obj, "data": data})
            except StatusError as error:
                if error.code != 409:
                    raise
                await asyncio.sleep(0)
            else:
                return

    async def label(index: int) -> None:
        body = {"metadata": {"labels": {f"l{index}": "x"}}}
        reply = await http("PATCH", f"{CONFIG_MAPS}/n", body, content_type="application/merge-patch+json")
        assert reply.status == 200

    await asyncio.gather(*(increment() for _ in range(20)), *(label(index) for index in range(10)))
    obj = await client.get(CONFIGMAPS, "n", "default")
    assert obj["data"] == {"count": "20"}
    assert len(obj["metadata"]["labels"]) == 10


async def test_an_update_that_changes_nothing_writes_nothing(http: Http) -> None:
    created = (await http("POST", CONFIG_MAPS, config_map("a", data={"b": "1", "a": "2"}))).body
    again = await http("PUT", f"{CONFIG_MAPS}/a", config_map("a", data={"a": "2", "b": "1"}))
    assert again.body == created


async def test_a_dry_run_leaves_nothing(http: Http) -> None:
    await http("POST", CONFIG_MAPS, config_map("a", metadata={"finalizers": ["example.com/x"]}))
    before = http.server.store.revision
    service = {"metadata": {"name": "s"}, "spec": {"type": "NodePort", "ports": [{"port": 80}]}}
    for method, path, body in (
        ("POST", CONFIG_MAPS, config_map("b")),
        ("PUT", f"{CONFIG_MAPS}/a", config_map("a", data={"k": "v"})),
        ("DELETE", f"{CONFIG_MAPS}/a", None),
        ("DELETE", CONFIG_MAPS, None),
        ("POST", "/api/v1/namespaces/default/services", service),
    ):
        assert (await http(method, f"{path}?dryRun=All", body)).status in (200, 201), path
    assert http.server.store.revision == before


async def test_finalizers_hold_an_object_until_the_last_is_gone(http: Http) -> None:
    await http("POST", CONFIG_MAPS, config_map("a", metadata={"finalizers": ["example.com/x"]}))
    deleted = await http("DELETE", f"{CONFIG_MAPS}/a")
    assert deleted.body["metadata"]["deletionTimestamp"]
    assert (await http("GET", f"{CONFIG_MAPS}/a")).status == 200
    added = await http("PUT", f"{CONFIG_MAPS}/a", config_map("a", metadata={"finalizers": ["example.com/y"]}))
    assert added.status == 422
    assert (await http("PUT", f"{CONFIG_MAPS}/a", config_map("a"))).status == 200
    assert (await http("GET", f"{CONFIG_MAPS}/a")).status == 404


async def test_a_service_gives_back_what_it_held(http: Http, client: LocalClient) -> None:
    services = "/api/v1/namespaces/default/services"
    spec: Obj = {"type": "NodePort", "ports": [{"port": 80, "nodePort": 30123}], "clusterIP": "10.96.7.7"}
    held = await http("POST", services, {"metadata": {"name": "s"}, "spec": spec})
    assert held.status == 201, held.raw
    # One that cannot be keeps nothing, not even what it got before it failed.
    other = {"metadata": {"name": "t"}, "spec": {**spec, "clusterIP": "10.96.7.8"}}
    refused = await http("POST", services, other)
    assert (refused.status, refused.body["details"]["causes"][0]["field"]) == (422, "spec.ports[0].nodePort")
    names = {one["metadata"]["name"] for one in (await client.list(IPADDRESSES)).items}
    assert "10.96.7.7" in names and "10.96.7.8" not in names
    await client.delete(SERVICES, "s", "default")
    assert (await http("POST", services, other)).status == 201
    names = {one["metadata"]["name"] for one in (await client.list(IPADDRESSES)).items}
    assert "10.96.7.7" not in names and "10.96.7.8" in names


async def test_services_draw_from_every_range_that_is_ready(client: LocalClient, http: Http) -> None:
    path = "/api/v1/namespaces/default/services"

    def service(name: str, address: str = "") -> Obj:
        spec: Obj = {"ports": [{"port": 80}], **({"clusterIP": address} if address else {})}
        return {"kind": "Service", "apiVersion": "v1", "metadata": {"name": name}, "spec": spec}

    refused = (await http("POST", path, service("one", "198.51.100.77"))).body
    assert refused["message"].endswith(
        "failed to allocate IP 198.51.100.77: the provided network does not match the current range"
    )
    cidr: Obj = {"metadata": {"name": "more"}, "spec": {"cidrs": ["198.51.100.0/24"]}}
    await client.create(SERVICECIDRS, cidr)
    assert (await http("POST", path, service("one", "198.51.100.77"))).status == 422  # it is not ready yet
    ready = {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}
    await client.patch(SERVICECIDRS, "more", ready, patch_type=MERGE_PATCH, subresource="status")
    assert (await http("POST", path, service("one", "198.51.100.77"))).status == 201
    assert (await http("POST", path, service("two", "198.51.100.77"))).status == 422
    assert (await http("POST", path, service("two", "198.51.100.255"))).status == 422
    assert "198.51.100.77" in {one["metadata"]["name"] for one in (await client.list(IPADDRESSES)).items}
    await client.delete(SERVICECIDRS, "more")
    await client.delete(SERVICES, "one", "default")  # its address goes back, though its range is no more
    assert "198.51.100.77" not in {one["metadata"]["name"] for one in (await client.list(IPADDRESSES)).items}


async def test_a_restart_mends_what_a_crash_left_between_two_writes(tmp_path: Path) -> None:
    options = Options(store=f"sqlite:{tmp_path / 'store.db'}")
    before = ApiServer(options, make_parts=parts)
    await before.start()
    client = LocalClient(before.api, ADMIN)
    spec: Obj = {"type": "NodePort", "clusterIP": "10.96.7.7", "ports": [{"port": 80, "nodePort": 30123}]}
    await client.create(SERVICES, {"metadata": {"name": "s"}, "spec": spec}, "default")
    # Taken for a service that never came to be, and not recorded for one that did.
    owner = Owner("default", "never")
    await before._pools[0].take("10.96.7.9", owner)
    await before._ports.take(30124, owner)
    await client.delete(IPADDRESSES, "10.96.7.7")
    await before._ports.give_back(30123)
    await before.stop()

    after = ApiServer(options, make_parts=parts)
    await after.start()
    client = LocalClient(after.api, ADMIN)
    addresses = {one["metadata"]["name"] for one in (await client.list(IPADDRESSES)).items}
    assert addresses == {"10.96.0.1", "10.96.7.7"}
    assert await after._ports.held() == [30123]
    await after.stop()


# ---------------------------------------------------------------- refusals


async def test_bad_input_is_refused_clearly(http: Http) -> None:
    cases: list[tuple[Any, int]] = [
        (b"{", 400),
        (b"[]", 400),
        (b'"x"', 400),
        (b'{"metadata":[]}', 400),
        (b'{"metadata":{"name":5}}', 400),
        (b'{"kind":"Secret","metadata":{"name":"x"}}', 400),
        (b'{"apiVersion":{},"metadata":{"name":"x"}}', 400),
        (b'{"metadata":{"name":"x"},"x":' + b"[" * 100_000, 400),
        (b'{"metadata":{"name":"\xff"}}', 422),  # Go reads it as U+FFFD, which no name may hold
        (b'{"metadata":{"name":"x","labels":{"a":' + b'{"a":' * 900 + b"1" + b"}" * 903, 400),
        (config_map("Not A Name"), 422),
        (config_map("x", metadata={"namespace": "elsewhere"}), 400),
        (b" " * (BODY_BYTES_MAX + 1), 413),
    ]
    for body, code in cases:
        reply = await http("POST", CONFIG_MAPS, body)
        assert reply.status == code, (body if not isinstance(body, bytes) else body[:60], reply.raw[:200])
        assert reply.body["kind"] == "Status" and reply.body["code"] == code
    assert (await http("POST", CONFIG_MAPS, b"{}", content_type="text/plain")).status == 415


async def grant_everything(http: Http, user: str) -> None:
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"}
    subject = {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}
    binding = {"metadata": {"name": f"all-{user}"}, "roleRef": reference, "subjects": [subject]}
    reply = await http("POST", "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", binding)
    assert reply.status == 201, reply.raw


async def test_too_much_at_once_is_refused_for_a_while(http: Http, server: ApiServer) -> None:
    gate = server.gate
    await grant_everything(http, "bob")
    await http.until_configured()
    flow = gate.flow(UserInfo("bob", ("system:authenticated",)), "list", "", "configmaps", "", "default")
    assert flow.stats.schema == "global-default"
    held = []
    while (seat := gate.enter(flow, 1)) is not None:
        held.append(seat)
    waiting = [asyncio.ensure_future(http("GET", CONFIG_MAPS, user="bob")) for _ in range(301)]
    reply = await waiting[300]  # its queues are full
    assert (reply.status, reply.headers["Retry-After"], reply.body["reason"]) == (429, "1", "TooManyRequests")
    assert (await http("GET", CONFIG_MAPS)).status == 200, "administrators are exempt"
    for seat in held:
        seat.leave()
    assert {(await one).status for one in waiting[:300]} == {200}
    await asyncio.sleep(0)
    assert (flow.level.in_use, flow.level.executing, flow.level.waiting) == (0, 0, 0)
    dump = await http("GET", "/debug/api_priority_and_fairness/dump_priority_levels")
    assert dump.raw.decode().splitlines()[0].split() == [
        *("PriorityLevelName,", "ActiveQueues,", "IsIdle,", "IsQuiescing,", "WaitingRequests,", "ExecutingRequests"),
    ]
    metrics = (await http("GET", "/metrics", accept="text/plain")).raw.decode()
    for line in (
        'apiserver_flowcontrol_dispatched_requests_total{flow_schema="global-default",priority_level="global-default"}',
        'apiserver_flowcontrol_rejected_requests_total{flow_schema="global-default",priority_level="global-default",'
        'reason="queue-full"} 1.0',
        'apiserver_flowcontrol_nominal_limit_seats{priority_level="exempt"} 0.0',
    ):
        assert line in metrics


async def test_answers_name_schema_and_level(http: Http, server: ApiServer) -> None:
    await http.until_configured()
    schema = await http("GET", "/apis/flowcontrol.apiserver.k8s.io/v1/flowschemas/exempt")
    level = await http("GET", "/apis/flowcontrol.apiserver.k8s.io/v1/prioritylevelconfigurations/exempt")
    uids = [one.body["metadata"]["uid"] for one in (schema, level)]
    lines = dict(line.split(": ") for line in schema.head.decode().splitlines())
    assert [lines[f"X-Kubernetes-Pf-{name}-Uid"] for name in ("Flowschema", "Prioritylevel")] == uids


async def test_nobody_acts_without_authorization(http: Http, server: ApiServer) -> None:
    for method, path in (
        ("GET", CONFIG_MAPS),
        ("POST", CONFIG_MAPS),
        ("GET", f"{CONFIG_MAPS}?watch=1"),
        ("GET", "/metrics"),
    ):
        reply = await http(method, path, user="nobody")
        assert (reply.status, reply.body["reason"]) == (403, "Forbidden"), path
    local = LocalClient(server.api, UserInfo("nobody", ("system:authenticated",)))
    with pytest.raises(StatusError) as refused:
        await local.list(CONFIGMAPS, "default")
    assert refused.value.code == 403
    with pytest.raises(StatusError) as refused:
        await anext(aiter(local.watch(CONFIGMAPS, "default", ListOptions())))
    assert refused.value.code == 403


async def test_unknown_paths(http: Http) -> None:
    for path, code, kind in (
        ("/nope", 404, "text/plain"),
        ("/apis/nope.example/v1/things", 404, "text/plain"),
        ("/api/v1/nope", 404, "application/json"),
        ("/apis/apps/v9", 404, "application/json"),
    ):
        reply = await http("GET", path)
        assert reply.status == code
        assert reply.headers["Content-Type"].startswith(kind)
    assert (await http("PUT", CONFIG_MAPS, {})).status == 405


# ---------------------------------------------------------------- what a new cluster holds


async def test_bootstrap_is_complete_and_repeatable(server: ApiServer, client: LocalClient) -> None:
    names = {one["metadata"]["name"] for one in (await client.list(NAMESPACES)).items}
    assert names == {"default", "kube-node-lease", "kube-public", "kube-system"}
    service = await client.get(SERVICES, "kubernetes", "default")
    assert service["spec"]["clusterIP"] == "10.96.0.1"
    roles = await client.list(GVR("rbac.authorization.k8s.io", "v1", "clusterroles"))
    assert len(roles.items) >= 70
    assert (await client.list(GVR("apiregistration.k8s.io", "v1", "apiservices"))).items
