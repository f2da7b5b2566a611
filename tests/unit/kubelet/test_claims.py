"""A pod's claims on a node: directories that come and go with their volumes, and why a claim can't be mounted."""

from __future__ import annotations

import asyncio
import stat
from pathlib import Path
from typing import Any

import pytest

from proa.apis.storage.local_path import (
    DIRECTORY_FINALIZER,
    FOLDER_ANNOTATION,
    NODE_LABEL,
    PROVISIONED_BY,
    PROVISIONER,
)
from proa.client.resources import CSINODES, NODES, PERSISTENTVOLUMECLAIMS, PERSISTENTVOLUMES, PODS
from proa.kubelet.options import KubeletOptions
from proa.meta.objects import Obj

from .test_kubelet import Place, is_ready, play


def folder_of(place: Place) -> Path:
    return place.options.root / "local-path"


async def with_folder(place: Place) -> None:
    """Starts the kubelet again as one that offers local-path volumes."""
    await place.stop_kubelet()
    settings = {key: getattr(place.options, key) for key in KubeletOptions.__dataclass_fields__}
    place.options = KubeletOptions(**{**settings, "local_volumes": folder_of(place)})
    await place.start_kubelet()


async def make(place: Place, name: str = "data", modes: tuple[str, ...] = ("ReadWriteOnce",), **spec: Any) -> None:
    """Makes a claim and its volume, bound to each other as by the binder; by default a local-path one."""
    asked: Obj = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name},
        "spec": {"accessModes": list(modes), "resources": {"requests": {"storage": "1Gi"}}, "volumeName": f"v-{name}"},
    }
    if spec.get("volumeMode"):
        asked["spec"]["volumeMode"] = spec["volumeMode"]
    claim = await place.client.create(PERSISTENTVOLUMECLAIMS, asked, "default")
    here = {"key": "kubernetes.io/hostname", "operator": "In", "values": ["n1"]}
    wanted: Obj = {
        "accessModes": list(modes),
        "capacity": {"storage": "1Gi"},
        "persistentVolumeReclaimPolicy": "Delete",
        "claimRef": {"namespace": "default", "name": name, "uid": claim["metadata"]["uid"]},
        "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [here]}]}},
        **(spec or {"local": {"path": str(folder_of(place) / f"v-{name}_default_{name}")}}),
    }
    meta: Obj = {"name": f"v-{name}", "finalizers": ["kubernetes.io/pv-protection"]}
    if not spec:
        meta |= {"annotations": {PROVISIONED_BY: PROVISIONER}, "labels": {NODE_LABEL: "n1"}}
    volume = {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": meta, "spec": wanted}
    await place.client.create(PERSISTENTVOLUMES, volume)
    await phase(place, name, "Bound")
    bound = {"status": {"phase": "Bound", "accessModes": list(modes)}}
    await place.client.patch(PERSISTENTVOLUMECLAIMS, name, bound, "default", subresource="status")


async def phase(place: Place, name: str, phase: str) -> None:
    await place.client.patch(PERSISTENTVOLUMES, f"v-{name}", {"status": {"phase": phase}}, subresource="status")


def using(name: str = "data", **source: Any) -> Obj:
    return {"volumes": [{"name": "d", "persistentVolumeClaim": {"claimName": name, **source}}]}


MOUNT = {"volumeMounts": [{"name": "d", "mountPath": "/d"}]}


async def unprotect(place: Place, name: str) -> Obj:
    """Plays the protection controller and the provisioner: only what the node itself holds is left."""
    await phase(place, name, "Released")
    patch = {"metadata": {"$deleteFromPrimitiveList/finalizers": ["kubernetes.io/pv-protection"]}}
    return await place.client.patch(PERSISTENTVOLUMES, f"v-{name}", patch)


async def gone(place: Place, name: str) -> None:
    async with asyncio.timeout(60):
        while any(one["metadata"]["name"] == f"v-{name}" for one in (await place.client.list(PERSISTENTVOLUMES)).items):
            await asyncio.sleep(0.05)


def test_a_directory_comes_with_the_first_pod_and_goes_with_the_volume(tmp_path: Path) -> None:
    async def scenario(place: Place) -> None:
        await with_folder(place)
        node = await place.client.get(NODES, "n1")
        assert node["metadata"]["annotations"][FOLDER_ANNOTATION] == str(folder_of(place))
        await make(place)
        assert not folder_of(place).exists()
        await place.run_pod(MOUNT, **using(), securityContext={"fsGroup": 4321})
        await place.until(is_ready)
        directory = folder_of(place) / "v-data_default_data"
        assert stat.S_IMODE(directory.stat().st_mode) & 0o777 == 0o777
        assert directory.stat().st_gid == 4321
        assert stat.S_IMODE(folder_of(place).stat().st_mode) == 0o700
        volume = await place.client.get(PERSISTENTVOLUMES, "v-data")
        assert DIRECTORY_FINALIZER in volume["metadata"]["finalizers"]
        (directory / "file").write_text("kept")
        await place.client.delete(PODS, "web", "default")
        await place.until_gone()
        assert (directory / "file").read_text() == "kept"
        await place.client.delete(PERSISTENTVOLUMES, "v-data")
        await asyncio.sleep(30)
        assert directory.exists()  # still bound
        await unprotect(place, "data")
        await gone(place, "data")
        assert not directory.exists()

    play(tmp_path, scenario)


def test_what_was_deleted_while_the_node_was_away_goes_when_it_comes_back(tmp_path: Path) -> None:
    async def scenario(place: Place) -> None:
        await with_folder(place)
        for name in ("drop", "keep"):
            await make(place, name)
            await place.run_pod(MOUNT, name=name, **using(name))
            await place.until(is_ready, name)
            await place.client.delete(PODS, name, "default")
            await place.until_gone(name)
        await place.stop_kubelet()
        retain = {"spec": {"persistentVolumeReclaimPolicy": "Retain"}}
        await place.client.patch(PERSISTENTVOLUMES, "v-keep", retain)
        for name in ("drop", "keep"):
            await place.client.delete(PERSISTENTVOLUMES, f"v-{name}")
            volume = await unprotect(place, name)
            assert volume["metadata"]["finalizers"] == [DIRECTORY_FINALIZER]
        await place.start_kubelet()
        for name in ("drop", "keep"):
            await gone(place, name)
        assert [one.name for one in folder_of(place).iterdir()] == ["v-keep_default_keep"]

    play(tmp_path, scenario)


def test_a_node_has_a_csi_node(tmp_path: Path) -> None:
    async def scenario(place: Place) -> None:
        async with asyncio.timeout(60):
            while not (listed := (await place.client.list(CSINODES)).items):
                await asyncio.sleep(0.05)
        (made,) = listed
        node = await place.client.get(NODES, "n1")
        assert made["metadata"]["name"] == "n1"
        assert made["metadata"]["ownerReferences"][0]["uid"] == node["metadata"]["uid"]
        assert made["spec"] == {"drivers": None}
        await place.stop_kubelet()
        await place.start_kubelet()  # finds it and leaves it

    play(tmp_path, scenario)


async def complaint(place: Place, name: str = "web") -> str:
    """Waits for the event that says why a pod's volumes are not mounted, and returns its text."""
    async with asyncio.timeout(60):
        while True:
            for reason, message in await place.events(name):
                if reason == "FailedMount":
                    return message
            await asyncio.sleep(0.05)


ELSEWHERE = {"required": {"nodeSelectorTerms": [{"matchExpressions": [{"key": "zone", "operator": "Exists"}]}]}}


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            {"local": {"path": "/does/not/exist"}},
            'MountVolume.NewMounter initialization failed for volume "v-data" : path "/does/not/exist" does not exist',
        ),
        (
            {"hostPath": {"path": "/does/not/exist", "type": "Directory"}},
            'MountVolume.SetUp failed for volume "v-data" : hostPath type check failed: /does/not/exist is not a '
            "directory",
        ),
        (
            {"csi": {"driver": "x.example.com", "volumeHandle": "h"}},
            'MountVolume.MountDevice failed for volume "v-data" : kubernetes.io/csi: attacher.MountDevice failed to '
            "create newCsiDriverClient: driver name x.example.com not found in the list of registered CSI drivers",
        ),
        (
            {"nfs": {"server": "s", "path": "/"}},
            'MountVolume.NewMounter initialization failed for volume "v-data" : no volume plugin matched',
        ),
        (
            {"hostPath": {"path": "/tmp"}, "nodeAffinity": ELSEWHERE},
            'MountVolume.NodeAffinity check failed for volume "v-data" : no matching NodeSelectorTerms',
        ),
        (
            {"local": {"path": "/dev/null"}, "volumeMode": "Block"},
            "Unable to attach or mount volumes: unmounted volumes=[d], unattached volumes=[], failed to process "
            "volumes=[d]: volume d has volumeMode Block, but is specified in volumeMounts",
        ),
    ],
)
def test_why_a_claim_is_not_mounted(tmp_path: Path, spec: Obj, message: str) -> None:
    async def scenario(place: Place) -> None:
        await make(place, **spec)
        await place.run_pod(MOUNT, **using())
        assert await complaint(place) == message

    play(tmp_path, scenario)


