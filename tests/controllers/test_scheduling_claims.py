"""Pods that wait for volumes or devices, on a whole cluster in virtual time."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from proa.client.interface import MERGE_PATCH
from proa.meta.objects import Obj
from proa.testing import Cluster, NodeTemplate
from tests.controllers.test_scheduling import event_messages, is_running, pod, scheduled_condition

SELECTED_NODE = "volume.kubernetes.io/selected-node"
LATE = {
    "apiVersion": "storage.k8s.io/v1",
    "kind": "StorageClass",
    "metadata": {"name": "late"},
    "provisioner": "csi.example.com",
    "volumeBindingMode": "WaitForFirstConsumer",
}
LOCAL = {**LATE, "metadata": {"name": "local"}, "provisioner": "kubernetes.io/no-provisioner"}


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with Cluster(nodes=2, template=NodeTemplate(cpu="2", memory="4Gi")) as running:
        yield running


def claim(name: str, storage_class: str) -> Obj:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": storage_class,
            "resources": {"requests": {"storage": "1Gi"}},
        },
    }


def volume(name: str, storage_class: str, on: str) -> Obj:
    term = {"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": [on]}]}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name},
        "spec": {
            "capacity": {"storage": "1Gi"},
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": storage_class,
            "local": {"path": "/tmp/x"},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [term]}},
        },
    }


def using(name: str, claim_name: str) -> Obj:
    return pod(name, volumes=[{"name": "v", "persistentVolumeClaim": {"claimName": claim_name}}])


def test_a_claim_waits_for_its_consumer_and_gets_a_local_volume(cluster: Cluster) -> None:
    node = cluster.simulated.names[1]
    for obj in (LOCAL, volume("here", "local", node), claim("c", "local")):
        cluster.create(obj)
    cluster.settle()
    assert cluster.get("persistentvolumeclaims", "c")["status"]["phase"] == "Pending"
    cluster.create(using("p", "c"))
    cluster.wait(lambda: is_running(cluster, "p"))
    assert cluster.get("pods", "p")["spec"]["nodeName"] == node
    assert cluster.get("persistentvolumeclaims", "c")["spec"]["volumeName"] == "here"
    cluster.create(claim("d", "local"))
    cluster.create(using("q", "d"))
    cluster.wait(lambda: scheduled_condition(cluster, "q").get("reason") == "Unschedulable")
    assert scheduled_condition(cluster, "q")["message"] == (
        "0/2 nodes are available: 2 node(s) didn't find available persistent volumes to bind. "
        "no new claims to deallocate, preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling."
    )
    cluster.create(volume("there", "local", node))
    cluster.wait(lambda: is_running(cluster, "q"))


def test_a_provisioner_is_told_the_node_and_the_pod_waits_for_the_volume(cluster: Cluster) -> None:
    cluster.create(LATE)
    cluster.create(claim("c", "late"))
    cluster.create(using("p", "c"))

    def annotations() -> Obj:
        return cluster.get("persistentvolumeclaims", "c")["metadata"].get("annotations") or {}

    cluster.wait(lambda: SELECTED_NODE in annotations() and "volume.kubernetes.io/storage-provisioner" in annotations())
    assert "nodeName" not in cluster.get("pods", "p")["spec"]
    node = annotations()[SELECTED_NODE]
    # The provisioner cannot help on that node: it takes the annotation away, and the scheduler tries again.
    patch = {"metadata": {"annotations": {SELECTED_NODE: None}}}
    cluster.patch("persistentvolumeclaims", "c", patch, patch_type=MERGE_PATCH)
    text = 'running PreBind plugin "VolumeBinding": binding volumes: provisioning failed for PVC "c"'
    cluster.wait(lambda: text in event_messages(cluster, "FailedScheduling"))
    cluster.wait(lambda: SELECTED_NODE in annotations())
    node = annotations()[SELECTED_NODE]
    reference = {
        "namespace": "default",
        "name": "c",
        "uid": cluster.get("persistentvolumeclaims", "c")["metadata"]["uid"],
    }
    made = volume("made", "late", node)
    made["spec"]["claimRef"] = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", **reference}
    cluster.create(made)
    cluster.wait(lambda: is_running(cluster, "p"))
    assert cluster.get("pods", "p")["spec"]["nodeName"] == node


def test_a_missing_claim_says_so(cluster: Cluster) -> None:
    cluster.create(using("p", "absent"))
    cluster.wait(lambda: scheduled_condition(cluster, "p").get("reason") == "Unschedulable")
    assert scheduled_condition(cluster, "p")["message"] == (
        '0/2 nodes are available: persistentvolumeclaim "absent" not found. not found'
    )


def test_devices_are_allocated_and_reserved_before_the_pod_is_bound(cluster: Cluster) -> None:
    node = cluster.simulated.names[1]
    request = {"name": "r", "exactly": {"deviceClassName": "gpu"}}
    for kind, name, spec in (
        ("DeviceClass", "gpu", {"selectors": [{"cel": {"expression": "device.driver == 'gpu.example.com'"}}]}),
        ("ResourceClaim", "c", {"devices": {"requests": [request]}}),
        ("ResourceClaim", "d", {"devices": {"requests": [request]}}),
    ):
        cluster.create({"apiVersion": "resource.k8s.io/v1", "kind": kind, "metadata": {"name": name}, "spec": spec})
    for name in ("p", "q"):
        claim_name = {"p": "c", "q": "d"}[name]
        cluster.create(pod(name, resourceClaims=[{"name": "x", "resourceClaimName": claim_name}]))
    cluster.wait(lambda: scheduled_condition(cluster, "p").get("reason") == "Unschedulable")
    assert scheduled_condition(cluster, "p")["message"] == (
        "0/2 nodes are available: 2 cannot allocate all claims. still not schedulable, "
        "preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling."
    )
    cluster.create(
        {
            "apiVersion": "resource.k8s.io/v1",
            "kind": "ResourceSlice",
            "metadata": {"name": "s"},
            "spec": {
                "driver": "gpu.example.com",
                "nodeName": node,
                "pool": {"name": node, "generation": 1, "resourceSliceCount": 1},
                "devices": [{"name": "d0"}],
            },
        }
    )
    cluster.wait(lambda: any(is_running(cluster, one) for one in "pq"))
    winner = next(one for one in "pq" if is_running(cluster, one))
    claim_of = cluster.get("resourceclaims", {"p": "c", "q": "d"}[winner])
    assert cluster.get("pods", winner)["spec"]["nodeName"] == node
    assert [one["name"] for one in claim_of["status"]["reservedFor"]] == [winner]
    assert [one["device"] for one in claim_of["status"]["allocation"]["devices"]["results"]] == ["d0"]
    assert claim_of["metadata"]["finalizers"] == ["resource.kubernetes.io/delete-protection"]


def test_a_pod_whose_claim_is_not_made_yet_is_not_tried(cluster: Cluster) -> None:
    cluster.create(pod("p", resourceClaims=[{"name": "x", "resourceClaimName": "absent"}]))
    cluster.advance(5)
    assert not event_messages(cluster, "FailedScheduling")
    request = {"name": "r", "exactly": {"deviceClassName": "none"}}
    cluster.create(
        {
            "apiVersion": "resource.k8s.io/v1",
            "kind": "ResourceClaim",
            "metadata": {"name": "absent"},
            "spec": {"devices": {"requests": [request]}},
        }
    )
    cluster.wait(lambda: scheduled_condition(cluster, "p").get("reason") == "Unschedulable")
    assert "device class none does not exist" in scheduled_condition(cluster, "p")["message"]


def device_slice(node: str, *devices: Obj) -> Obj:
    return {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceSlice",
        "metadata": {"name": f"slice-{node}"},
        "spec": {
            "driver": "gpu.example.com",
            "nodeName": node,
            "pool": {"name": node, "generation": 1, "resourceSliceCount": 1},
            "devices": list(devices),
        },
    }


def device_class(**spec: object) -> Obj:
    chosen = {"selectors": [{"cel": {"expression": "device.driver == 'gpu.example.com'"}}], **spec}
    return {"apiVersion": "resource.k8s.io/v1", "kind": "DeviceClass", "metadata": {"name": "gpu"}, "spec": chosen}


def test_an_extended_resource_is_served_by_devices(cluster: Cluster) -> None:
    node = cluster.simulated.names[1]
    wanted = pod("p")
    wanted["spec"]["containers"][0]["resources"] = {
        "requests": {"cpu": "1", "example.com/gpu": "2"},
        "limits": {"example.com/gpu": "2"},
    }
    cluster.create(wanted)
    cluster.wait(lambda: scheduled_condition(cluster, "p").get("reason") == "Unschedulable")
    assert "2 Insufficient example.com/gpu" in scheduled_condition(cluster, "p")["message"]
    cluster.create(device_class(extendedResourceName="example.com/gpu"))
    cluster.wait(lambda: "2 cannot allocate all claims" in scheduled_condition(cluster, "p")["message"])
    cluster.create(device_slice(node, {"name": "d0"}, {"name": "d1"}, {"name": "d2"}))
    cluster.wait(lambda: is_running(cluster, "p"))
    bound = cluster.get("pods", "p")
    assert bound["spec"]["nodeName"] == node
    status = bound["status"]["extendedResourceClaimStatus"]
    assert status["requestMappings"] == [
        {"containerName": "c", "resourceName": "example.com/gpu", "requestName": "container-0-request-1"}
    ]
    made = cluster.get("resourceclaims", status["resourceClaimName"])
    assert made["metadata"]["name"].startswith("p-extended-resources-")
    assert made["metadata"]["annotations"] == {"resource.kubernetes.io/extended-resource-claim": "true"}
    assert made["metadata"]["ownerReferences"][0]["uid"] == bound["metadata"]["uid"]
    assert [one["device"] for one in made["status"]["allocation"]["devices"]["results"]] == ["d0", "d1"]
    assert made["status"]["allocation"]["allocationTimestamp"]
    assert [one["uid"] for one in made["status"]["reservedFor"]] == [bound["metadata"]["uid"]]
    # One device is left, by the class's own name too.
    implicit = pod("q")
    name = "deviceclass.resource.kubernetes.io/gpu"
    implicit["spec"]["containers"][0]["resources"] = {"requests": {name: "1"}, "limits": {name: "1"}}
    cluster.create(implicit)
    cluster.wait(lambda: is_running(cluster, "q"))
    cluster.delete("pods", "p")
    cluster.wait(lambda: len(cluster.list("resourceclaims")) == 1, what="claims go with their pods")


def test_a_node_with_a_device_plugin_needs_no_claim(cluster: Cluster) -> None:
    node = cluster.simulated.names[0]
    cluster.create(device_class(extendedResourceName="example.com/gpu"))
    has = {"status": {"allocatable": {"example.com/gpu": "1"}, "capacity": {"example.com/gpu": "1"}}}
    cluster.patch("nodes", node, has, patch_type=MERGE_PATCH, subresource="status")
    wanted = pod("p")
    wanted["spec"]["containers"][0]["resources"] = {"limits": {"example.com/gpu": "1"}}
    cluster.create(wanted)
    cluster.wait(lambda: cluster.get("pods", "p")["spec"].get("nodeName"))
    assert cluster.get("pods", "p")["spec"]["nodeName"] == node
    assert "extendedResourceClaimStatus" not in cluster.get("pods", "p")["status"]
    assert not cluster.list("resourceclaims")


def test_devices_that_do_not_become_ready_are_given_back(cluster: Cluster) -> None:
    first, second = cluster.simulated.names
    ready = {"bindsToNode": True, "bindingConditions": ["Ready"], "bindingFailureConditions": ["Broken"]}
    cluster.create(device_class())
    cluster.create(device_slice(first, {"name": "d0", **ready}))
    request = {"name": "r", "exactly": {"deviceClassName": "gpu"}}
    cluster.create(
        {
            "apiVersion": "resource.k8s.io/v1",
            "kind": "ResourceClaim",
            "metadata": {"name": "c"},
            "spec": {"devices": {"requests": [request]}},
        }
    )
    cluster.create(pod("p", resourceClaims=[{"name": "x", "resourceClaimName": "c"}]))
    pending = f"waiting for binding conditions for device on node {first}"
    cluster.wait(lambda: pending in event_messages(cluster, "BindingConditionsPending"))
    assert cluster.get("pods", "p")["status"]["nominatedNodeName"] == first
    cluster.create(device_slice(second, {"name": "d1"}))

    def say(kind: str) -> None:
        now = "2026-01-01T00:00:00Z"
        said = {"type": kind, "status": "True", "reason": "Cable", "message": "cut", "lastTransitionTime": now}
        device = {"driver": "gpu.example.com", "pool": first, "device": "d0", "conditions": [said]}
        cluster.patch(
            "resourceclaims", "c", {"status": {"devices": [device]}}, patch_type=MERGE_PATCH, subresource="status"
        )

    say("Broken")
    failure = 'running PreBind plugin "DynamicResources": claim c binding failed: reason=Cable, message="cut"'
    cluster.wait(lambda: failure in event_messages(cluster, "FailedScheduling"))
    cluster.wait(lambda: is_running(cluster, "p"))
    assert cluster.get("pods", "p")["spec"]["nodeName"] == second
    claimed = cluster.get("resourceclaims", "c")
    assert [one["device"] for one in claimed["status"]["allocation"]["devices"]["results"]] == ["d1"]
    assert "devices" not in claimed["status"]
