"""Silent nodes by the thousand: how zones are judged, what counts as silence, whom a round looks at."""

from __future__ import annotations

import asyncio

from proa.client.resources import EVENTS, LEASES, NODES
from proa.controllers.nodelifecycle.plan import Census, Disruption, Rates, evictions_per_second, taints
from proa.controllers.nodelifecycle.run import NodeLifecycleController
from proa.controllers.runtime import Options
from proa.meta.objects import Obj
from proa.util.clock import parse_rfc3339, rfc3339_micro
from proa.util.virtualtime import VirtualTimeLoop
from tests.controllers.plane import Plane, plane, run
from tests.controllers.test_nodes_and_quotas import renew

NOW = parse_rfc3339("2026-01-01T00:00:00Z")


def node(name: str, ready: str = "True", zone: str = "a") -> Obj:
    condition = {"type": "Ready", "status": ready, "lastHeartbeatTime": "2026-01-01T00:00:00Z"}
    labels = {"topology.kubernetes.io/zone": zone}
    return {"metadata": {"name": name, "labels": labels}, "spec": {}, "status": {"conditions": [condition]}}


def test_census_follows_changes() -> None:
    census = Census()
    for number in range(100):
        census.move(None, node(f"n{number}"))
    assert census.zone(":a").disruption is Disruption.NORMAL
    for number in range(60):
        census.move(node(f"n{number}"), node(f"n{number}", "Unknown"))
    found = census.zone(":a")
    assert (found.disruption, found.size) == (Disruption.PARTIAL, 100)
    assert evictions_per_second(found, census.all_lost(), Rates()) == 0.01
    for number in range(60, 100):
        census.move(node(f"n{number}"), node(f"n{number}", "Unknown"))
    assert census.zone(":a").disruption is Disruption.FULL
    assert census.all_lost()
    census.move(None, node("other", zone="b"))
    assert not census.all_lost()
    assert evictions_per_second(census.zone(":a"), census.all_lost(), Rates()) == 0.1
    for number in range(100):
        census.move(node(f"n{number}", "Unknown"), None)
    census.move(node("other", zone="b"), None)
    assert not census.all_lost()  # there is none


def test_who_is_spared_loses_the_eviction_and_stays_unschedulable() -> None:
    lost = node("n", "Unknown")
    tainted = taints(lost, NOW, evict=True)
    assert tainted is not None
    assert [one["effect"] for one in tainted] == ["NoSchedule", "NoExecute"]
    lost["spec"]["taints"] = tainted
    spared = taints(lost, NOW, evict=True, spare=True)
    assert spared is not None
    assert [one["effect"] for one in spared] == ["NoSchedule"]


async def _lives(cluster: Plane, names: list[str]) -> None:
    for name in names:
        made = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}}
        await cluster.client.create(NODES, made)
        condition = {"type": "Ready", "status": "True", "lastHeartbeatTime": "2026-01-01T00:00:00Z"}
        await cluster.patch(NODES, name, {"status": {"conditions": [condition]}}, "", "status")
        lease = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": name, "namespace": "kube-node-lease"},
            "spec": {"holderIdentity": name, "renewTime": rfc3339_micro(cluster.clock.now())},
        }
        await cluster.client.create(LEASES, lease, "kube-node-lease")


async def _renew(cluster: Plane, names: list[str]) -> None:
    for name in names:
        patch = {"spec": {"renewTime": rfc3339_micro(cluster.clock.now())}}
        await cluster.patch(LEASES, name, patch, "kube-node-lease")


async def _unready(cluster: Plane) -> dict[str, bool]:
    """Returns, of the nodes that are not ready, by name, whether their pods must go."""
    return {
        one["metadata"]["name"]: any(taint["effect"] == "NoExecute" for taint in one["spec"].get("taints") or ())
        for one in (await cluster.client.list(NODES)).items
        if one["status"]["conditions"][0]["status"] != "True"
    }


