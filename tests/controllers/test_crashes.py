"""Controllers whose writes conflict, whose answers get lost and that are killed at any write keep their promises.

No pod is made twice, a rolling update never has more pods than its surge nor fewer than it may be without, and all
comes to what was asked for. Seeded, in virtual time; the test plays scheduler and kubelets.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

from proa.client.informer import SharedInformers
from proa.client.interface import Client, DeleteOptions, WatchEvent
from proa.client.local import LocalClient
from proa.client.resources import DAEMONSETS, DEPLOYMENTS, JOBS, NODES, PODS, REPLICASETS, STATEFULSETS
from proa.controllers.manager import Manager, service_account
from proa.controllers.pods import is_active, is_ready
from proa.meta.errors import StatusError
from proa.meta.gvk import GVR
from proa.meta.objects import Obj, controller_of, is_deleted, labels_of, metadata, name_of, uid_of
from tests.controllers.plane import MANAGER, Plane, plane, run

STEPS = 120
LOST, CONFLICT, KILLED = "lost", "conflict", "killed"
SELECTOR = {"matchLabels": {"app": "a"}}


class RoughClient:
    """A client some of whose writes go wrong: refused, answered by nobody, or the last of their process."""

    def __init__(self, client: Client, world: World) -> None:
        self._client = client
        self._world = world

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._client, name)
        if name not in ("create", "update", "patch", "delete"):
            return found

        async def write(resource: GVR, *arguments: Any, **options: Any) -> Obj:
            return await self._world.write(lambda: found(resource, *arguments, **options), resource)

        return write


class SlowEye:
    """A client whose watches are late, as over a slow network. What was written is known from the answers meanwhile."""

    def __init__(self, client: Client, world: World) -> None:
        self._client = client
        self._world = world

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    async def watch(self, *arguments: Any) -> AsyncIterator[WatchEvent]:
        async for event in self._client.watch(*arguments):
            await asyncio.sleep(self._world.random.random() * 0.2 if self._world.rough else 0)
            yield event


class World:
    """What is asked for, the nodes' part, and what must hold after every write."""

    resource: GVR
    controllers: tuple[str, ...]
    changes = 0.1  # how often a step changes what is asked for

    def __init__(self, cluster: Plane, seed: int) -> None:
        self.cluster = cluster
        # Late watches and lost answers: each for itself. Both together no controller can see through.
        self.late = seed % 2 == 1
        self.random = random.Random(seed)
        self.rough = True
        self.dead = asyncio.Event()
        self.replicas = 4
        self.version = 0
        self.kills = 0
        self.broken: AssertionError | None = None

    # ------------------------------------------------------------ what goes wrong

    async def write(self, call: Callable[[], Awaitable[Obj]], resource: GVR) -> Obj:
        if self.dead.is_set():
            await asyncio.Event().wait()
        outcome = self.random.random() if self.rough else 1.0
        if outcome < 0.1:
            raise StatusError(409, "Conflict", "the object has been modified")
        result = await call()
        try:
            await self.check()
        except AssertionError as error:
            self.broken = self.broken or error  # the controller takes it for a failure of its own
        if outcome < 0.16 and not self.late:
            raise StatusError(504, "Timeout", "nobody knows")
        if outcome < 0.22:
            self.dead.set()
            self.kills += 1
            await asyncio.Event().wait()
        return result

    # ------------------------------------------------------------ the nodes

    async def pods(self) -> list[Obj]:
        return (await self.cluster.client.list(PODS, "ns")).items

    async def live(self, share: float = 1.0) -> None:
        """Lets some pods come up, and some that are being deleted end."""
        for pod in await self.pods():
            if self.random.random() > share:
                continue
            if is_deleted(pod):
                await self.cluster.client.delete(PODS, name_of(pod), "ns", DeleteOptions(grace_seconds=0))
            elif not is_ready(pod):
                await self.cluster.run_pod(pod)
            await self.check()

    # ------------------------------------------------------------ what is asked for, and must hold

    def template(self) -> Obj:
        return {
            "metadata": {"labels": {"app": "a"}},
            "spec": {"containers": [{"name": "c", "image": f"i{self.version}"}]},
        }

    def spec(self) -> Obj:
        return {"replicas": self.replicas, "selector": SELECTOR, "template": self.template()}

    async def begin(self) -> None:
        kinds = {DEPLOYMENTS: "Deployment", REPLICASETS: "ReplicaSet", STATEFULSETS: "StatefulSet"}
        kind = kinds.get(self.resource, "DaemonSet")
        made = {"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": "w"}, "spec": self.spec()}
        await self.cluster.client.create(self.resource, made, "ns")

    async def roll(self) -> None:
        self.version += 1
        await self.cluster.patch(self.resource, "w", {"spec": {"template": self.template()}})

    async def change(self) -> None:
        await self.roll()

    async def check(self) -> None:
        raise NotImplementedError

    async def settled(self) -> bool:
        found = (await self.cluster.client.get(self.resource, "w", "ns")).get("status") or {}
        pods = await self.pods()
        images = [pod["spec"]["containers"][0]["image"] for pod in pods]
        return (
            images == [f"i{self.version}"] * self.replicas
            and all(map(is_ready, pods))
            and not any(map(is_deleted, pods))
            and self.reported(found) == self.replicas
        )

    def reported(self, status: Obj) -> int:
        return int(status.get("availableReplicas") or 0)


