"""Upstream's conformance behaviours of PodDisruptionBudgets and evictions, in virtual time."""

from __future__ import annotations

import pytest

from proa.client.interface import MERGE_PATCH
from proa.meta.errors import StatusError
from proa.meta.objects import Obj
from tests.controllers.conformance.world import World, made, pod, workload

LABELS = {"foo": "bar"}


def budget(name: str = "foo", **spec: object) -> Obj:
    return made("PodDisruptionBudget", name, {"selector": {"matchLabels": LABELS}, **spec}, labels=LABELS)


def processed(world: World, name: str = "foo") -> Obj:
    """Waits until the controller has seen the current budget; returns it."""

    def seen() -> Obj | None:
        found = world.get("poddisruptionbudgets", name)
        current = (found.get("status") or {}).get("observedGeneration") == found["metadata"]["generation"]
        return found if current else None

    found: Obj = world.until(seen)
    return found


@pytest.mark.behaviour("[sig-apps] DisruptionController should create a PodDisruptionBudget")
def test_operations(world: World) -> None:
    world.create(budget(minAvailable="1%"))
    found = processed(world)
    world.update({**found, "spec": {**found["spec"], "minAvailable": "2%"}})
    assert processed(world)["spec"]["minAvailable"] == "2%"
    patch = {"spec": {"minAvailable": "3%"}}
    assert world.patch("poddisruptionbudgets", "foo", patch, patch_type=MERGE_PATCH)["spec"]["minAvailable"] == "3%"
    assert processed(world)["spec"]["minAvailable"] == "3%"
    world.delete("poddisruptionbudgets", "foo")
    with pytest.raises(StatusError) as caught:
        world.get("poddisruptionbudgets", "foo")
    assert caught.value.code == 404


@pytest.mark.behaviour(
    "[sig-apps] DisruptionController Listing PodDisruptionBudgets for all namespaces "
    "should list and delete a collection of PodDisruptionBudgets"
)
def test_collections(world: World) -> None:
    world.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "other"}})
    for name, namespace in (("foo", "default"), ("foo2", "default"), ("foo", "other")):
        world.create(budget(name, minAvailable=1), namespace)
    assert len(world.list("poddisruptionbudgets", label_selector="foo=bar")) == 3
    assert len(world.list("poddisruptionbudgets", "default", label_selector="foo=bar")) == 2
    world.delete_collection("poddisruptionbudgets", label_selector="foo=bar")
    assert [one["metadata"]["namespace"] for one in world.list("poddisruptionbudgets")] == ["other"]


@pytest.mark.behaviour("[sig-apps] DisruptionController should observe PodDisruptionBudget status updated")
def test_status_follows_pods(world: World) -> None:
    world.create(budget(minAvailable=1))
    processed(world)
    world.create(workload("ReplicaSet", "rs", 3, LABELS))
    world.until(lambda: world.status("poddisruptionbudgets", "foo").get("disruptionsAllowed") == 2)
    status = world.status("poddisruptionbudgets", "foo")
    assert (status["currentHealthy"], status["desiredHealthy"], status["expectedPods"]) == (3, 1, 3)
    assert world.condition("poddisruptionbudgets", "foo", "DisruptionAllowed")["reason"] == "SufficientPods"


@pytest.mark.behaviour("[sig-apps] DisruptionController should update/patch PodDisruptionBudget status")
def test_status_endpoints(world: World) -> None:
    world.create(budget(minAvailable=1))
    for name in ("a", "b"):
        world.create(pod(name, LABELS))
    found = processed(world)
    world.until(lambda: world.status("poddisruptionbudgets", "foo").get("currentHealthy") == 2)
    found = world.get("poddisruptionbudgets", "foo")
    updated = world.update(
        {**found, "status": {**found["status"], "disruptedPods": {"a": "2026-01-01T00:00:00Z"}}}, "status"
    )
    assert set(updated["status"]["disruptedPods"]) == {"a"}
    merged = {"status": {"disruptedPods": {"b": "2026-01-01T00:00:00Z"}}}
    patched = world.patch("poddisruptionbudgets", "foo", merged, subresource="status", patch_type=MERGE_PATCH)
    assert "b" in patched["status"]["disruptedPods"]
    emptied = {"status": {"disruptedPods": None}}
    patched = world.patch("poddisruptionbudgets", "foo", emptied, subresource="status", patch_type=MERGE_PATCH)
    assert not patched["status"].get("disruptedPods")
    assert not world.status("poddisruptionbudgets", "foo").get("disruptedPods")


@pytest.mark.behaviour("[sig-apps] DisruptionController should block an eviction until the PDB is updated to allow it")
def test_an_eviction_waits_for_the_budget(world: World) -> None:
    world.create(workload("ReplicaSet", "rs", 3, LABELS))
    world.ready("replicasets", "rs", 3)
    world.create(budget(minAvailable=3))
    processed(world)
    world.until(lambda: world.status("poddisruptionbudgets", "foo").get("currentHealthy") == 3)
    victim = world.running()[0]["metadata"]
    with pytest.raises(StatusError) as caught:
        world.evict(victim["name"])
    assert caught.value.code == 429 and caught.value.reason == "TooManyRequests"
    assert caught.value.details and caught.value.details["causes"][0]["reason"] == "DisruptionBudget"
    assert not world.get("pods", victim["name"])["metadata"].get("deletionTimestamp")
    world.patch("poddisruptionbudgets", "foo", {"spec": {"minAvailable": 2}}, patch_type=MERGE_PATCH)
    world.until(lambda: world.status("poddisruptionbudgets", "foo").get("disruptionsAllowed") == 1)
    world.evict(victim["name"])
    world.until(lambda: victim["uid"] not in {one["metadata"]["uid"] for one in world.list("pods", "default")})
    world.delete("poddisruptionbudgets", "foo")
    world.evict(world.running()[0]["metadata"]["name"])
