"""Lost nodes, evictions, pod collection, address ranges and quotas on a whole control plane."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from proa.client.resources import LEASES, NODES, PERSISTENTVOLUMECLAIMS, PODS, RESOURCECLAIMS, RESOURCEQUOTAS, SECRETS
from proa.controllers.nodeipam.plan import Pool
from proa.controllers.nodettl.run import ttl_seconds
from proa.controllers.runtime import Options
from proa.controllers.tainteviction.plan import seconds_to_stay
from proa.meta.errors import StatusError
from proa.meta.objects import Obj
from proa.util.clock import rfc3339, rfc3339_micro
from tests.controllers.plane import Plane, plane, run

LIFECYCLE = ("node-lifecycle", "taint-eviction")


async def node(cluster: Plane, name: str) -> None:
    await cluster.client.create(NODES, {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}})
    await report(cluster, name)


async def report(cluster: Plane, name: str, ready: str = "True") -> None:
    now = rfc3339(cluster.clock.now())
    condition = {"type": "Ready", "status": ready, "lastHeartbeatTime": now, "lastTransitionTime": now}
    await cluster.patch(NODES, name, {"status": {"conditions": [condition]}}, "", "status")


async def renew(cluster: Plane, *names: str) -> None:
    """Renews the nodes' leases every ten seconds, until cancelled."""
    for name in names:
        meta = {"name": name, "namespace": "kube-node-lease"}
        spec = {"holderIdentity": name, "leaseDurationSeconds": 40, "renewTime": rfc3339_micro(cluster.clock.now())}
        lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": meta, "spec": spec}
        await cluster.client.create(LEASES, lease, "kube-node-lease")
    while True:
        for name in names:
            patch = {"spec": {"renewTime": rfc3339_micro(cluster.clock.now())}}
            await cluster.patch(LEASES, name, patch, "kube-node-lease")
        await asyncio.sleep(10)


async def pod(cluster: Plane, name: str, on: str, **spec: Any) -> Obj:
    made = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {"containers": [{"name": "c", "image": "i"}], "nodeName": on, **spec},
    }
    created = await cluster.client.create(PODS, made, "ns")
    await cluster.run_pod(created)
    return created


async def taints(cluster: Plane, name: str) -> set[tuple[str, str]]:
    found = await cluster.client.get(NODES, name)
    return {(one["key"].partition("/")[2], one["effect"]) for one in found["spec"].get("taints") or []}


async def _is(awaitable: Any, value: Any) -> bool:
    return bool(await awaitable == value)


def test_a_ready_node_loses_its_taint() -> None:
    async def main() -> None:
        async with plane(LIFECYCLE) as cluster:
            await node(cluster, "n1")
            await cluster.until(lambda: _is(taints(cluster, "n1"), set()))
            await cluster.patch(NODES, "n1", {"spec": {"unschedulable": True}}, "")
            await cluster.until(lambda: _is(taints(cluster, "n1"), {("unschedulable", "NoSchedule")}))

    run(main)


def test_a_silent_node_becomes_unknown_and_its_pods_are_evicted() -> None:
    async def main() -> None:
        async with plane(LIFECYCLE) as cluster:
            for name in ("n1", "n2"):
                await node(cluster, name)
            alive = asyncio.create_task(renew(cluster, "n2"))
            await pod(cluster, "usual", "n1", tolerations=_tolerations(300))
            await pod(cluster, "staying", "n1", tolerations=[{"operator": "Exists"}])
            await pod(cluster, "elsewhere", "n2")
            began = cluster.clock.monotonic()
            unreachable = {("unreachable", "NoSchedule"), ("unreachable", "NoExecute")}
            await cluster.until(lambda: _is(taints(cluster, "n1"), unreachable), 120)
            found = await cluster.client.get(NODES, "n1")
            assert found["status"]["conditions"][0]["status"] == "Unknown"
            assert 45 < cluster.clock.monotonic() - began < 75

            async def out_of_service() -> bool:
                status = (await cluster.client.get(PODS, "usual", "ns"))["status"]
                return bool(status["conditions"][0]["status"] == "False")

            await cluster.until(out_of_service)

            async def marked() -> bool:
                return bool((await cluster.client.get(PODS, "usual", "ns"))["metadata"].get("deletionTimestamp"))

            await cluster.until(marked, 400)
            assert cluster.clock.monotonic() - began > 340
            for name in ("staying", "elsewhere"):
                found = await cluster.client.get(PODS, name, "ns")
                assert not found["metadata"].get("deletionTimestamp")
            assert await taints(cluster, "n2") == set()
            alive.cancel()

    run(main)


