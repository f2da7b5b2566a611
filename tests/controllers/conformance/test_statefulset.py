"""Upstream's conformance behaviours of StatefulSets, in virtual time."""

from __future__ import annotations

import pytest

from proa.client.interface import DeleteOptions
from proa.meta.objects import Obj
from tests.controllers.conformance.world import World, check_scale, check_status_endpoints, template, workload

LABELS = {"baz": "blah", "foo": "bar"}


def stateful_set(replicas: int, **spec: object) -> Obj:
    return workload("StatefulSet", "ss", replicas, LABELS, **spec)


def names(world: World) -> list[str]:
    return sorted(one["metadata"]["name"] for one in world.pods())


def set_ready(world: World, name: str, ready: bool) -> None:
    """Plays a readiness probe whose answer changes: the pod's label decides on its life."""
    world.patch("pods", name, {"metadata": {"labels": {"unready": None if ready else "yes"}}})


def image_of(world: World, name: str) -> str:
    return str(world.get("pods", name)["spec"]["containers"][0]["image"])


def roll(world: World, image: str) -> None:
    world.patch("statefulsets", "ss", {"spec": {"template": template(LABELS, image)}})


def revisions(world: World) -> tuple[str, str]:
    status = world.status("statefulsets", "ss")
    return status["currentRevision"], status["updateRevision"]


def updated(world: World, image: str, count: int = 3) -> None:
    """Waits until the whole set runs `image` and its revisions are one."""

    def done() -> bool:
        current, update = revisions(world)
        running = [image_of(world, one["metadata"]["name"]) for one in world.running()]
        ready = world.status("statefulsets", "ss").get("readyReplicas", 0)
        return current == update and running == [image] * count and ready == count

    world.until(done, what=f"all pods run {image}")


@pytest.mark.behaviour(
    "[sig-apps] StatefulSet Basic StatefulSet functionality [StatefulSetBasic] "
    "Scaling should happen in predictable order and halt if any stateful pod is unhealthy [Slow]"
)
def test_scaling_in_order(world: World) -> None:
    world.create(stateful_set(1))
    world.ready("statefulsets", "ss", 1)
    set_ready(world, "ss-0", False)
    world.ready("statefulsets", "ss", 0)
    world.scale("statefulsets", "ss", 3)
    world.advance(10)
    assert names(world) == ["ss-0"], "scaling up halts at an unhealthy pod"
    seen: list[list[str]] = []

    def watched(count: int) -> bool:
        if not seen or seen[-1] != names(world):
            seen.append(names(world))
        return len(world.pods()) == count and world.status("statefulsets", "ss").get("readyReplicas", 0) == count

    set_ready(world, "ss-0", True)
    world.until(lambda: watched(3))
    made = [world.get("pods", f"ss-{number}")["metadata"] for number in range(3)]
    assert [int(one["resourceVersion"]) > 0 for one in made] == [True] * 3
    assert all(first == sorted(first) and first[0] == "ss-0" for first in seen)
    for number in range(3):
        set_ready(world, f"ss-{number}", False)
    world.ready("statefulsets", "ss", 0)
    world.scale("statefulsets", "ss", 0)
    world.advance(10)
    assert names(world) == ["ss-0", "ss-1", "ss-2"], "scaling down halts too"
    for number in range(3):
        set_ready(world, f"ss-{number}", True)
    seen.clear()
    world.until(lambda: watched(0))
    assert all(one == [f"ss-{number}" for number in range(len(one))] for one in seen), "the highest goes first"


@pytest.mark.behaviour(
    "[sig-apps] StatefulSet Basic StatefulSet functionality [StatefulSetBasic] "
    "Burst scaling should run to completion even with unhealthy pods [Slow]"
)
def test_burst_scaling(world: World) -> None:
    world.create(stateful_set(1, podManagementPolicy="Parallel"))
    world.ready("statefulsets", "ss", 1)
    set_ready(world, "ss-0", False)
    world.scale("statefulsets", "ss", 3)
    world.until(lambda: names(world) == ["ss-0", "ss-1", "ss-2"])
    world.ready("statefulsets", "ss", 2)
    for number in range(3):
        set_ready(world, f"ss-{number}", False)
    world.scale("statefulsets", "ss", 0)
    world.until(lambda: not names(world))
    assert world.status("statefulsets", "ss")["replicas"] == 0


@pytest.mark.behaviour(
    "[sig-apps] StatefulSet Basic StatefulSet functionality [StatefulSetBasic] Should recreate evicted statefulset"
)
def test_a_failed_pod_is_made_again(world: World) -> None:
    world.create(stateful_set(1))
    world.ready("statefulsets", "ss", 1)
    first = world.get("pods", "ss-0")["metadata"]["uid"]
    failed = {"status": {"phase": "Failed", "reason": "Evicted"}}
    world.patch("pods", "ss-0", failed, subresource="status")
    world.until(lambda: world.get("pods", "ss-0")["metadata"]["uid"] != first)
    world.ready("statefulsets", "ss", 1)


