"""Upstream's conformance behaviours of DaemonSets and ControllerRevisions, in virtual time."""

from __future__ import annotations

import pytest

from proa.client.interface import DeleteOptions
from proa.meta.objects import Obj
from tests.controllers.conformance.world import World, check_status_endpoints, made, template

LABELS = {"daemonset-name": "daemon-set"}
HASH = "controller-revision-hash"


def daemon_set(image: str = "httpd", **spec: object) -> Obj:
    pods = template(LABELS, image)
    return made(
        "DaemonSet", "daemon-set", {"selector": {"matchLabels": LABELS}, "template": pods} | spec, labels=LABELS
    )


def on_nodes(world: World, names: list[str]) -> None:
    """Waits until exactly these nodes run a pod of the set."""

    def placed() -> bool:
        return sorted(one["spec"]["nodeName"] for one in world.running()) == sorted(names)

    world.until(placed, what=f"daemons on {names}")


@pytest.mark.behaviour("[sig-apps] Daemon set [Serial] should run and stop simple daemon")
def test_a_simple_daemon(world: World) -> None:
    world.create(daemon_set())
    on_nodes(world, world.simulated.names)
    victim = world.running()[0]["metadata"]
    world.delete("pods", victim["name"])
    world.until(lambda: victim["uid"] not in {one["metadata"]["uid"] for one in world.list("pods", "default")})
    on_nodes(world, world.simulated.names)


@pytest.mark.behaviour("[sig-apps] Daemon set [Serial] should run and stop complex daemon")
def test_a_daemon_that_chooses_nodes(world: World) -> None:
    chosen = template(LABELS, nodeSelector={"daemonset-color": "blue"})
    world.create(daemon_set(template=chosen))
    world.advance(5)
    assert not world.pods()
    node = world.simulated.names[0]
    world.patch("nodes", node, {"metadata": {"labels": {"daemonset-color": "blue"}}})
    on_nodes(world, [node])
    world.patch("nodes", node, {"metadata": {"labels": {"daemonset-color": "green"}}})
    on_nodes(world, [])
    green = template(LABELS, nodeSelector={"daemonset-color": "green"})
    rolling = {"type": "RollingUpdate"}
    world.patch("daemonsets", "daemon-set", {"spec": {"template": green, "updateStrategy": rolling}})
    on_nodes(world, [node])


@pytest.mark.behaviour("[sig-apps] Daemon set [Serial] should retry creating failed daemon pods")
def test_a_failed_daemon_is_replaced(world: World) -> None:
    world.create(daemon_set())
    on_nodes(world, world.simulated.names)
    victim = world.running()[0]["metadata"]
    world.patch("pods", victim["name"], {"status": {"phase": "Failed"}}, subresource="status")
    world.until(lambda: victim["uid"] not in {one["metadata"]["uid"] for one in world.list("pods", "default")})
    on_nodes(world, world.simulated.names)


@pytest.mark.behaviour(
    "[sig-apps] Daemon set [Serial] should update pod when spec was updated and update strategy is RollingUpdate"
)
def test_rolling_update(world: World) -> None:
    world.create(daemon_set(updateStrategy={"type": "RollingUpdate"}))
    on_nodes(world, world.simulated.names)
    first = world.list("controllerrevisions", "default")
    assert [one["revision"] for one in first] == [1]
    assert {one["metadata"]["labels"][HASH] for one in world.running()} == {first[0]["metadata"]["labels"][HASH]}
    world.patch("daemonsets", "daemon-set", {"spec": {"template": template(LABELS, "agnhost")}})
    world.until(lambda: [one["spec"]["containers"][0]["image"] for one in world.running()] == ["agnhost"] * 2)
    on_nodes(world, world.simulated.names)
    found = sorted(world.list("controllerrevisions", "default"), key=lambda one: int(one["revision"]))
    assert [one["revision"] for one in found] == [1, 2]
    assert {one["metadata"]["labels"][HASH] for one in world.running()} == {found[1]["metadata"]["labels"][HASH]}