class ReplicaSets(World):
    resource = REPLICASETS
    controllers = ("replicaset",)
    changes = 0.5

    def __init__(self, cluster: Plane, seed: int) -> None:
        super().__init__(cluster, seed)
        self.most = self.replicas

    async def change(self) -> None:
        self.replicas = self.random.randrange(4)
        self.most = max(self.most, self.replicas)
        await self.cluster.patch(self.resource, "w", {"spec": {"replicas": self.replicas}})

    async def check(self) -> None:
        active = [pod for pod in await self.pods() if is_active(pod)]
        assert len(active) <= self.most, "pods were made twice"


class Deployments(World):
    resource = DEPLOYMENTS
    controllers = ("deployment", "replicaset")
    served = False

    def spec(self) -> Obj:
        rolling = {"maxSurge": 2, "maxUnavailable": 1}
        return {**super().spec(), "strategy": {"type": "RollingUpdate", "rollingUpdate": rolling}}

    async def check(self) -> None:
        sets = (await self.cluster.client.list(REPLICASETS, "ns")).items
        images = Counter(one["spec"]["template"]["spec"]["containers"][0]["image"] for one in sets)
        assert not images or max(images.values()) == 1, "a replica set was made twice"
        assert sum(one["spec"]["replicas"] for one in sets) <= self.replicas + 2
        pods = await self.pods()
        for one in sets:
            owned = [pod for pod in pods if is_active(pod) and (controller_of(pod) or {}).get("uid") == uid_of(one)]
            assert len(owned) <= self.replicas + 2
        ready = sum(is_active(pod) and is_ready(pod) for pod in pods)
        self.served = self.served or ready >= self.replicas
        assert not self.served or ready >= self.replicas - 1, "too few serve"


class StatefulSets(World):
    resource = STATEFULSETS
    controllers = ("statefulset",)

    def __init__(self, cluster: Plane, seed: int) -> None:
        super().__init__(cluster, seed)
        self.before: dict[str, str] = {}  # the uids of pods, by name
        self.full = False

    def spec(self) -> Obj:
        return {**super().spec(), "serviceName": "s"}

    async def check(self) -> None:
        pods = {name_of(pod): pod for pod in await self.pods()}
        for name, pod in pods.items():
            if self.before.get(name) == uid_of(pod):
                continue
            # A new pod: all before it have to be up.
            for lower in range(int(name.rpartition("-")[2])):
                found = pods.get(f"w-{lower}")
                assert found is not None and is_ready(found) and not is_deleted(found), f"{name} came too early"
        self.before = {name: uid_of(pod) for name, pod in pods.items()}
        serving = sum(is_ready(pod) and not is_deleted(pod) for pod in pods.values())
        self.full = self.full or serving == self.replicas
        assert not self.full or serving >= self.replicas - 1, "more than one is missing"


