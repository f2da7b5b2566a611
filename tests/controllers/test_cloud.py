"""Cloud controllers with a provider of the test's own, which knows machines and routes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from proa.client.controller import Context
from proa.client.resources import NODES
from proa.cloud.interface import Instance, Provider, Route, load
from proa.cloud.local import Ranges
from proa.cloud.nodes import UNINITIALIZED, CloudNodeController
from proa.cloud.routes import RouteController, plan
from proa.meta.objects import Obj, name_of
from tests.controllers.plane import Plane, plane, run


class Machines:
    def __init__(self, *names: str) -> None:
        self.present = set(names)
        self.off: set[str] = set()

    async def find(self, node: Obj) -> Instance | None:
        name = name_of(node)
        if name not in self.present:
            return None
        addresses = [{"type": "InternalIP", "address": "192.0.2.1"}]
        return Instance(f"test://{name}", "large", "zone-a", "region-b", addresses)

    async def is_shut_down(self, node: Obj) -> bool:
        return name_of(node) in self.off


class Network:
    def __init__(self) -> None:
        self.routes = [Route("gone", "10.1.9.0/24")]

    async def list(self) -> Sequence[Route]:
        return list(self.routes)

    async def create(self, route: Route, addresses: Sequence[str]) -> None:
        self.routes.append(route)

    async def delete(self, route: Route) -> None:
        self.routes.remove(route)


async def node(cluster: Plane, name: str, ready: str = "True", **spec: Any) -> None:
    made = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "spec": spec}
    await cluster.client.create(NODES, made)
    await cluster.patch(NODES, name, {"status": {"conditions": [{"type": "Ready", "status": ready}]}}, "", "status")


def taints(found: Obj) -> set[str]:
    return {one["key"] for one in found["spec"].get("taints") or []}


def test_a_node_learns_of_its_machine_and_goes_with_it() -> None:
    async def main() -> None:
        machines = Machines("n1")

        def make(context: Context) -> CloudNodeController:
            return CloudNodeController(context, Provider(name="test", instances=machines))

        async with plane((), extra=[make]) as cluster:
            await node(cluster, "n1", taints=[{"key": UNINITIALIZED, "value": "true", "effect": "NoSchedule"}])

            async def initialized() -> Obj | None:
                found = await cluster.client.get(NODES, "n1")
                return found if UNINITIALIZED not in taints(found) and found["status"].get("addresses") else None

            found = await cluster.until(initialized)
            assert found["spec"]["providerID"] == "test://n1"
            assert found["metadata"]["labels"]["topology.kubernetes.io/zone"] == "zone-a"
            machines.off.add("n1")
            await cluster.patch(
                NODES, "n1", {"status": {"conditions": [{"type": "Ready", "status": "False"}]}}, "", "status"
            )

            async def marked() -> bool:
                return "node.cloudprovider.kubernetes.io/shutdown" in taints(await cluster.client.get(NODES, "n1"))

            await cluster.until(marked)
            machines.present.clear()
            await cluster.gone(NODES, "n1", "")

    run(main)


def test_routes_follow_nodes() -> None:
    async def main() -> None:
        network = Network()

        def make(context: Context) -> RouteController:
            return RouteController(context, Provider(name="test", routes=network))

        async with plane((), extra=[make]) as cluster:
            await node(cluster, "n1", podCIDR="10.1.0.0/24", podCIDRs=["10.1.0.0/24"])

            async def routed() -> bool:
                return network.routes == [Route("n1", "10.1.0.0/24")]

            await cluster.until(routed)

            async def told() -> bool:
                listed = (await cluster.client.get(NODES, "n1"))["status"]["conditions"]
                return {"NetworkUnavailable": "False"}.items() <= {one["type"]: one["status"] for one in listed}.items()

            await cluster.until(told)
            await cluster.client.delete(NODES, "n1")

            async def unrouted() -> bool:
                return not network.routes

            await cluster.until(unrouted)

    run(main)


def test_route_plans() -> None:
    nodes = [{"metadata": {"name": "a"}, "spec": {"podCIDRs": ["10.0.0.0/24", "fd00::/64"]}}]
    step = plan(nodes, [Route("a", "10.0.0.0/24"), Route("b", "10.0.1.0/24")])
    assert step.create == (Route("a", "fd00::/64"),) and step.delete == (Route("b", "10.0.1.0/24"),)


@pytest.mark.parametrize(
    ("text", "version", "taken", "expected"),
    [
        ("10.0.0.0/29", 4, set(), "10.0.0.2"),
        ("10.0.0.0/29", 4, {"10.0.0.2", "10.0.0.3"}, "10.0.0.4"),
        ("10.0.0.0/30", 4, set(), "10.0.0.0"),
        ("10.0.0.5-10.0.0.6", 4, {"10.0.0.5", "10.0.0.6"}, None),
        ("10.0.0.5-10.0.0.6,10.0.1.1-10.0.1.1", 4, {"10.0.0.5", "10.0.0.6"}, "10.0.1.1"),
        ("10.0.0.0/24,fd00::/112", 6, set(), "fd00::2"),
        ("10.0.0.0/24", 6, set(), None),
    ],
)
def test_ranges(text: str, version: int, taken: set[str], expected: str | None) -> None:
    assert Ranges(text).first_free(version, taken) == expected


@pytest.mark.parametrize("text", ["nonsense", "10.0.0.9-10.0.0.1", "10.0.0.1-fd00::1"])
def test_malformed_ranges(text: str) -> None:
    with pytest.raises(ValueError):
        Ranges(text)


def test_an_unknown_provider() -> None:
    with pytest.raises(ValueError, match="no cloud provider called 'nimbus'"):
        load("nimbus", "", None)  # type: ignore[arg-type]
