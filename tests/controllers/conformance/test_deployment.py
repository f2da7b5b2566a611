"""Upstream's conformance behaviours of Deployments, in virtual time."""

from __future__ import annotations

import pytest

from proa.client.interface import MERGE_PATCH
from proa.meta.objects import Obj
from proa.testing import Life
from tests.controllers.conformance.world import World, check_scale, check_status_endpoints, template, workload

REVISION = "deployment.kubernetes.io/revision"
SAMPLE = {"name": "sample-pod", "pod": "httpd"}


def sets(world: World, name: str) -> tuple[list[Obj], list[Obj]]:
    """Returns a Deployment's replica sets: those of its current template, and the old ones."""
    deployment = world.get("deployments", name)
    image = deployment["spec"]["template"]["spec"]["containers"][0]["image"]
    new: list[Obj] = []
    old: list[Obj] = []
    for one in world.controlled("replicasets", deployment):
        same = one["spec"]["template"]["spec"]["containers"][0]["image"] == image
        (new if same else old).append(one)
    return new, old


@pytest.mark.behaviour(
    "[sig-apps] Deployment RollingUpdateDeployment should delete old pods and create new ones",
)
def test_rolling_update(world: World) -> None:
    adopted = workload("ReplicaSet", "test-rolling-update-controller", 1, SAMPLE)
    adopted["metadata"]["annotations"] = {REVISION: "3546343826724305832"}
    world.create(adopted)
    world.ready("replicasets", "test-rolling-update-controller", 1)
    world.create(workload("Deployment", "test-rolling-update-deployment", 1, {"name": "sample-pod"}, "agnhost"))
    deployment = world.complete("test-rolling-update-deployment")
    assert deployment["metadata"]["annotations"][REVISION] == "3546343826724305833"
    new, old = sets(world, "test-rolling-update-deployment")
    assert len(new) == 1 and [one["metadata"]["name"] for one in old] == ["test-rolling-update-controller"]
    assert old[0]["spec"]["replicas"] == 0
    assert [one["spec"]["containers"][0]["image"] for one in world.running()] == ["agnhost"]


@pytest.mark.behaviour("[sig-apps] Deployment RecreateDeployment should delete old pods and create new ones")
def test_recreate() -> None:
    with World([Life(start_seconds=1, stop_seconds=1)]) as world:
        labels = {"name": "sample-pod-3"}
        slow = template(labels, terminationGracePeriodSeconds=30)
        world.create(workload("Deployment", "d", 1, labels, strategy={"type": "Recreate"}, template=slow))
        world.complete("d")
        world.patch("deployments", "d", {"spec": {"template": template(labels, "httpd:2")}})
        together: list[set[str]] = []

        def updated() -> bool:
            alive = world.list("pods", "default")
            together.append({one["spec"]["containers"][0]["image"] for one in alive})
            status = world.status("deployments", "d")
            assert status.get("updatedReplicas", 0) in (0, status.get("replicas", 0)), "old and new at once"
            return together[-1] == {"httpd:2"} and status.get("availableReplicas") == 1

        world.until(updated)
        assert all(len(images) <= 1 for images in together)


@pytest.mark.behaviour("[sig-apps] Deployment deployment should delete old replica sets")
def test_history_limit(world: World) -> None:
    labels = {"name": "cleanup-pod", "pod": "httpd"}
    world.create(workload("ReplicaSet", "test-cleanup-controller", 1, labels))
    world.ready("replicasets", "test-cleanup-controller", 1)
    deployment = workload(
        "Deployment", "test-cleanup-deployment", 1, {"name": "cleanup-pod"}, "agnhost", revisionHistoryLimit=0
    )
    world.create(deployment)
    world.complete("test-cleanup-deployment")
    world.until(lambda: not sets(world, "test-cleanup-deployment")[1], what="no old replica sets")
    assert len(world.list("replicasets", "default")) == 1


