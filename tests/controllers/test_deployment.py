"""Deployments and replica sets on a whole control plane."""

from __future__ import annotations

from typing import Any

from proa.client.interface import DeleteOptions
from proa.client.resources import DEPLOYMENTS, PODS, REPLICASETS
from proa.meta.objects import Obj
from tests.controllers.plane import Plane, plane, run

ONLY = ("deployment", "replicaset")


def deployment(image: str = "one", replicas: int = 3, **spec: Any) -> Obj:
    template = {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": image}]}}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web"},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "web"}}, "template": template, **spec},
    }


def image(name: str) -> Obj:
    return {"spec": {"template": {"spec": {"containers": [{"name": "c", "image": name}]}}}}


async def is_rolled_out(cluster: Plane) -> bool:
    await cluster.run_pods()
    found = await cluster.client.get(DEPLOYMENTS, "web", "ns")
    status, wanted = found.get("status") or {}, found["spec"]["replicas"]
    return (
        status.get("observedGeneration") == found["metadata"].get("generation")
        and status.get("updatedReplicas") == wanted
        and status.get("replicas") == wanted
        and status.get("availableReplicas") == wanted
    )


def test_a_rollout_from_creation_through_update_to_undo() -> None:
    async def main() -> None:
        async with plane(ONLY) as cluster:
            await cluster.client.create(DEPLOYMENTS, deployment(), "ns")
            await cluster.until(lambda: is_rolled_out(cluster))
            assert len(await cluster.names(PODS)) == 3
            await cluster.patch(DEPLOYMENTS, "web", image("two"))
            await cluster.until(lambda: is_rolled_out(cluster))
            pods = (await cluster.client.list(PODS, "ns")).items
            assert [one["spec"]["containers"][0]["image"] for one in pods] == ["two"] * 3
            assert len(await cluster.names(REPLICASETS)) == 2
            found = await cluster.client.get(DEPLOYMENTS, "web", "ns")
            assert found["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "2"
            reasons = {one["type"]: one["reason"] for one in found["status"]["conditions"]}
            assert reasons == {"Available": "MinimumReplicasAvailable", "Progressing": "NewReplicaSetAvailable"}
            await cluster.patch(DEPLOYMENTS, "web", image("one"))
            await cluster.until(lambda: is_rolled_out(cluster))
            assert len(await cluster.names(REPLICASETS)) == 2
            found = await cluster.client.get(DEPLOYMENTS, "web", "ns")
            assert found["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "3"

    run(main)


def test_scaling_changes_the_one_replica_set() -> None:
    async def main() -> None:
        async with plane(ONLY) as cluster:
            await cluster.client.create(DEPLOYMENTS, deployment(), "ns")
            await cluster.until(lambda: is_rolled_out(cluster))
            for size in (7, 1):
                await cluster.patch(DEPLOYMENTS, "web", {"spec": {"replicas": size}})
                await cluster.until(lambda: is_rolled_out(cluster))
                assert len(await cluster.names(PODS)) == size
            assert len(await cluster.names(REPLICASETS)) == 1

    run(main)


def test_a_rollout_that_cannot_progress_says_so() -> None:
    async def main() -> None:
        async with plane(ONLY) as cluster:
            await cluster.client.create(DEPLOYMENTS, deployment(progressDeadlineSeconds=60), "ns")

            async def reason() -> bool:
                found = await cluster.client.get(DEPLOYMENTS, "web", "ns")
                conditions = (found.get("status") or {}).get("conditions") or []
                return any(one.get("reason") == "ProgressDeadlineExceeded" for one in conditions)

            await cluster.until(reason, 90)
            assert cluster.clock.monotonic() > 60

    run(main)


def test_a_deleted_pod_is_replaced_and_an_orphan_adopted() -> None:
    async def main() -> None:
        async with plane(ONLY) as cluster:
            await cluster.client.create(DEPLOYMENTS, deployment(replicas=2), "ns")
            await cluster.until(lambda: is_rolled_out(cluster))
            first, second = await cluster.names(PODS)
            await cluster.client.delete(PODS, first, "ns", DeleteOptions(grace_seconds=0))

            async def replaced() -> bool:
                names = await cluster.names(PODS)
                return len(names) == 2 and first not in names

            await cluster.until(replaced)
            # Released when its labels no longer match, replaced, and taken back when they do again.
            await cluster.patch(PODS, second, {"metadata": {"labels": {"app": "other"}}})

            async def count(number: int) -> bool:
                return len(await cluster.names(PODS)) == number

            await cluster.until(lambda: count(3))
            released = await cluster.client.get(PODS, second, "ns")
            assert not released["metadata"].get("ownerReferences")
            await cluster.patch(PODS, second, {"metadata": {"labels": {"app": "web"}}})
            await cluster.until(lambda: count(2))

    run(main)


def test_a_hundred_pods_are_created_once_each() -> None:
    async def main() -> None:
        async with plane(ONLY) as cluster:
            await cluster.client.create(DEPLOYMENTS, deployment(replicas=100), "ns")
            await cluster.until(lambda: is_rolled_out(cluster))
            assert len(await cluster.names(PODS)) == 100
            created = [one for one in cluster.manager.controllers if one.name == "replicaset-controller"]
            assert created[0].outcomes["retried"] == 0

    run(main)