def test_when_every_node_is_silent_nothing_is_evicted() -> None:
    async def main() -> None:
        async with plane(LIFECYCLE) as cluster:
            await node(cluster, "n1")
            await cluster.until(lambda: _is(taints(cluster, "n1"), set()))
            await cluster.until(lambda: _is(taints(cluster, "n1"), {("unreachable", "NoSchedule")}), 120)
            await asyncio.sleep(600)
            assert await taints(cluster, "n1") == {("unreachable", "NoSchedule")}

    run(main)


def test_a_node_that_comes_back_keeps_its_pods() -> None:
    async def main() -> None:
        async with plane(LIFECYCLE) as cluster:
            for name in ("n1", "n2"):
                await node(cluster, name)
            alive = asyncio.create_task(renew(cluster, "n2"))
            await pod(cluster, "p", "n1", tolerations=_tolerations(300))
            await cluster.until(lambda: _has(taints(cluster, "n1"), ("unreachable", "NoExecute")), 120)
            await report(cluster, "n1")
            back = asyncio.create_task(renew(cluster, "n1"))
            await cluster.until(lambda: _is(taints(cluster, "n1"), set()))
            await asyncio.sleep(400)
            found = await cluster.client.get(PODS, "p", "ns")
            assert not found["metadata"].get("deletionTimestamp")
            alive.cancel()
            back.cancel()

    run(main)


async def _has(awaitable: Any, value: Any) -> bool:
    return value in await awaitable


def _tolerations(seconds: int) -> list[Obj]:
    return [
        {"key": f"node.kubernetes.io/{key}", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds}
        for key in ("not-ready", "unreachable")
    ]


TAINT = {"key": "k", "value": "v", "effect": "NoExecute"}


@pytest.mark.parametrize(
    ("tolerations", "expected"),
    [
        ([], 0.0),
        ([{"operator": "Exists"}], None),
        ([{"key": "k", "operator": "Exists"}], None),
        ([{"key": "k", "operator": "Equal", "value": "v"}], None),
        ([{"key": "k", "value": "other"}], 0.0),
        ([{"key": "k", "operator": "Exists", "effect": "NoSchedule"}], 0.0),
        ([{"key": "k", "operator": "Exists", "tolerationSeconds": 30}], 30.0),
        ([{"key": "k", "operator": "Exists", "tolerationSeconds": -1}], 0.0),
        ([{"operator": "Exists", "tolerationSeconds": 9}, {"key": "k", "value": "v", "tolerationSeconds": 5}], 5.0),
    ],
)
def test_how_long_a_pod_stays(tolerations: list[Obj], expected: float | None) -> None:
    assert seconds_to_stay({"spec": {"tolerations": tolerations}}, [TAINT]) == expected


def test_pods_of_absent_nodes_are_collected() -> None:
    async def main() -> None:
        async with plane(("podgc",)) as cluster:
            await node(cluster, "n1")
            await pod(cluster, "kept", "n1")
            await pod(cluster, "lost", "n-gone")
            await cluster.gone(PODS, "lost", seconds=120)
            assert cluster.clock.monotonic() > 40
            assert await cluster.names(PODS) == ["kept"]

    run(main)