@pytest.mark.behaviour("[sig-apps] Deployment deployment should support rollover")
def test_rollover(world: World) -> None:
    labels = {"name": "rollover-pod", "pod": "httpd"}
    world.create(workload("ReplicaSet", "test-rollover-controller", 1, labels))
    world.ready("replicasets", "test-rollover-controller", 1)
    rolling = {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}
    world.create(
        workload(
            "Deployment", "d", 1, {"name": "rollover-pod"}, "redis-slave:404", minReadySeconds=10, strategy=rolling
        )
    )
    world.until(lambda: world.controlled("replicasets", world.get("deployments", "d")))
    world.advance(1)
    first = {one["metadata"]["name"] for one in sets(world, "d")[0]}
    assert len(first) == 1
    changed = template({"name": "rollover-pod"}, "agnhost")
    world.patch("deployments", "d", {"spec": {"template": changed}})
    world.complete("d")
    new, old = sets(world, "d")
    assert len(new) == 1 and first < {one["metadata"]["name"] for one in old}
    assert all(one["spec"]["replicas"] == 0 and one["status"]["replicas"] == 0 for one in old)
    assert new[0]["status"]["availableReplicas"] == 1


@pytest.mark.behaviour("[sig-apps] Deployment deployment should support proportional scaling")
def test_proportional_scaling() -> None:
    labels = {"name": "httpd"}
    broken = Life(labels={"broken": "yes"}, stuck_reason="ErrImagePull")
    with World([broken]) as world:
        rolling = {"rollingUpdate": {"maxSurge": 3, "maxUnavailable": 2}}
        world.create(workload("Deployment", "webserver-deployment", 10, labels, strategy=rolling))
        world.complete("webserver-deployment")
        changed = template({**labels, "broken": "yes"}, "webserver:404")
        world.patch("deployments", "webserver-deployment", {"spec": {"template": changed}})

        def sizes() -> list[int]:
            new, old = sets(world, "webserver-deployment")
            return [one["spec"]["replicas"] for one in old + new]

        def available() -> int:
            return int(world.status("deployments", "webserver-deployment").get("availableReplicas", 0))

        world.until(lambda: sizes() == [8, 5] and available() == 8, what="8 old and 5 new replicas")
        world.patch("deployments", "webserver-deployment", {"spec": {"replicas": 30}})
        world.until(lambda: sizes() == [20, 13], what="20 old and 13 new replicas")
        world.until(lambda: available() == 20)


@pytest.mark.behaviour("[sig-apps] Deployment Deployment should have a working scale subresource")
def test_scale(world: World) -> None:
    world.create(workload("Deployment", "test-new-deployment", 1, {"name": "test"}))
    world.complete("test-new-deployment")
    check_scale(world, "deployments", "test-new-deployment", 1, 2)


@pytest.mark.behaviour("[sig-apps] Deployment should validate Deployment Status endpoints")
def test_status(world: World) -> None:
    world.create(workload("Deployment", "test-deployment", 1, {"e2e": "testing"}))
    world.complete("test-deployment")
    world.settle()
    check_status_endpoints(world, "deployments", "test-deployment")


@pytest.mark.behaviour("[sig-apps] Deployment should run the lifecycle of a Deployment")
def test_lifecycle(world: World) -> None:
    static = "test-deployment-static"
    made = workload("Deployment", "test-deployment", 2, {static: "true"})
    made["metadata"]["labels"] = {static: "true"}
    world.create(made)
    world.ready("deployments", "test-deployment", 2)
    patch = {
        "metadata": {"labels": {"test-deployment": "patched"}},
        "spec": {"replicas": 1, "template": template({static: "true"}, "agnhost")},
    }
    world.patch("deployments", "test-deployment", patch)
    world.complete("test-deployment")
    assert [one["metadata"]["name"] for one in world.list("deployments", label_selector=f"{static}=true")] == [
        "test-deployment"
    ]
    scaled = {"metadata": {"labels": {"test-deployment": "updated"}}, "spec": {"replicas": 2}}
    world.patch("deployments", "test-deployment", scaled, subresource="scale")
    world.ready("deployments", "test-deployment", 2)
    status = world.get("deployments", "test-deployment", subresource="status")
    patched = {
        "metadata": {"labels": {"test-deployment": "patched-status"}},
        "status": {"readyReplicas": 0, "availableReplicas": 0},
    }
    answer = world.patch("deployments", "test-deployment", patched, subresource="status", patch_type=MERGE_PATCH)
    assert "readyReplicas" not in answer["status"] and status["status"]["readyReplicas"] == 2
    current = world.get("deployments", "test-deployment")
    world.update({**current, "spec": {**current["spec"], "paused": False}})
    world.ready("deployments", "test-deployment", 2)
    world.delete_collection("deployments", label_selector=f"{static}=true")
    world.until(lambda: not world.list("deployments", "default"))
    world.until(lambda: not world.list("pods", "default"), what="the pods are collected")
