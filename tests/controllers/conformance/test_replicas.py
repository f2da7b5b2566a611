"""Upstream's conformance behaviours of ReplicaSets and ReplicationControllers, in virtual time.

That their pods serve is shown with real containers, in tests/cluster.
"""

from __future__ import annotations

import pytest

from proa.client.interface import MERGE_PATCH
from proa.meta.objects import Obj, controller_of
from tests.controllers.conformance.world import World, check_scale, check_status_endpoints, pod, template, workload


def adoption(world: World, kind: str, resource: str) -> None:
    """A pod that was there before is adopted; one whose labels no longer match is released and replaced."""
    world.create(pod("pod-adoption", {"name": "pod-adoption"}))
    world.until(lambda: world.running("name=pod-adoption"))
    owner = world.create(workload(kind, "test", 1, {"name": "pod-adoption"}))
    world.until(lambda: controller_of(world.get("pods", "pod-adoption")))
    assert (controller_of(world.get("pods", "pod-adoption")) or {})["uid"] == owner["metadata"]["uid"]
    world.ready(resource, "test", 1)
    assert len(world.pods()) == 1
    world.patch("pods", "pod-adoption", {"metadata": {"labels": {"name": "not-matching-name"}}})
    world.until(lambda: controller_of(world.get("pods", "pod-adoption")) is None, what="released")
    world.until(lambda: len(world.running("name=pod-adoption")) == 1, what="replaced")


@pytest.mark.behaviour(
    "[sig-apps] ReplicaSet should adopt matching pods on creation and release no longer matching pods"
)
def test_a_replica_set_adopts_and_releases(world: World) -> None:
    adoption(world, "ReplicaSet", "replicasets")


@pytest.mark.behaviour(
    "[sig-apps] ReplicationController should adopt matching pods on creation",
    "[sig-apps] ReplicationController should release no longer matching pods",
)
def test_a_controller_adopts_and_releases(world: World) -> None:
    adoption(world, "ReplicationController", "replicationcontrollers")


@pytest.mark.behaviour("[sig-apps] ReplicaSet Replicaset should have a working scale subresource")
def test_scale_of_a_replica_set(world: World) -> None:
    world.create(workload("ReplicaSet", "test-rs", 1, {"name": "sample-pod"}))
    world.ready("replicasets", "test-rs", 1)
    check_scale(world, "replicasets", "test-rs", 1, 2)


@pytest.mark.behaviour("[sig-apps] ReplicationController should get and update a ReplicationController scale")
def test_scale_of_a_controller(world: World) -> None:
    world.create(workload("ReplicationController", "e2e-rc", 1, {"name": "sample-pod"}))
    world.ready("replicationcontrollers", "e2e-rc", 1)
    check_scale(world, "replicationcontrollers", "e2e-rc", 1, 2)


@pytest.mark.behaviour("[sig-apps] ReplicaSet Replace and Patch tests")
def test_replace_and_patch(world: World) -> None:
    world.create(workload("ReplicaSet", "test-rs", 1, {"name": "sample-pod"}))
    current = world.ready("replicasets", "test-rs", 1)
    world.update({**current, "spec": {**current["spec"], "replicas": 2}})
    world.ready("replicasets", "test-rs", 2)
    changed = template({"name": "sample-pod"}, "agnhost", terminationGracePeriodSeconds=0)
    patch = {"metadata": {"labels": {"test-rs": "patched"}}, "spec": {"replicas": 3, "template": changed}}
    world.patch("replicasets", "test-rs", patch)
    found = world.ready("replicasets", "test-rs", 3)
    assert found["metadata"]["labels"]["test-rs"] == "patched"
    images = sorted(one["spec"]["containers"][0]["image"] for one in world.running())
    assert images == ["agnhost", "httpd", "httpd"], "only new pods follow the template"


@pytest.mark.behaviour("[sig-apps] ReplicaSet should validate Replicaset Status endpoints")
def test_status_of_a_replica_set(world: World) -> None:
    world.create(workload("ReplicaSet", "test-rs", 1, {"name": "sample-pod"}))
    world.ready("replicasets", "test-rs", 1)
    world.settle()
    check_status_endpoints(world, "replicasets", "test-rs")


@pytest.mark.behaviour("[sig-apps] ReplicaSet should list and delete a collection of ReplicaSets")
def test_collection_of_replica_sets(world: World) -> None:
    made = workload("ReplicaSet", "test-rs", 3, {"name": "sample-pod"})
    made["metadata"]["labels"] = {"name": "sample-pod", "pod": "httpd"}
    world.create(made)
    world.ready("replicasets", "test-rs", 3)
    assert len(world.list("replicasets", label_selector="name=sample-pod,pod=httpd")) == 1
    world.delete_collection("replicasets", label_selector="name=sample-pod,pod=httpd")
    assert not world.list("replicasets", label_selector="name=sample-pod,pod=httpd")


@pytest.mark.behaviour(
    "[sig-apps] ReplicationController should surface a failure condition on a common issue like exceeded quota"
)
def test_a_quota_shows_as_a_condition(world: World) -> None:
    quota: Obj = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "condition-test"}}
    world.create({**quota, "spec": {"hard": {"pods": "2"}}})
    world.until(lambda: world.status("resourcequotas", "condition-test").get("hard") == {"pods": "2"})
    world.create(workload("ReplicationController", "condition-test", 3, {"name": "condition-test"}))
    failure = world.until(lambda: world.condition("replicationcontrollers", "condition-test", "ReplicaFailure"))
    assert failure["reason"] == "FailedCreate" and "exceeded quota" in failure["message"]
    assert world.status("replicationcontrollers", "condition-test")["replicas"] == 2
    world.patch("replicationcontrollers", "condition-test", {"spec": {"replicas": 2}})
    world.until(lambda: not world.condition("replicationcontrollers", "condition-test", "ReplicaFailure"))


@pytest.mark.behaviour("[sig-apps] ReplicationController should test the lifecycle of a ReplicationController")
def test_lifecycle_of_a_controller(world: World) -> None:
    static = {"test-rc-static": "true"}
    made = workload("ReplicationController", "rc-test", 1, static)
    made["metadata"]["labels"] = static
    world.create(made)
    world.ready("replicationcontrollers", "rc-test", 1)
    world.patch("replicationcontrollers", "rc-test", {"metadata": {"labels": {"test-rc": "patched"}}})
    status = {"status": {"readyReplicas": 0, "availableReplicas": 0}}
    answer = world.patch("replicationcontrollers", "rc-test", status, subresource="status", patch_type=MERGE_PATCH)
    assert "readyReplicas" not in answer["status"]
    assert world.get("replicationcontrollers", "rc-test", subresource="status")["metadata"]["name"] == "rc-test"
    world.patch("replicationcontrollers", "rc-test", {"spec": {"replicas": 2}}, subresource="scale")
    current = world.ready("replicationcontrollers", "rc-test", 2)
    world.update({**current, "metadata": {**current["metadata"], "labels": {**static, "test-rc": "updated"}}})
    found = world.list("replicationcontrollers", label_selector="test-rc-static=true")
    assert [one["metadata"]["labels"]["test-rc"] for one in found] == ["updated"]
    world.delete_collection("replicationcontrollers", label_selector="test-rc-static=true")
    world.until(lambda: not world.list("replicationcontrollers", "default"))