def test_ended_pods_beyond_the_number_are_collected_oldest_first() -> None:
    async def main() -> None:
        async with plane(("podgc",), Options(terminated_pods_max=1)) as cluster:
            await node(cluster, "n1")
            for name in ("first", "second", "third"):
                made = await pod(cluster, name, "n1")
                await cluster.patch(PODS, made["metadata"]["name"], {"status": {"phase": "Succeeded"}}, "ns", "status")
                await asyncio.sleep(1)
            await cluster.until(lambda: _is(cluster.names(PODS), ["third"]))

    run(main)


@pytest.mark.parametrize(
    ("cidr", "mask", "taken", "expected"),
    [
        ("10.244.0.0/16", 24, [], "10.244.0.0/24"),
        ("10.244.0.0/16", 24, ["10.244.0.0/24", "10.244.1.0/24"], "10.244.2.0/24"),
        ("10.244.0.0/16", 24, ["10.244.1.0/24"], "10.244.0.0/24"),
        ("10.244.0.0/16", 24, ["10.244.0.0/23"], "10.244.2.0/24"),
        ("10.244.0.0/24", 25, ["10.244.0.0/25", "10.244.0.128/25"], None),
        ("fd00::/48", 64, ["fd00::/64", "10.0.0.0/24"], "fd00:0:0:1::/64"),
    ],
)
def test_address_ranges(cidr: str, mask: int, taken: list[str], expected: str | None) -> None:
    pool = Pool(cidr, mask)
    for one in taken:
        pool.take(one)
    assert pool.next_free() == expected
    for one in taken:
        pool.free(one)
    assert pool.next_free() == f"{cidr.partition('/')[0]}/{mask}"


def test_every_node_gets_a_range() -> None:
    async def main() -> None:
        async with plane(("node-ipam",), Options(cluster_cidr="10.244.0.0/16")) as cluster:
            for name in ("n1", "n2", "n3"):
                await node(cluster, name)

            async def ranges() -> list[str]:
                nodes = (await cluster.client.list(NODES)).items
                return sorted(one["spec"].get("podCIDR") or "" for one in nodes)

            await cluster.until(lambda: _is(ranges(), ["10.244.0.0/24", "10.244.1.0/24", "10.244.2.0/24"]))

    run(main)


def test_a_quotas_status_follows_what_is_used() -> None:
    async def main() -> None:
        async with plane(("resourcequota",)) as cluster:
            hard = {"pods": "2", "requests.cpu": "1", "count/secrets": "5"}
            quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "q"}, "spec": {"hard": hard}}
            await cluster.client.create(
                SECRETS, {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}}, "ns"
            )
            await cluster.client.create(RESOURCEQUOTAS, quota, "ns")

            async def used() -> dict[str, str]:
                return ((await cluster.client.get(RESOURCEQUOTAS, "q", "ns")).get("status") or {}).get("used") or {}

            await cluster.until(lambda: _is(used(), {"pods": "0", "requests.cpu": "0", "count/secrets": "1"}))
            container = {"name": "c", "image": "i", "resources": {"requests": {"cpu": "250m"}}}
            await pod(cluster, "p", "n1", containers=[container])
            await cluster.until(lambda: _is(used(), {"pods": "1", "requests.cpu": "250m", "count/secrets": "1"}))
            await cluster.client.delete(SECRETS, "s", "ns")
            await cluster.patch(PODS, "p", {"status": {"phase": "Succeeded"}}, "ns", "status")
            await cluster.until(lambda: _is(used(), {"pods": "0", "requests.cpu": "0", "count/secrets": "0"}))

    run(main)


@pytest.mark.parametrize(
    ("nodes", "current", "expected"),
    [(1, 0, 0), (100, 0, 0), (101, 0, 15), (1500, 15, 60), (5000, 0, 300), (95, 15, 15), (85, 15, 0), (1, 300, 0)],
)
def test_how_long_nodes_may_keep_secrets(nodes: int, current: int, expected: int) -> None:
    assert ttl_seconds(nodes, current) == expected


