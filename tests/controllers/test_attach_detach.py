"""Volumes of a CSI driver, from the first pod to the last: attached, told of, moved to another node, forced off."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from proa.client.interface import DeleteOptions
from proa.client.resources import (
    EVENTS,
    NODES,
    PERSISTENTVOLUMECLAIMS,
    PERSISTENTVOLUMES,
    PODS,
    STORAGECLASSES,
    VOLUMEATTACHMENTS,
)
from proa.meta.errors import StatusError
from proa.meta.objects import Obj
from tests.controllers.plane import Plane, plane, run

DRIVER = "disk.example.com"
UNIQUE = f"kubernetes.io/csi/{DRIVER}^h"
CONTROLLERS = ("persistentvolume-attach-detach", "persistentvolume-binder", "persistentvolume-expander")


async def make_node(cluster: Plane, name: str) -> None:
    annotations = {"volumes.kubernetes.io/controller-managed-attach-detach": "true"}
    await cluster.client.create(
        NODES, {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "annotations": annotations}}
    )
    await set_node(cluster, name, ready=True, in_use=[])


async def set_node(cluster: Plane, name: str, *, ready: bool, in_use: list[str]) -> None:
    conditions = [{"type": "Ready", "status": "True" if ready else "Unknown"}]
    await cluster.patch(NODES, name, {"status": {"conditions": conditions, "volumesInUse": in_use}}, "", "status")


async def make_volume(cluster: Plane, storage_class: str = "") -> None:
    wanted: Obj = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    claim = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "c"}}
    await cluster.client.create(
        PERSISTENTVOLUMECLAIMS,
        {**claim, "spec": {**wanted, "storageClassName": storage_class, "volumeName": "v"}},
        "ns",
    )
    spec = {
        "capacity": {"storage": "1Gi"},
        "accessModes": ["ReadWriteOnce"],
        "csi": {"driver": DRIVER, "volumeHandle": "h"},
        "claimRef": {"namespace": "ns", "name": "c"},
        "storageClassName": storage_class,
    }
    volume = {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "v"}, "spec": spec}
    await cluster.client.create(PERSISTENTVOLUMES, volume)

    async def bound() -> bool:
        found = await cluster.client.get(PERSISTENTVOLUMECLAIMS, "c", "ns")
        return bool(found["status"].get("phase") == "Bound")

    await cluster.until(bound)


async def make_pod(cluster: Plane, name: str, node: str) -> None:
    volumes = [{"name": "d", "persistentVolumeClaim": {"claimName": "c"}}]
    spec = {"nodeName": node, "containers": [{"name": "c", "image": "i"}], "volumes": volumes}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}
    await cluster.client.create(PODS, pod, "ns")


async def attachments(cluster: Plane) -> dict[str, Obj]:
    """The attachments, by node."""
    return {one["spec"]["nodeName"]: one for one in (await cluster.client.list(VOLUMEATTACHMENTS)).items}


async def attach(cluster: Plane, node: str) -> None:
    """Plays the driver's external attacher: waits for the wish and fulfils it."""

    async def wished() -> Obj | None:
        return (await attachments(cluster)).get(node)

    found = await cluster.until(wished)
    assert found["spec"]["attacher"] == DRIVER
    name = found["metadata"]["name"]
    await cluster.patch(VOLUMEATTACHMENTS, name, {"status": {"attached": True}}, "", "status")

    async def shown() -> bool:
        return await attached(cluster, node) == [{"name": UNIQUE, "devicePath": ""}]

    await cluster.until(shown)


async def attached(cluster: Plane, node: str) -> list[Obj]:
    return (await cluster.client.get(NODES, node))["status"].get("volumesAttached") or []


async def told(cluster: Plane, pod: str) -> dict[str, str]:
    listed = (await cluster.client.list(EVENTS, "ns")).items
    return {one["reason"]: one["message"] for one in listed if one["involvedObject"]["name"] == pod}


async def until_told(cluster: Plane, pod: str, reason: str, seconds: float = 60) -> str:
    async def said() -> str | None:
        return (await told(cluster, pod)).get(reason)

    return str(await cluster.until(said, seconds))


async def until_detached(cluster: Plane, node: str, seconds: float = 60) -> None:
    async def free() -> bool:
        return node not in await attachments(cluster) and not await attached(cluster, node)

    await cluster.until(free, seconds)


async def delete_pod(cluster: Plane, name: str) -> None:
    await cluster.client.delete(PODS, name, "ns", DeleteOptions(grace_seconds=0))