def test_a_process_that_was_held_up_calls_nobody_silent() -> None:
    """The clock runs on while nothing is looked at, as when a process is stopped or its machine is overloaded."""

    async def main() -> None:
        async with plane(["node-lifecycle"], Options(node_check_seconds=5)) as cluster:
            await _lives(cluster, ["n0", "n1"])
            await asyncio.sleep(6)
            (controller,) = cluster.manager.controllers
            assert isinstance(controller, NodeLifecycleController)
            before = controller._time.look()
            loop = asyncio.get_running_loop()
            assert isinstance(loop, VirtualTimeLoop)
            loop._jumping.seconds += 500
            controller._check()
            assert controller._time.look() - before <= 10
            await asyncio.sleep(1)
            assert await _unready(cluster) == {}
            await asyncio.sleep(60)
            assert set(await _unready(cluster)) == {"n0", "n1"}  # now they are

    run(main)


def test_nodes_of_a_zone_are_given_up_one_by_one_and_taken_back_if_all_are_lost() -> None:
    async def main() -> None:
        async with plane(["node-lifecycle"]) as cluster:
            names = [f"n{number}" for number in range(10)]
            await _lives(cluster, names)
            for _ in range(7):  # three fall silent
                await asyncio.sleep(10)
                await _renew(cluster, names[3:])
            found = await _unready(cluster)
            assert set(found) == set(names[:3])
            assert 1 <= sum(found.values()) <= 2  # one node in ten seconds
            for _ in range(4):
                await asyncio.sleep(10)
                await _renew(cluster, names[3:])
            assert all((await _unready(cluster)).values())
            await asyncio.sleep(70)  # all are silent: it is rather we
            assert await _unready(cluster) == dict.fromkeys(names, False)

    run(main)


def test_zones_are_given_up_at_their_own_rates() -> None:
    """A zone that is lost: as usual. A large one that is partly lost: slowly. A small one that is: not at all."""

    async def main() -> None:
        options = Options(large_cluster_nodes=6, node_secondary_evictions_per_second=0.02)
        async with plane(("node-lifecycle",), options) as cluster:
            sizes = {"lost": (4, 4), "large": (8, 5), "small": (6, 4), "well": (3, 0)}  # zone -> nodes, silent ones
            alive = []
            for zone, (count, silent) in sizes.items():
                for number in range(count):
                    name = f"{zone}-{number}"
                    meta = {"name": name, "labels": {"topology.kubernetes.io/zone": zone}}
                    await cluster.client.create(NODES, {"apiVersion": "v1", "kind": "Node", "metadata": meta})
                    await cluster.patch(NODES, name, {"status": node("n")["status"]}, "", "status")
                    if number >= silent:
                        alive.append(name)
            living = asyncio.create_task(renew(cluster, *alive))

            async def given_up() -> dict[str, int]:
                found = dict.fromkeys(sizes, 0)
                for one in (await cluster.client.list(NODES)).items:
                    effects = [taint["effect"] for taint in one["spec"].get("taints") or ()]
                    found[one["metadata"]["labels"]["topology.kubernetes.io/zone"]] += "NoExecute" in effects
                return found

            await asyncio.sleep(50 + 65)
            # One each ten seconds; one each fifty seconds.
            found = await given_up()
            assert found["lost"] == 4 and found["large"] in (1, 2) and found["small"] == found["well"] == 0
            await asyncio.sleep(300)
            assert await given_up() == {"lost": 4, "large": 5, "small": 0, "well": 0}
            living.cancel()

    run(main)


def test_nodes_come_and_go_with_events() -> None:
    async def main() -> None:
        async with plane(("node-lifecycle",)) as cluster:
            await cluster.client.create(NODES, {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"}})

            async def told(reason: str, text: str) -> bool:
                return any(
                    (one["reason"], one["message"], one["source"]["component"]) == (reason, text, "node-controller")
                    for one in (await cluster.client.list(EVENTS, "default")).items
                )

            await cluster.until(lambda: told("RegisteredNode", "Node n event: Registered Node n in Controller"))
            await cluster.client.delete(NODES, "n")
            await cluster.until(lambda: told("RemovingNode", "Node n event: Removing Node n from Controller"))

    run(main)
