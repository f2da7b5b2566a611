"""Local-path volumes in a whole cluster of simulated nodes, in virtual time: no directories, all of the API."""

from __future__ import annotations

from typing import Any

import pytest

from proa.client.resources import (
    EVENTS,
    NODES,
    PERSISTENTVOLUMECLAIMS,
    PERSISTENTVOLUMES,
    PODS,
    RESOURCEQUOTAS,
    STORAGECLASSES,
)
from proa.meta.errors import StatusError
from proa.meta.gvk import GVR
from proa.meta.objects import Obj
from proa.testing import Cluster


def claim(**spec: Any) -> Obj:
    wanted = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}, **spec}
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "c"}, "spec": wanted}


def pod(name: str, **spec: Any) -> Obj:
    volumes = [{"name": "d", "persistentVolumeClaim": {"claimName": "c"}}]
    wanted = {"containers": [{"name": "c", "image": "i"}], "volumes": volumes, **spec}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": wanted}


class World:
    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.client = cluster.client

    def make(self, resource: GVR, obj: Obj) -> Obj:
        namespace = "" if resource in (PERSISTENTVOLUMES, STORAGECLASSES) else "default"
        return self.cluster.run(self.client.create(resource, obj, namespace))

    def find(self, resource: GVR, name: str, namespace: str = "default") -> Obj | None:
        try:
            return self.cluster.run(self.client.get(resource, name, namespace))
        except StatusError as error:
            if error.code != 404:
                raise
            return None

    def get(self, resource: GVR, name: str, namespace: str = "default") -> Obj:
        found = self.find(resource, name, namespace)
        assert found is not None
        return found

    def phase(self, name: str = "c") -> str:
        return str(self.get(PERSISTENTVOLUMECLAIMS, name)["status"]["phase"])

    def events(self, name: str) -> dict[str, str]:
        listed = self.cluster.run(self.client.list(EVENTS, "default")).items
        return {one["reason"]: one["message"] for one in listed if one["involvedObject"]["name"] == name}

    def delete(self, resource: GVR, name: str, namespace: str = "default") -> None:
        self.cluster.run(self.client.delete(resource, name, namespace))

    def patch(self, resource: GVR, name: str, patch: Obj, namespace: str = "default") -> None:
        self.cluster.run(self.client.patch(resource, name, patch, namespace))

    def volume(self) -> Obj:
        return self.get(PERSISTENTVOLUMES, self.get(PERSISTENTVOLUMECLAIMS, "c")["spec"]["volumeName"], "")


