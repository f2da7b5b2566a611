"""What every client must do, in process and over HTTPS, and what informers make of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from proa.apiserver.app import ApiServer, Options
from proa.client.http import HttpClient
from proa.client.informer import SharedInformers
from proa.client.interface import (
    JSON_PATCH,
    MERGE_PATCH,
    Client,
    DeleteOptions,
    ListOptions,
    UserInfo,
    WatchEvent,
)
from proa.client.kubeconfig import ClientConfig, Source
from proa.client.leaderelection import LeaderElector
from proa.client.local import LocalClient
from proa.client.resources import CONFIGMAPS, LEASES, NAMESPACES, SERVICES
from proa.cluster.pki import Leaf, Pki, api_server
from proa.meta.errors import StatusError
from proa.meta.objects import Obj
from proa.util.clock import SystemClock
from proa.wire.tls import server_context

ADMIN_LEAF = Leaf(path="admin", common_name="kubernetes-admin", organizations=("system:masters",))
ADMIN = UserInfo("kubernetes-admin", ("system:masters", "system:authenticated"))


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    made = Pki(tmp_path_factory.mktemp("pki"))
    made.ensure([api_server(["127.0.0.1"]), ADMIN_LEAF])
    return made


@pytest.fixture(params=["local", "http"])
async def client(request: pytest.FixtureRequest, pki: Pki) -> AsyncIterator[Client]:
    context = server_context(pki.certificate("apiserver"), pki.key("apiserver"), pki.ca_directory / "ca.crt")
    server = ApiServer(Options(ssl_context=context, advertise_address="192.0.2.1"))
    await server.start()
    made: Client
    if request.param == "local":
        made = LocalClient(server.api, ADMIN)
        await made.create(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "ns"}})
        yield made
    else:
        config = ClientConfig(
            server=f"https://127.0.0.1:{server.port}",
            authority=Source(file=pki.ca_directory / "ca.crt"),
            certificate=Source(file=pki.certificate("admin")),
            key=Source(data=pki.key("admin").read_bytes()),
        )
        made = HttpClient(config)
        await made.create(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "ns"}})
        yield made
        await made.close()
    await server.stop()


def config_map(name: str, text: str = "x", **labels: str) -> Obj:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": labels}, "data": {"k": text}}


async def until(what: Callable[[], Awaitable[Any] | Any], seconds: float = 5) -> Any:
    """Waits for something to become true; fails after a deadline."""
    async with asyncio.timeout(seconds):
        while True:
            answer = what()
            if asyncio.iscoroutine(answer):
                answer = await answer
            if answer:
                return answer
            await asyncio.sleep(0.005)


async def failure(call: Awaitable[Any]) -> tuple[int, str]:
    with pytest.raises(StatusError) as caught:
        await call
    return caught.value.code, caught.value.reason


async def test_create_get_update_delete(client: Client) -> None:
    made = await client.create(CONFIGMAPS, config_map("a"), "ns")
    assert made["metadata"]["namespace"] == "ns"
    assert await client.get(CONFIGMAPS, "a", "ns") == made
    changed = await client.update(CONFIGMAPS, {**made, "data": {"k": "y"}})
    assert changed["data"] == {"k": "y"}
    assert await failure(client.update(CONFIGMAPS, made)) == (409, "Conflict")
    assert await failure(client.create(CONFIGMAPS, config_map("a"), "ns")) == (409, "AlreadyExists")
    wrong = DeleteOptions(uid="another")
    assert await failure(client.delete(CONFIGMAPS, "a", "ns", wrong)) == (409, "Conflict")
    await client.delete(CONFIGMAPS, "a", "ns", DeleteOptions(uid=made["metadata"]["uid"]))
    assert await failure(client.get(CONFIGMAPS, "a", "ns")) == (404, "NotFound")


async def test_the_callers_object_is_left_alone(client: Client) -> None:
    mine = config_map("a")
    await client.create(CONFIGMAPS, mine, "ns")
    assert mine == config_map("a")


async def test_dry_run_changes_nothing(client: Client) -> None:
    await client.create(CONFIGMAPS, config_map("a"), "ns", dry_run=True)
    assert await failure(client.get(CONFIGMAPS, "a", "ns")) == (404, "NotFound")


async def test_patches(client: Client) -> None:
    await client.create(CONFIGMAPS, config_map("a"), "ns")
    merged = await client.patch(CONFIGMAPS, "a", {"data": {"l": "z"}}, "ns", patch_type=MERGE_PATCH)
    assert merged["data"] == {"k": "x", "l": "z"}
    operations = [{"op": "remove", "path": "/data/k"}]
    assert (await client.patch(CONFIGMAPS, "a", operations, "ns", patch_type=JSON_PATCH))["data"] == {"l": "z"}
    strategic = await client.patch(CONFIGMAPS, "a", {"metadata": {"labels": {"n": "1"}}}, "ns")
    assert strategic["metadata"]["labels"] == {"n": "1"}


async def test_lists_carry_kinds_selectors_and_pages(client: Client) -> None:
    for number in range(5):
        await client.create(CONFIGMAPS, config_map(f"m{number}", parity=str(number % 2)), "ns")
    found = await client.list(CONFIGMAPS, "ns", ListOptions(label_selector="parity=1"))
    assert [one["metadata"]["name"] for one in found.items] == ["m1", "m3"]
    assert all((one["kind"], one["apiVersion"]) == ("ConfigMap", "v1") for one in found.items)
    first = await client.list(CONFIGMAPS, "ns", ListOptions(limit=2))
    assert (len(first.items), first.remaining) == (2, 3)
    rest = await client.list(CONFIGMAPS, "ns", ListOptions(limit=10, continue_token=first.continue_token))
    assert [one["metadata"]["name"] for one in rest.items] == ["m2", "m3", "m4"]
    assert rest.resource_version == first.resource_version


async def test_delete_collection(client: Client) -> None:
    for name, team in (("a", "x"), ("b", "y")):
        await client.create(CONFIGMAPS, config_map(name, team=team), "ns")
    await client.delete_collection(CONFIGMAPS, "ns", selection=ListOptions(label_selector="team=x"))
    assert [one["metadata"]["name"] for one in (await client.list(CONFIGMAPS, "ns")).items] == ["b"]


async def test_a_watch_tells_every_change_in_order(client: Client) -> None:
    start = (await client.list(CONFIGMAPS, "ns")).resource_version
    made = await client.create(CONFIGMAPS, config_map("a"), "ns")
    await client.update(CONFIGMAPS, {**made, "data": {"k": "y"}})
    await client.delete(CONFIGMAPS, "a", "ns")
    seen: list[WatchEvent] = []
    stream = client.watch(CONFIGMAPS, "ns", ListOptions(resource_version=start, timeout_seconds=30))
    async with asyncio.timeout(5):
        async for event in stream:
            seen.append(event)
            if len(seen) == 3:
                break
    await stream.aclose()  # type: ignore[attr-defined]
    assert [event.type for event in seen] == ["ADDED", "MODIFIED", "DELETED"]
    assert [event.object["data"]["k"] for event in seen] == ["x", "y", "y"]
    revisions = [int(event.object["metadata"]["resourceVersion"]) for event in seen]
    assert revisions == sorted(set(revisions))


async def test_errors_carry_code_reason_and_details(client: Client) -> None:
    with pytest.raises(StatusError) as caught:
        await client.create(SERVICES, {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "UPPER"}}, "ns")
    assert (caught.value.code, caught.value.reason) == (422, "Invalid")
    assert caught.value.details and caught.value.details["causes"]


async def test_informers_mirror_follow_and_forget(client: Client) -> None:
    await client.create(CONFIGMAPS, config_map("before"), "ns")
    informers = SharedInformers(client)
    informer = informers.informer(CONFIGMAPS, namespace="ns")
    labelled = informers.informer(CONFIGMAPS, namespace="ns", label_selector="team=x")
    changes: list[tuple[bool, bool]] = []
    informer.add_handler(lambda old, new: changes.append((old is not None, new is not None)))
    await informers.start()
    await asyncio.wait_for(informers.wait_synced(), 5)
    assert informer.get("before", "ns") is not None
    made = await client.create(CONFIGMAPS, config_map("later", team="x"), "ns")
    await until(lambda: informer.get("later", "ns"))
    await until(lambda: labelled.get("later", "ns"))
    await client.update(CONFIGMAPS, {**made, "data": {"k": "y"}, "metadata": {**made["metadata"], "labels": {}}})
    await until(lambda: labelled.get("later", "ns") is None)
    await client.delete(CONFIGMAPS, "later", "ns")
    await until(lambda: informer.get("later", "ns") is None)
    assert changes == [(False, True), (False, True), (True, True), (True, False)]
    await informers.stop()


async def test_of_two_candidates_one_leads_and_the_other_follows(client: Client) -> None:
    def candidate(name: str) -> LeaderElector:
        return LeaderElector(
            client, SystemClock(), name="lock", identity=name, namespace="ns", lease_seconds=5, retry_seconds=0.02
        )

    leading: list[str] = []

    async def lead(name: str) -> None:
        leading.append(name)
        await asyncio.Event().wait()

    one, two = candidate("one"), candidate("two")
    first = asyncio.create_task(one.run(lambda: lead("one")))
    await until(lambda: leading)
    second = asyncio.create_task(two.run(lambda: lead("two")))
    lease = await client.get(LEASES, "lock", "ns")
    assert lease["spec"]["holderIdentity"] == "one"
    assert leading == ["one"]
    first.cancel()
    await until(lambda: leading == ["one", "two"])
    lease = await client.get(LEASES, "lock", "ns")
    assert (lease["spec"]["holderIdentity"], lease["spec"]["leaseTransitions"]) == ("two", 1)
    second.cancel()
    await asyncio.gather(first, second, return_exceptions=True)