def test_a_claim_that_is_absent_or_unbound(tmp_path: Path) -> None:
    async def scenario(place: Place) -> None:
        await place.run_pod(MOUNT, **using("none"))
        about = "error processing PVC default/none: failed to fetch PVC from API server"
        assert (await complaint(place)).endswith(f'{about}: persistentvolumeclaims "none" not found')
        await make(place, "data", hostPath={"path": str(tmp_path)})
        pending = {"status": {"phase": "Pending"}}
        await place.client.patch(PERSISTENTVOLUMECLAIMS, "data", pending, "default", subresource="status")
        await place.run_pod(MOUNT, name="other", **using())
        assert (await complaint(place, "other")).endswith("error processing PVC default/data: PVC is not bound")

    play(tmp_path, scenario)


def test_one_pod_at_a_time_where_the_claim_says_so(tmp_path: Path) -> None:
    async def scenario(place: Place) -> None:
        await make(place, "data", ("ReadWriteOncePod",), hostPath={"path": str(tmp_path)})
        await place.run_pod(MOUNT, name="first", **using())
        await place.until(is_ready, "first")
        await place.run_pod(MOUNT, name="second", **using())
        assert "is already in use by another pod" in await complaint(place, "second")
        await place.client.delete(PODS, "first", "default")
        await place.until(is_ready, "second", 200)

    play(tmp_path, scenario)


def test_a_claim_that_is_read_only_is_mounted_so(tmp_path: Path) -> None:
    async def scenario(place: Place) -> None:
        await make(place, "data", hostPath={"path": str(tmp_path)})
        await place.run_pod(MOUNT, **using(readOnly=True))
        await place.until(is_ready)
        (made,) = await place.runtime.containers()
        (mount,) = [one for one in place.runtime.configs[made.id]["mounts"] if one["container_path"] == "/d"]
        assert mount["readonly"] is True

    play(tmp_path, scenario)