@pytest.mark.behaviour(
    "[sig-apps] StatefulSet Basic StatefulSet functionality [StatefulSetBasic] should have a working scale subresource"
)
def test_scale(world: World) -> None:
    world.create(stateful_set(1))
    world.ready("statefulsets", "ss", 1)
    check_scale(world, "statefulsets", "ss", 1, 2)


@pytest.mark.behaviour(
    "[sig-apps] StatefulSet Basic StatefulSet functionality [StatefulSetBasic] "
    "should list, patch and delete a collection of StatefulSets"
)
def test_collection(world: World) -> None:
    world.create(stateful_set(1))
    world.ready("statefulsets", "ss", 1)
    selector = "baz=blah,foo=bar"
    assert len(world.list("statefulsets", label_selector=selector)) == 1
    patch = {
        "metadata": {"labels": {"test-ss": "patched"}},
        "spec": {"replicas": 2, "template": template(LABELS, "agnhost", terminationGracePeriodSeconds=0)},
    }
    world.patch("statefulsets", "ss", patch)
    updated(world, "agnhost", 2)
    found = world.get("statefulsets", "ss")
    assert found["metadata"]["labels"]["test-ss"] == "patched" and found["spec"]["replicas"] == 2
    world.delete_collection("statefulsets", label_selector="test-ss=patched")
    world.until(lambda: not world.list("statefulsets", "default"))


@pytest.mark.behaviour(
    "[sig-apps] StatefulSet Basic StatefulSet functionality [StatefulSetBasic] "
    "should perform rolling updates and roll backs of template modifications"
)
def test_rolling_update_and_back(world: World) -> None:
    world.create(stateful_set(3))
    world.ready("statefulsets", "ss", 3)
    current, update = revisions(world)
    assert current == update
    set_ready(world, "ss-1", False)
    world.ready("statefulsets", "ss", 2)
    roll(world, "httpd:2")
    world.until(lambda: revisions(world)[1] != update)
    set_ready(world, "ss-1", True)
    updated(world, "httpd:2")
    second = revisions(world)[1]
    assert second != current
    roll(world, "httpd")
    updated(world, "httpd")
    assert revisions(world) == (current, current), "a rollback is the old revision again"
    assert len(world.list("controllerrevisions", "default")) == 2


@pytest.mark.behaviour(
    "[sig-apps] StatefulSet Basic StatefulSet functionality [StatefulSetBasic] "
    "should perform canary updates and phased rolling updates of template modifications"
)
def test_canary_and_phases(world: World) -> None:
    def partition(number: int) -> Obj:
        return {"type": "RollingUpdate", "rollingUpdate": {"partition": number}}

    def images() -> list[str]:
        return [image_of(world, f"ss-{number}") for number in range(3)]

    world.create(stateful_set(3, updateStrategy=partition(3)))
    world.ready("statefulsets", "ss", 3)
    current, _ = revisions(world)
    roll(world, "httpd:2")
    world.until(lambda: revisions(world)[1] != current)
    world.advance(30)
    assert images() == ["httpd"] * 3, "a partition above all ordinals updates none"
    world.patch("statefulsets", "ss", {"spec": {"updateStrategy": partition(2)}})
    world.until(lambda: images() == ["httpd", "httpd", "httpd:2"])
    world.ready("statefulsets", "ss", 3)
    for name in ("ss-0", "ss-2"):
        world.delete("pods", name, options=DeleteOptions(grace_seconds=0))
    world.ready("statefulsets", "ss", 3)
    assert images() == ["httpd", "httpd", "httpd:2"], "pods come back in the revision of their side"
    hashes = [world.get("pods", f"ss-{number}")["metadata"]["labels"]["controller-revision-hash"] for number in (0, 2)]
    assert hashes == list(revisions(world))
    for number in (1, 0):
        world.patch("statefulsets", "ss", {"spec": {"updateStrategy": partition(number)}})
        expected = ["httpd"] * number + ["httpd:2"] * (3 - number)
        world.until(lambda expected=expected: images() == expected)  # type: ignore[misc]
        world.ready("statefulsets", "ss", 3)
    updated(world, "httpd:2")


@pytest.mark.behaviour(
    "[sig-apps] StatefulSet Basic StatefulSet functionality [StatefulSetBasic] "
    "should validate Statefulset Status endpoints"
)
def test_status(world: World) -> None:
    world.create(stateful_set(1))
    world.ready("statefulsets", "ss", 1)
    world.settle()
    check_status_endpoints(world, "statefulsets", "ss")