class DaemonSets(World):
    resource = DAEMONSETS
    controllers = ("daemonset",)
    surge = 0
    full = False

    async def begin(self) -> None:
        for number in range(self.replicas):
            node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": f"n{number}"}}
            await self.cluster.client.create(NODES, node)
            await self.cluster.patch(NODES, f"n{number}", {"spec": {"taints": None}}, "")
        await super().begin()

    def spec(self) -> Obj:
        rolling = {"maxSurge": self.surge, "maxUnavailable": 0 if self.surge else 1}
        strategy = {"type": "RollingUpdate", "rollingUpdate": rolling}
        return {"selector": SELECTOR, "template": self.template(), "updateStrategy": strategy}

    async def check(self) -> None:
        placed: dict[str, list[Obj]] = {}
        for pod in await self.pods():
            required = pod["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
            node = required["nodeSelectorTerms"][0]["matchFields"][0]["values"][0]
            placed.setdefault(node, []).append(pod)
        surging = 0
        for node, pods in placed.items():
            staying = [pod for pod in pods if not is_deleted(pod)]
            revisions = Counter(labels_of(pod)["controller-revision-hash"] for pod in staying)
            assert max(revisions.values(), default=0) <= 1, f"{node}: a pod was made twice"
            # A change in the middle of an update may find a third revision; two stay at most.
            assert len(staying) <= (3 if self.surge else 1), f"{node}: too many"
            surging += len(staying) > 1
        assert surging <= self.surge
        serving = sum(any(is_ready(pod) and not is_deleted(pod) for pod in pods) for pods in placed.values())
        self.full = self.full or serving == self.replicas
        assert not self.full or serving >= self.replicas - (0 if self.surge else 1), "too few nodes are served"

    def reported(self, status: Obj) -> int:
        return int(status.get("numberAvailable") or 0)


class SurgingDaemonSets(DaemonSets):
    surge = 1


class Jobs(World):
    """Every pod that ended is counted once; never more run than may; each index succeeds once."""

    resource = JOBS
    controllers = ("job",)
    changes = 0.0
    completions, parallelism = 7, 3

    def __init__(self, cluster: Plane, seed: int) -> None:
        super().__init__(cluster, seed)
        self.ended: Counter[str] = Counter()

    def spec(self) -> Obj:
        template = self.template()
        template["spec"]["restartPolicy"] = "Never"
        counts = {"completions": self.completions, "parallelism": self.parallelism, "backoffLimit": 1000}
        return {**counts, "template": template}

    async def begin(self) -> None:
        made = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "w"}, "spec": self.spec()}
        await self.cluster.client.create(JOBS, made, "ns")

    async def live(self, share: float = 1.0) -> None:
        for pod in await self.pods():
            if is_active(pod) and self.random.random() < share:
                phase = self.random.choice(("Succeeded", "Failed"))
                self.ended[phase] += 1
                await self.cluster.patch(PODS, name_of(pod), {"status": {"phase": phase}}, "ns", "status")

    async def check(self) -> None:
        active = [pod for pod in await self.pods() if is_active(pod)]
        assert len(active) <= self.parallelism, "too many run"
        indexes = Counter(
            labels_of(pod).get("batch.kubernetes.io/job-completion-index", name_of(pod)) for pod in active
        )
        assert not indexes or max(indexes.values()) == 1, "an index runs twice"

    async def settled(self) -> bool:
        status = (await self.cluster.client.get(JOBS, "w", "ns")).get("status") or {}
        if not any(one["type"] == "Complete" and one["status"] == "True" for one in status.get("conditions") or ()):
            return False
        counted = {"Succeeded": status.get("succeeded") or 0, "Failed": status.get("failed") or 0}
        assert counted == {"Succeeded": self.completions, "Failed": self.ended["Failed"]}, (counted, self.ended)
        assert not any(metadata(pod).get("finalizers") for pod in await self.pods())
        return True


class IndexedJobs(Jobs):
    def spec(self) -> Obj:
        return {**super().spec(), "completionMode": "Indexed", "backoffLimitPerIndex": 500}


@asynccontextmanager
async def manager(world: World) -> AsyncIterator[Manager]:
    """A controller manager with an eye of its own, which dies with the block."""
    api = world.cluster.client._api
    eye = LocalClient(api, MANAGER)
    informers = SharedInformers(cast(Client, SlowEye(eye, world)) if world.late else eye)

    def client_for(name: str) -> Any:
        return RoughClient(LocalClient(api, service_account(name)), world)

    made = Manager(informers, world.cluster.clock, client_for, only=world.controllers)
    await made.start()
    try:
        yield made
    finally:
        await made.stop()
        await informers.stop()


async def storm(world: World) -> None:
    await world.begin()
    steps = STEPS
    while steps:
        world.dead.clear()
        async with manager(world):
            while steps and not world.dead.is_set():
                steps -= 1
                await world.live(world.random.random() / 2)
                if world.broken:
                    raise world.broken
                await asyncio.sleep(world.random.random() * 2)
                if world.random.random() < world.changes and serves(world):
                    await world.change()
    world.rough = False
    world.dead.clear()
    async with manager(world):

        async def calm() -> bool:
            await world.live()
            return await world.settled()

        await world.cluster.until(calm, 3000)
        await asyncio.sleep(60)
        assert await world.settled() and world.broken is None


def serves(world: World) -> bool:
    """Promises on what serves begin once all did; before that nothing is changed."""
    return bool(getattr(world, "full", True) and getattr(world, "served", True))


KINDS = [ReplicaSets, Deployments, StatefulSets, DaemonSets, SurgingDaemonSets, Jobs, IndexedJobs]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("kind", KINDS)
def test_promises_are_kept(kind: type[World], seed: int) -> None:
    kills = 0

    async def main() -> None:
        nonlocal kills
        async with plane(()) as cluster:
            world = kind(cluster, seed)
            await storm(world)
            kills = world.kills
            assert world.version or world.resource in (REPLICASETS, JOBS)
            assert all(metadata(pod)["labels"]["app"] == "a" for pod in await world.pods())

    run(main)
    assert kills
