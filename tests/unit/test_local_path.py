"""Local-path volumes: what the provisioner decides, and what a node may do with its own volumes and no others."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from proa.apis.storage.local_path import (
    DIRECTORY_FINALIZER,
    FOLDER_ANNOTATION,
    NODE_LABEL,
    PROVISIONED_BY,
    PROVISIONER,
    directory_of,
    is_on,
    node_label,
    storage_class,
)
from proa.apiserver.app import ApiServer, Options
from proa.client.interface import ListOptions, UserInfo
from proa.client.local import LocalClient
from proa.client.resources import PERSISTENTVOLUMES
from proa.controllers.localpath.plan import (
    NOTHING,
    PROVISIONER_FINALIZER,
    SELECTED_NODE,
    SIMULATED_ANNOTATION,
    Elsewhere,
    Refused,
    Upkeep,
    grown_status,
    grown_volume,
    is_waiting,
    provisioned,
    sent_back,
    upkeep,
)
from proa.meta.errors import StatusError
from proa.meta.objects import Obj

ASKED = {"volume.kubernetes.io/storage-provisioner": PROVISIONER}
NODE = {"metadata": {"name": "n1", "annotations": {FOLDER_ANNOTATION: "/data/local-path"}}}
BOTH = [PROVISIONER_FINALIZER, DIRECTORY_FINALIZER]


def claim(node: str = "n1", **spec: Any) -> Obj:
    wanted = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}, **spec}
    notes = {**ASKED, SELECTED_NODE: node} if node else ASKED
    meta = {"name": "c", "namespace": "ns", "uid": "u-1", "resourceVersion": "7", "annotations": notes}
    return {"metadata": meta, "spec": wanted, "status": {"phase": "Pending"}}


def test_a_volume_is_made_for_the_selected_node() -> None:
    made = provisioned(claim(), storage_class(), NODE)
    meta, spec = made["metadata"], made["spec"]
    assert meta["name"] == "pvc-u-1"
    assert meta["annotations"] == {PROVISIONED_BY: PROVISIONER}
    assert meta["finalizers"] == [PROVISIONER_FINALIZER]
    assert meta["labels"] == {NODE_LABEL: "n1"}
    assert spec["local"] == {"path": "/data/local-path/pvc-u-1_ns_c"}
    assert spec["capacity"] == {"storage": "1Gi"}
    assert spec["claimRef"]["uid"] == "u-1"
    assert (spec["storageClassName"], spec["persistentVolumeReclaimPolicy"]) == ("local-path", "Delete")
    (term,) = spec["nodeAffinity"]["required"]["nodeSelectorTerms"]
    assert term["matchExpressions"] == [{"key": "kubernetes.io/hostname", "operator": "In", "values": ["n1"]}]
    kept = provisioned(claim(), {**storage_class(), "reclaimPolicy": "Retain", "mountOptions": ["ro"]}, NODE)
    assert "finalizers" not in kept["metadata"]
    assert kept["spec"]["mountOptions"] == ["ro"]


def test_a_simulated_node_has_a_place_where_directories_would_be() -> None:
    node = {"metadata": {"name": "s", "annotations": {SIMULATED_ANNOTATION: "true"}}}
    assert provisioned(claim("s"), storage_class(), node)["spec"]["local"]["path"].endswith("/pvc-u-1_ns_c")


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        (claim(node=""), "WaitForFirstConsumer"),
        (claim(selector={"matchLabels": {"a": "b"}}), "Selector"),
        (claim(volumeMode="Block"), "Block"),
        (claim(accessModes=["ReadWriteMany"]), "ReadWriteOnce"),
        (claim(dataSource={"kind": "PersistentVolumeClaim", "name": "x"}), "data source"),
    ],
)
def test_what_a_directory_can_not_be(asked: Obj, why: str) -> None:
    with pytest.raises(Refused, match=why):
        provisioned(asked, storage_class(), NODE)


@pytest.mark.parametrize("node", [None, {"metadata": {"name": "n1"}}])
def test_a_node_without_a_folder_sends_the_claim_back(node: Obj | None) -> None:
    with pytest.raises(Elsewhere):
        provisioned(claim(), storage_class(), node)
    assert sent_back(claim())["metadata"]["annotations"] == ASKED


def test_which_claims_wait() -> None:
    assert is_waiting(claim())
    assert not is_waiting(claim(volumeName="v"))
    assert not is_waiting({"metadata": {"name": "c"}, "spec": {}})
    deleted = claim()
    deleted["metadata"]["deletionTimestamp"] = "x"
    assert not is_waiting(deleted)


def volume(phase: str, finalizers: list[str], policy: str = "Delete", deleted: bool = False, **spec: Any) -> Obj:
    meta: Obj = {"name": "v", "annotations": {PROVISIONED_BY: PROVISIONER}, "labels": {NODE_LABEL: "n1"}}
    meta["finalizers"] = finalizers
    if deleted:
        meta["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    wanted = {"persistentVolumeReclaimPolicy": policy, "capacity": {"storage": "1Gi"}, **spec}
    return {"metadata": meta, "spec": wanted, "status": {"phase": phase}}


@pytest.mark.parametrize(
    ("given", "node_exists", "todo"),
    [
        (volume("Bound", [PROVISIONER_FINALIZER]), True, NOTHING),
        (volume("Bound", [], "Retain"), True, NOTHING),
        # The policy changed.
        (volume("Bound", ["x"]), True, Upkeep(finalizers=["x", PROVISIONER_FINALIZER])),
        (volume("Bound", BOTH, "Retain"), True, Upkeep(finalizers=[DIRECTORY_FINALIZER])),
        # Released: the object is deleted, and waits for its node.
        (volume("Released", BOTH), True, Upkeep(delete=True)),
        (volume("Released", [], "Retain"), True, NOTHING),
        (volume("Released", BOTH, deleted=True), True, NOTHING),
        (volume("Released", BOTH, deleted=True), False, Upkeep(finalizers=[])),
        (volume("Released", [PROVISIONER_FINALIZER], deleted=True), True, Upkeep(finalizers=[])),
        # Deleted before its claim: it stays until the claim goes.
        (volume("Bound", [PROVISIONER_FINALIZER], deleted=True), True, NOTHING),
        ({**volume("Released", BOTH), "metadata": {"name": "other"}}, True, NOTHING),
    ],
)
def test_what_a_volume_needs(given: Obj, node_exists: bool, todo: Upkeep) -> None:
    assert upkeep(given, node_exists) == todo


def test_a_directory_grows_at_once() -> None:
    asked = claim(resources={"requests": {"storage": "3Gi"}})
    pending = {"type": "FileSystemResizePending", "status": "True"}
    asked["status"] = {"phase": "Bound", "capacity": {"storage": "1Gi"}, "conditions": [pending]}
    grown = grown_volume(volume("Bound", BOTH), asked)
    assert grown is not None and grown["spec"]["capacity"] == {"storage": "3Gi"}
    assert grown_volume(grown, asked) is None
    status = grown_status(asked, grown)
    assert status == {"phase": "Bound", "capacity": {"storage": "3Gi"}, "allocatedResources": {"storage": "3Gi"}}
    assert grown_status({**asked, "status": status}, grown) is None


def test_long_names_of_nodes_make_labels_all_the_same() -> None:
    assert node_label("n1") == "n1"
    long = "n" * 64
    assert len(node_label(long)) <= 63
    assert is_on({"metadata": {"labels": {NODE_LABEL: node_label(long)}}}, long)


@pytest.mark.parametrize(
    ("path", "mine"),
    [
        ("/data/pvc-1_ns_c", True),
        ("/data/pvc-1", False),
        ("/data/pvc-12_ns_c", False),
        ("/data/deep/pvc-1_ns_c", False),
        ("/etc/pvc-1_x", False),
        ("", False),
    ],
)
def test_only_its_own_directory_below_the_folder_is_a_volumes(path: str, mine: bool) -> None:
    found = directory_of({"metadata": {"name": "pvc-1"}, "spec": {"local": {"path": path}}}, "/data")
    assert found == (path if mine else "")


# ---------------------------------------------------------------- a node's rights


class World:
    def __init__(self, server: ApiServer) -> None:
        self.admin = LocalClient(server.api, UserInfo("admin", ("system:masters",)))
        self.node = LocalClient(server.api, UserInfo("system:node:n1", ("system:nodes", "system:authenticated")))


@pytest.fixture
async def world() -> AsyncIterator[World]:
    server = ApiServer(Options())
    await server.start()
    yield World(server)
    await server.stop()


async def put(world: World, name: str, node: str, provisioner: str = PROVISIONER) -> None:
    asked = claim(node)
    asked["metadata"]["uid"] = name
    made = provisioned(asked, storage_class(), {"metadata": {**NODE["metadata"], "name": node}})
    made["metadata"].update(name=name, annotations={PROVISIONED_BY: provisioner})
    await world.admin.create(PERSISTENTVOLUMES, made)


async def refused(awaitable: Any) -> str:
    with pytest.raises(StatusError) as error:
        await awaitable
    assert error.value.code == 403, error.value
    return error.value.message


async def test_a_node_sees_its_own_volumes_only(world: World) -> None:
    await put(world, "mine", "n1")
    await put(world, "other", "n2")
    listed = await world.node.list(PERSISTENTVOLUMES, options=ListOptions(label_selector=f"{NODE_LABEL}=n1"))
    assert [one["metadata"]["name"] for one in listed.items] == ["mine"]
    for selector in ("", f"{NODE_LABEL}=n2", f"{NODE_LABEL} in (n1,n2)", NODE_LABEL):
        assert "label selector" in await refused(
            world.node.list(PERSISTENTVOLUMES, options=ListOptions(label_selector=selector))
        )


async def test_a_node_changes_nothing_but_its_finalizer(world: World) -> None:
    for name, node, provisioner in (("mine", "n1", PROVISIONER), ("other", "n2", PROVISIONER), ("foreign", "n1", "x")):
        await put(world, name, node, provisioner)
    add = {"metadata": {"finalizers": [DIRECTORY_FINALIZER]}}
    changed = await world.node.patch(PERSISTENTVOLUMES, "mine", add)
    assert DIRECTORY_FINALIZER in changed["metadata"]["finalizers"]
    for name in ("other", "foreign", "absent"):
        await refused(world.node.patch(PERSISTENTVOLUMES, name, add))
    for patch in (
        {"metadata": {"finalizers": ["example.com/x"]}},
        {"metadata": {"labels": {"a": "b"}}},
        {"spec": {"persistentVolumeReclaimPolicy": "Retain"}},
        {"metadata": {"$deleteFromPrimitiveList/finalizers": [PROVISIONER_FINALIZER]}},
    ):
        assert DIRECTORY_FINALIZER in await refused(world.node.patch(PERSISTENTVOLUMES, "mine", patch))
    await refused(world.node.delete(PERSISTENTVOLUMES, "mine"))
    away = {"metadata": {"$deleteFromPrimitiveList/finalizers": [DIRECTORY_FINALIZER]}}
    changed = await world.node.patch(PERSISTENTVOLUMES, "mine", away)
    assert DIRECTORY_FINALIZER not in changed["metadata"]["finalizers"]