@pytest.mark.behaviour("[sig-apps] Daemon set [Serial] should rollback without unnecessary restarts")
def test_rollback_restarts_no_more_than_it_must(world: World) -> None:
    world.create(daemon_set(updateStrategy={"type": "RollingUpdate"}))
    on_nodes(world, world.simulated.names)
    world.lives_of_broken_images()
    world.patch("daemonsets", "daemon-set", {"spec": {"template": template(LABELS, "foo:non-existent")}})
    world.until(lambda: any(one["spec"]["containers"][0]["image"] == "foo:non-existent" for one in world.pods()))
    world.advance(5)
    good = {one["metadata"]["uid"] for one in world.running()}
    assert len(good) == 1, "the update stops at the first pod that does not come up"
    world.patch("daemonsets", "daemon-set", {"spec": {"template": template(LABELS)}})
    on_nodes(world, world.simulated.names)
    assert good < {one["metadata"]["uid"] for one in world.running()}, "what ran goes on running"


@pytest.mark.behaviour("[sig-apps] Daemon set [Serial] should list and delete a collection of DaemonSets")
def test_collection(world: World) -> None:
    world.create(daemon_set())
    on_nodes(world, world.simulated.names)
    assert len(world.list("daemonsets", label_selector="daemonset-name=daemon-set")) == 1
    world.delete_collection("daemonsets", label_selector="daemonset-name=daemon-set")
    world.until(lambda: not world.list("daemonsets", label_selector="daemonset-name=daemon-set"))


@pytest.mark.behaviour("[sig-apps] Daemon set [Serial] should verify changes to a daemon set status")
def test_status(world: World) -> None:
    world.create(daemon_set())
    on_nodes(world, world.simulated.names)
    world.until(lambda: world.status("daemonsets", "daemon-set").get("numberReady") == 2)
    world.settle()
    check_status_endpoints(world, "daemonsets", "daemon-set")


@pytest.mark.behaviour("[sig-apps] ControllerRevision [Serial] should manage the lifecycle of a ControllerRevision")
def test_controller_revisions(world: World) -> None:
    owner = world.create(daemon_set())
    on_nodes(world, world.simulated.names)

    def revisions(selector: str = "daemonset-name=daemon-set") -> list[Obj]:
        return world.list("controllerrevisions", "default", label_selector=selector)

    assert len(revisions()) == 1
    first = revisions()[0]
    name = first["metadata"]["name"]
    patched = world.patch("controllerrevisions", name, {"metadata": {"labels": {name: "patched"}}})
    assert patched["metadata"]["labels"][name] == "patched"
    second = {
        **made("ControllerRevision", "fresh", labels=LABELS),
        "data": first["data"],
        "revision": first["revision"] + 1,
    }
    second["metadata"]["ownerReferences"] = first["metadata"]["ownerReferences"]
    world.create(second)
    assert len(revisions()) == 2
    world.delete("controllerrevisions", name)
    world.until(lambda: len(revisions()) == 1, what="two revisions of one content become one")
    left = revisions()[0]
    labels = {**left["metadata"]["labels"], left["metadata"]["name"]: "updated"}
    world.update({**left, "metadata": {**left["metadata"], "labels": labels}})
    assert len(revisions(f"{left['metadata']['name']}=updated")) == 1
    world.patch("daemonsets", "daemon-set", {"spec": {"template": template(LABELS, terminationGracePeriodSeconds=1)}})
    world.until(lambda: len(revisions()) == 2, what="a new template, a new revision")
    world.delete_collection("controllerrevisions", label_selector=f"{left['metadata']['name']}=updated")
    world.until(lambda: len(revisions()) == 1)
    world.delete(
        "daemonsets", "daemon-set", options=DeleteOptions(propagation="Background", uid=owner["metadata"]["uid"])
    )
    world.until(lambda: not revisions())