def test_nodes_are_told_and_tokens_expire() -> None:
    async def main() -> None:
        async with plane(("ttl", "token-cleaner")) as cluster:
            await node(cluster, "n1")

            async def told() -> bool:
                found = await cluster.client.get(NODES, "n1")
                return found["metadata"].get("annotations", {}).get("node.alpha.kubernetes.io/ttl") == "0"

            await cluster.until(told)
            ends = rfc3339(cluster.clock.now() + timedelta(hours=1))
            for name, data in (("bootstrap-token-aaaaaa", {"expiration": ends}), ("bootstrap-token-bbbbbb", {})):
                made = {
                    "apiVersion": "v1",
                    "kind": "Secret",
                    "metadata": {"name": name},
                    "type": "bootstrap.kubernetes.io/token",
                    "stringData": {"token-id": name[-6:], "token-secret": "0123456789abcdef", **data},
                }
                await cluster.client.create(SECRETS, made, "kube-system")
            await asyncio.sleep(3590)
            await cluster.client.get(SECRETS, "bootstrap-token-aaaaaa", "kube-system")
            await cluster.gone(SECRETS, "bootstrap-token-aaaaaa", "kube-system")
            await cluster.client.get(SECRETS, "bootstrap-token-bbbbbb", "kube-system")

    run(main)


def test_devices_and_classes_of_volumes_count() -> None:
    async def main() -> None:
        async with plane(("resourcequota",)) as cluster:
            devices = "gpu.deviceclass.resource.k8s.io/devices"
            await cluster.client.create(RESOURCEQUOTAS, quota("devices", {devices: "3"}), "ns")
            term = {"scopeName": "VolumeAttributesClass", "operator": "In", "values": ["gold"]}
            scope = {"scopeSelector": {"matchExpressions": [term]}}
            hard = {"persistentvolumeclaims": "1", "requests.storage": "5Gi"}
            await cluster.client.create(RESOURCEQUOTAS, quota("gold", hard, **scope), "ns")

            async def used(name: str, expected: dict[str, str]) -> bool:
                found = await cluster.client.get(RESOURCEQUOTAS, name, "ns")
                return bool((found.get("status") or {}).get("used") == expected)

            await cluster.until(lambda: used("devices", {devices: "0"}))
            await cluster.until(lambda: used("gold", {"persistentvolumeclaims": "0", "requests.storage": "0"}))
            request = {"name": "r", "exactly": {"deviceClassName": "gpu", "count": 2}}
            claim = {"apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaim", "metadata": {"name": "one"}}
            claim["spec"] = {"devices": {"requests": [request]}}
            await cluster.client.create(RESOURCECLAIMS, claim, "ns")
            await cluster.until(lambda: used("devices", {devices: "2"}))
            with pytest.raises(
                StatusError, match=f"exceeded quota: devices, requested: {devices}=2, used: {devices}=2"
            ):
                await cluster.client.create(RESOURCECLAIMS, {**claim, "metadata": {"name": "two"}}, "ns")
            await cluster.client.delete(RESOURCECLAIMS, "one", "ns")
            await cluster.until(lambda: used("devices", {devices: "0"}))
            volume = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "5Gi"}}}
            for name, wanted in (("a", {"volumeAttributesClassName": "gold"}), ("b", {})):
                made = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name}}
                await cluster.client.create(PERSISTENTVOLUMECLAIMS, {**made, "spec": {**volume, **wanted}}, "ns")
            await cluster.until(lambda: used("gold", {"persistentvolumeclaims": "1", "requests.storage": "5Gi"}))
            made = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "c"}}
            with pytest.raises(StatusError, match="exceeded quota: gold"):
                await cluster.client.create(
                    PERSISTENTVOLUMECLAIMS, {**made, "spec": {**volume, "volumeAttributesClassName": "gold"}}, "ns"
                )

    run(main)


def quota(name: str, hard: dict[str, str], **spec: Any) -> Obj:
    return {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": name}, "spec": {"hard": hard, **spec}}