def test_from_the_first_consumer_to_the_last_trace() -> None:
    with Cluster(nodes=3) as cluster:
        world = World(cluster)
        world.make(PERSISTENTVOLUMECLAIMS, claim())
        cluster.advance(30)
        assert world.phase() == "Pending"
        assert world.events("c") == {"WaitForFirstConsumer": "waiting for first consumer to be created before binding"}
        world.make(PODS, pod("p"))
        cluster.wait(lambda: world.phase() == "Bound")
        cluster.wait(lambda: world.get(PODS, "p")["status"].get("phase") == "Running")
        node = world.get(PODS, "p")["spec"]["nodeName"]
        assert world.volume()["spec"]["nodeAffinity"]["required"]["nodeSelectorTerms"][0]["matchExpressions"] == [
            {"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}
        ]
        events = cluster.wait(lambda: (found := world.events("c")) and "ProvisioningSucceeded" in found and found)
        assert events.keys() >= {"ExternalProvisioning", "Provisioning", "ProvisioningSucceeded"}
        world.patch(PERSISTENTVOLUMECLAIMS, "c", {"spec": {"resources": {"requests": {"storage": "5Gi"}}}})
        cluster.wait(lambda: world.get(PERSISTENTVOLUMECLAIMS, "c")["status"]["capacity"] == {"storage": "5Gi"})
        status = world.get(PERSISTENTVOLUMECLAIMS, "c")["status"]
        assert status["allocatedResources"] == {"storage": "5Gi"}
        assert "conditions" not in status and "allocatedResourceStatuses" not in status
        name = world.volume()["metadata"]["name"]
        # Deleted first, the volume stays for its claim, and the claim for its pod.
        world.delete(PERSISTENTVOLUMES, name, "")
        world.delete(PERSISTENTVOLUMECLAIMS, "c")
        cluster.advance(60)
        assert world.phase() == "Bound"
        assert world.find(PERSISTENTVOLUMES, name, "") is not None
        world.delete(PODS, "p")
        cluster.wait(lambda: world.find(PERSISTENTVOLUMES, name, "") is None)
        assert world.find(PERSISTENTVOLUMECLAIMS, "c") is None


def test_a_claim_goes_back_to_the_scheduler_if_its_node_has_no_volumes() -> None:
    with Cluster(nodes=2) as cluster:
        world = World(cluster)
        for name in cluster.simulated.names:
            world.patch(NODES, name, {"metadata": {"annotations": {"proa.dev/simulated": None}}}, "")
        world.make(PERSISTENTVOLUMECLAIMS, claim())
        world.make(PODS, pod("p"))
        cluster.wait(lambda: "ProvisioningFailed" in world.events("c"))
        assert "keeps no local-path volumes" in world.events("c")["ProvisioningFailed"]
        for name in cluster.simulated.names:
            world.patch(NODES, name, {"metadata": {"annotations": {"proa.dev/simulated": "true"}}}, "")
        cluster.wait(lambda: world.phase() == "Bound", 400)


def test_a_retained_volume_and_one_whose_policy_changes() -> None:
    with Cluster(nodes=1) as cluster:
        world = World(cluster)
        world.make(PERSISTENTVOLUMECLAIMS, claim())
        world.make(PODS, pod("p"))
        cluster.wait(lambda: world.phase() == "Bound")
        name = world.volume()["metadata"]["name"]
        world.patch(PERSISTENTVOLUMES, name, {"spec": {"persistentVolumeReclaimPolicy": "Retain"}}, "")
        for resource, one in ((PODS, "p"), (PERSISTENTVOLUMECLAIMS, "c")):
            world.delete(resource, one)
        cluster.wait(lambda: world.get(PERSISTENTVOLUMES, name, "")["status"]["phase"] == "Released")
        cluster.advance(60)
        assert world.get(PERSISTENTVOLUMES, name, "")["metadata"]["finalizers"] == ["kubernetes.io/pv-protection"]
        world.patch(PERSISTENTVOLUMES, name, {"spec": {"persistentVolumeReclaimPolicy": "Delete"}}, "")
        cluster.wait(lambda: world.find(PERSISTENTVOLUMES, name, "") is None)


def test_a_claim_without_a_class_gets_the_default_one_later() -> None:
    with Cluster(nodes=1) as cluster:
        world = World(cluster)
        world.delete(STORAGECLASSES, "local-path", "")
        world.make(PERSISTENTVOLUMECLAIMS, claim())
        cluster.wait(lambda: "FailedBinding" in world.events("c"))
        assert world.events("c")["FailedBinding"].endswith("no storage class is set")
        made = {
            "apiVersion": "storage.k8s.io/v1",
            "kind": "StorageClass",
            "metadata": {"name": "late", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
            "provisioner": "example.com/disk",
        }
        world.make(STORAGECLASSES, made)
        cluster.wait(lambda: "ExternalProvisioning" in world.events("c"))
        assert world.get(PERSISTENTVOLUMECLAIMS, "c")["spec"]["storageClassName"] == "late"


def test_claims_that_ask_for_a_volume_by_name() -> None:
    with Cluster(nodes=1) as cluster:
        world = World(cluster)
        volume = {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": "v"},
            "spec": {
                "capacity": {"storage": "1Gi"},
                "accessModes": ["ReadWriteOnce"],
                "hostPath": {"path": "/srv/x"},
                "persistentVolumeReclaimPolicy": "Delete",
            },
        }
        world.make(PERSISTENTVOLUMES, volume)
        for name, size in (("large", "2Gi"), ("right", "1Gi"), ("late", "1Gi")):
            wanted = claim(volumeName="v", storageClassName="", resources={"requests": {"storage": size}})
            world.make(PERSISTENTVOLUMECLAIMS, {**wanted, "metadata": {"name": name}})
            cluster.advance(5)
        assert (world.phase("large"), world.phase("right"), world.phase("late")) == ("Pending", "Bound", "Pending")
        assert world.events("large")["VolumeMismatch"].endswith('volume "v": requested PV is too small')
        assert world.events("late")["FailedBinding"] == 'volume "v" already bound to a different claim.'
        world.delete(PERSISTENTVOLUMECLAIMS, "right")
        cluster.wait(lambda: world.get(PERSISTENTVOLUMES, "v", "")["status"]["phase"] == "Failed")
        assert "only supports /tmp/.+" in world.get(PERSISTENTVOLUMES, "v", "")["status"]["message"]


def test_a_quota_bounds_how_far_claims_grow() -> None:
    with Cluster(nodes=1) as cluster:
        world = World(cluster)
        quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "q"}}
        hard = {"requests.storage": "4Gi", "local-path.storageclass.storage.k8s.io/requests.storage": "4Gi"}
        world.make(RESOURCEQUOTAS, {**quota, "spec": {"hard": hard}})
        cluster.wait(lambda: world.get(RESOURCEQUOTAS, "q").get("status", {}).get("used"))
        world.make(PERSISTENTVOLUMECLAIMS, claim())
        world.make(PODS, pod("p"))
        cluster.wait(lambda: world.phase() == "Bound")
        with pytest.raises(StatusError, match=r"exceeded quota: q, requested: .*requests.storage=4Gi"):
            world.patch(PERSISTENTVOLUMECLAIMS, "c", {"spec": {"resources": {"requests": {"storage": "5Gi"}}}})
        world.patch(PERSISTENTVOLUMECLAIMS, "c", {"spec": {"resources": {"requests": {"storage": "4Gi"}}}})
        cluster.wait(lambda: world.get(PERSISTENTVOLUMECLAIMS, "c")["status"]["capacity"] == {"storage": "4Gi"})
        used = dict.fromkeys(hard, "4Gi")
        cluster.wait(lambda: world.get(RESOURCEQUOTAS, "q")["status"]["used"] == used)
