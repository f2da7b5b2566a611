"""Whatever happens on the way, everything comes to what was asked for: seeded random changes, in virtual time."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from proa.client.interface import DeleteOptions
from proa.client.resources import DEPLOYMENTS, ENDPOINTSLICES, PODS, REPLICASETS, SERVICES
from proa.controllers.manager import CONTROLLERS
from proa.meta.errors import StatusError
from proa.meta.objects import Obj
from tests.controllers.plane import Plane, plane, run

STEPS = 60
_NOT_NEEDED = ("node-lifecycle", "taint-eviction", "podgc")  # the test plays the nodes


def deployment() -> Obj:
    template = {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "i0"}]}}
    spec = {"replicas": 3, "selector": {"matchLabels": {"app": "web"}}, "template": template}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": spec}


class World:
    """Makes one random change at a time, and knows what should come of all of them."""

    def __init__(self, cluster: Plane, seed: int) -> None:
        self.cluster = cluster
        self.random = random.Random(seed)
        self.replicas = 3
        self.image = "i0"
        self.address = 0

    async def change(self) -> None:
        changes = (self.scale, self.roll, self.delete_pod, self.fail_pod, self.delete_set, self.relabel, self.breathe)
        try:
            await self.random.choice(changes)()
        except StatusError as error:
            if error.code not in (404, 409):  # what was to be changed may be gone already
                raise

    async def scale(self) -> None:
        self.replicas = self.random.randrange(8)
        await self.cluster.patch(DEPLOYMENTS, "web", {"spec": {"replicas": self.replicas}})

    async def roll(self) -> None:
        self.image = f"i{self.random.randrange(4)}"
        containers = [{"name": "c", "image": self.image}]
        await self.cluster.patch(DEPLOYMENTS, "web", {"spec": {"template": {"spec": {"containers": containers}}}})

    async def _pod(self) -> str:
        names = await self.cluster.names(PODS)
        return self.random.choice(names) if names else "none"

    async def delete_pod(self) -> None:
        await self.cluster.client.delete(PODS, await self._pod(), "ns", DeleteOptions(grace_seconds=0))

    async def fail_pod(self) -> None:
        await self.cluster.patch(PODS, await self._pod(), {"status": {"phase": "Failed"}}, "ns", "status")

    async def delete_set(self) -> None:
        names = await self.cluster.names(REPLICASETS)
        policy = self.random.choice(["Background", "Foreground", "Orphan"])
        name = self.random.choice(names) if names else "none"
        await self.cluster.client.delete(REPLICASETS, name, "ns", DeleteOptions(propagation=policy))

    async def relabel(self) -> None:
        label = self.random.choice(["web", "other"])
        await self.cluster.patch(PODS, await self._pod(), {"metadata": {"labels": {"app": label}}})

    async def breathe(self) -> None:
        await self.live()
        await asyncio.sleep(self.random.random())

    async def live(self) -> None:
        """Plays the nodes: pending pods run, with an address each; deleted ones end."""
        for pod in (await self.cluster.client.list(PODS, "ns")).items:
            name = pod["metadata"]["name"]
            try:
                if pod["metadata"].get("deletionTimestamp"):
                    await self.cluster.client.delete(PODS, name, "ns", DeleteOptions(grace_seconds=0))
                elif pod["status"].get("phase") == "Pending":
                    self.address += 1
                    await self.cluster.run_pod(pod, ip=f"10.0.{self.address // 250}.{self.address % 250 + 1}")
            except StatusError as error:
                if error.code not in (404, 409):
                    raise

    async def settled(self) -> bool:
        await self.live()
        pods = [
            pod
            for pod in (await self.cluster.client.list(PODS, "ns")).items
            if pod["metadata"]["labels"].get("app") == "web"
            and pod["status"].get("phase") not in ("Failed", "Succeeded")
        ]
        # Pods of a replica set that was deleted as an orphan's parent stay, and serve, with nobody to count them.
        owned = [pod for pod in pods if pod["metadata"].get("ownerReferences")]
        images = [pod["spec"]["containers"][0]["image"] for pod in owned]
        if images != [self.image] * self.replicas or not self.cluster.manager.idle:
            return False
        found = await self.cluster.client.get(DEPLOYMENTS, "web", "ns")
        status = found.get("status") or {}
        counts = [status.get(name) or 0 for name in ("replicas", "updatedReplicas", "availableReplicas")]
        if counts != [self.replicas] * 3 or status.get("observedGeneration") != found["metadata"]["generation"]:
            return False
        served = sorted(
            address
            for one in (await self.cluster.client.list(ENDPOINTSLICES, "ns")).items
            for endpoint in one.get("endpoints") or ()
            for address in endpoint["addresses"]
        )
        return served == sorted(pod["status"]["podIP"] for pod in pods)


@pytest.mark.parametrize("seed", range(6))
def test_everything_settles(seed: int) -> None:
    async def main() -> None:
        async with plane(without=_NOT_NEEDED) as cluster:
            world = World(cluster, seed)
            service: dict[str, Any] = {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"name": "web"},
                "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]},
            }
            await cluster.client.create(SERVICES, service, "ns")
            await cluster.client.create(DEPLOYMENTS, deployment(), "ns")
            for _ in range(STEPS):
                await world.change()
            await cluster.until(world.settled, 120)
            await asyncio.sleep(30)
            assert await world.settled()

    assert set(_NOT_NEEDED) <= set(CONTROLLERS)
    run(main)