def test_a_volume_moves_with_its_pods() -> None:
    async def main() -> None:
        async with plane(CONTROLLERS) as cluster:
            for node in ("n1", "n2"):
                await make_node(cluster, node)
            await make_volume(cluster)
            await make_pod(cluster, "first", "n1")
            await attach(cluster, "n1")
            message = await until_told(cluster, "first", "SuccessfulAttachVolume")
            assert message == 'AttachVolume.Attach succeeded for volume "v" '
            await set_node(cluster, "n1", ready=True, in_use=[UNIQUE])
            await make_pod(cluster, "second", "n2")
            message = await until_told(cluster, "second", "FailedAttachVolume")
            assert message == 'Multi-Attach error for volume "v" Volume is already used by pod(s) first'
            await delete_pod(cluster, "first")
            # The kubelet still has it mounted, and is well: it will let go.
            await asyncio.sleep(1000)
            assert set(await attachments(cluster)) == {"n1"}
            await set_node(cluster, "n1", ready=True, in_use=[])
            await until_detached(cluster, "n1")
            await attach(cluster, "n2")
            await delete_pod(cluster, "second")
            await until_detached(cluster, "n2")

    run(main)


def test_a_silent_node_is_waited_for_and_one_out_of_service_is_not() -> None:
    async def main() -> None:
        async with plane(CONTROLLERS) as cluster:
            await make_node(cluster, "n1")
            await make_volume(cluster)
            for spec, seconds_min, seconds_max in ((None, 350, 370), ([OUT], 0, 10)):
                await make_pod(cluster, "p", "n1")
                await attach(cluster, "n1")
                await set_node(cluster, "n1", ready=False, in_use=[UNIQUE])
                if spec:
                    await cluster.patch(NODES, "n1", {"spec": {"taints": spec}}, "")
                await delete_pod(cluster, "p")
                since = cluster.clock.monotonic()
                await until_detached(cluster, "n1", 1000)
                assert seconds_min <= cluster.clock.monotonic() - since <= seconds_max
                await set_node(cluster, "n1", ready=True, in_use=[])

    run(main)


OUT: dict[str, Any] = {"key": "node.kubernetes.io/out-of-service", "value": "nodeshutdown", "effect": "NoExecute"}


def test_an_attacher_that_is_not_there_is_told_of_and_others_attachments_are_left_alone() -> None:
    async def main() -> None:
        async with plane(CONTROLLERS) as cluster:
            await make_node(cluster, "n1")
            await make_volume(cluster)
            spec = {"attacher": DRIVER, "nodeName": "n1", "source": {"persistentVolumeName": "v"}}
            foreign = {
                "apiVersion": "storage.k8s.io/v1",
                "kind": "VolumeAttachment",
                "metadata": {"name": "foreign"},
                "spec": {**spec, "nodeName": "elsewhere"},
            }
            unknown = {**foreign, "metadata": {"name": "unknown"}}
            unknown["spec"] = {**spec, "source": {"persistentVolumeName": "none"}}
            await cluster.client.create(VOLUMEATTACHMENTS, unknown)
            await make_pod(cluster, "p", "n1")
            message = await until_told(cluster, "p", "FailedAttachVolume", 300)
            assert message == (
                f'AttachVolume.Attach failed for volume "v" : timed out waiting for external-attacher of {DRIVER} '
                "CSI driver to attach volume h"
            )
            await delete_pod(cluster, "p")
            await cluster.client.create(VOLUMEATTACHMENTS, foreign)

            async def only_others() -> bool:
                names = {one["metadata"]["name"] for one in (await cluster.client.list(VOLUMEATTACHMENTS)).items}
                return names == {"foreign", "unknown"}

            await cluster.until(only_others)

    run(main)


def test_growing_is_left_to_the_driver() -> None:
    async def main() -> None:
        async with plane(CONTROLLERS) as cluster:
            storage_class = {
                "apiVersion": "storage.k8s.io/v1",
                "kind": "StorageClass",
                "metadata": {"name": "disk"},
                "provisioner": DRIVER,
            }
            await cluster.client.create(STORAGECLASSES, storage_class)
            await make_volume(cluster, "disk")
            more = {"spec": {"resources": {"requests": {"storage": "2Gi"}}}}
            with pytest.raises(StatusError, match="only dynamically provisioned pvc can be resized"):
                await cluster.patch(PERSISTENTVOLUMECLAIMS, "c", more, "ns")
            await cluster.patch(STORAGECLASSES, "disk", {"allowVolumeExpansion": True}, "")
            await cluster.patch(PERSISTENTVOLUMECLAIMS, "c", more, "ns")
            message = await until_told(cluster, "c", "ExternalExpanding")
            assert message == "waiting for an external controller to expand this PVC"
            claim = await cluster.client.get(PERSISTENTVOLUMECLAIMS, "c", "ns")
            assert claim["status"]["capacity"] == {"storage": "1Gi"}

    run(main)
