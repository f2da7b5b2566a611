"""The small resources of nodes, over HTTPS: Leases, PodTemplates, RuntimeClasses, and Nodes themselves."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from tests.cluster.conformance.conftest import MERGE, STRATEGIC, Api
from tests.cluster.conformance.objects import condition, core, pod
from tests.cluster.conformance.operations import replace, until
from tests.cluster.waiting import eventually

pytestmark = pytest.mark.cluster

CLASSES = "/apis/node.k8s.io/v1/runtimeclasses"
NODES = "/api/v1/nodes"
Obj = dict[str, Any]


def leases(namespace: str, name: str = "") -> str:
    return f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases" + (f"/{name}" if name else "")


@pytest.mark.behaviour("[sig-node] Lease lease API should be available")
def test_leases(api: Api, namespace: str) -> None:
    spec = {
        "holderIdentity": "holder",
        "leaseDurationSeconds": 30,
        "acquireTime": "2026-01-02T03:04:05.000006Z",
        "renewTime": "2026-01-02T03:04:10.000000Z",
        "leaseTransitions": 0,
    }
    api.post(leases(namespace), {"metadata": {"name": "lease"}, "spec": spec}).ok()
    found = api.get(leases(namespace, "lease")).ok()
    assert found["spec"] == spec
    found["spec"] = {
        "holderIdentity": "holder2",
        "leaseDurationSeconds": 40,
        "acquireTime": "2026-01-02T03:05:00.000000Z",
        "renewTime": "2026-01-02T03:05:30.000000Z",
        "leaseTransitions": 1,
    }
    api.put(leases(namespace, "lease"), found).ok()
    assert api.get(leases(namespace, "lease")).ok()["spec"] == found["spec"]
    patched = {**found["spec"], "leaseDurationSeconds": 50, "leaseTransitions": 2}
    api.patch(leases(namespace, "lease"), {"spec": patched}, STRATEGIC).ok()
    assert api.get(leases(namespace, "lease")).ok()["spec"] == patched
    labelled = {"name": "lease2", "labels": {"deletecollection": "true"}}
    api.post(leases(namespace), {"metadata": labelled, "spec": {"holderIdentity": "holder"}}).ok()
    assert len(api.get(leases(namespace)).ok()["items"]) == 2
    api.delete(leases(namespace) + "?labelSelector=deletecollection%3Dtrue").ok()
    assert [one["metadata"]["name"] for one in api.get(leases(namespace)).ok()["items"]] == ["lease"]
    api.delete(leases(namespace, "lease")).ok()
    api.get(leases(namespace, "lease")).failed(404, "NotFound")


# ---------------------------------------------------------------- pod templates


def pod_template(name: str, **labels: str) -> Obj:
    made = pod(name)
    template = {"metadata": {"labels": {"name": name}}, "spec": made["spec"]}
    return {
        "apiVersion": "v1",
        "kind": "PodTemplate",
        "metadata": {"name": name, "labels": labels},
        "template": template,
    }


@pytest.mark.behaviour("[sig-node] PodTemplates should run the lifecycle of PodTemplates")
def test_pod_templates(api: Api, namespace: str) -> None:
    selector = f"?labelSelector=podtemplate-static%3Dtrue,owner%3D{namespace}"
    path = core(namespace, "podtemplates")
    assert api.get(f"/api/v1/podtemplates{selector}").ok()["items"] == []
    made = pod_template("nginx-pod-template", **{"podtemplate-static": "true", "owner": namespace})
    api.post(path, made).ok()
    found = api.get(f"{path}/nginx-pod-template").ok()
    assert found["template"]["spec"]["containers"][0]["image"] == made["template"]["spec"]["containers"][0]["image"]
    assert found["template"]["spec"]["restartPolicy"] == "Always"
    labels = {"metadata": {"labels": {"podtemplate": "patched"}}}
    api.patch(f"{path}/nginx-pod-template", labels, STRATEGIC).ok()
    assert api.get(f"{path}/nginx-pod-template").ok()["metadata"]["labels"]["podtemplate"] == "patched"
    (listed,) = api.get(f"/api/v1/podtemplates{selector}").ok()["items"]
    assert listed["metadata"]["labels"]["podtemplate"] == "patched"
    api.delete(f"{path}/nginx-pod-template").ok()
    assert api.get(f"/api/v1/podtemplates{selector}").ok()["items"] == []


@pytest.mark.behaviour("[sig-node] PodTemplates should delete a collection of pod templates")
def test_delete_pod_templates(api: Api, namespace: str) -> None:
    path, selector = core(namespace, "podtemplates"), "?labelSelector=podtemplate-set%3Dtrue"
    for index in range(3):
        api.post(path, pod_template(f"test-podtemplate-{index}", **{"podtemplate-set": "true"})).ok()
    assert len(api.get(path + selector).ok()["items"]) == 3
    api.delete(path + selector).ok()
    eventually(lambda: api.get(path + selector).ok()["items"] == [])


@pytest.mark.behaviour("[sig-node] PodTemplates should replace a pod template")
def test_replace_a_pod_template(api: Api, namespace: str) -> None:
    path = core(namespace, "podtemplates")
    api.post(path, pod_template("podtemplate", **{"podtemplate-set": "true"})).ok()

    def change(one: Obj) -> None:
        one["metadata"]["annotations"] = {"updated": "true"}

    assert replace(api, f"{path}/podtemplate", change)["metadata"]["annotations"] == {"updated": "true"}
    assert api.get(f"{path}/podtemplate").ok()["metadata"]["annotations"] == {"updated": "true"}


# ---------------------------------------------------------------- runtime classes


@pytest.fixture
def runtime_class(api: Api) -> Iterator[str]:
    """The name of a RuntimeClass of the test's own, with overhead and the runtime's default handler."""
    name = f"conformance-{uuid.uuid4().hex[:8]}"
    body = {"metadata": {"name": name}, "handler": "runc", "overhead": {"podFixed": {"cpu": "10m", "memory": "1Mi"}}}
    api.post(CLASSES, body).ok()
    yield name
    api.delete(f"{CLASSES}/{name}")


def scheduled(api: Api, path: str) -> bool:
    return bool(condition(api.get(path).ok(), "PodScheduled").get("status") == "True")


@pytest.mark.behaviour("[sig-node] RuntimeClass should reject a Pod requesting a non-existent RuntimeClass")
def test_an_unknown_runtime_class(api: Api, namespace: str) -> None:
    refused = api.post(core(namespace, "pods"), pod("test", runtimeClassName="nonexistent")).failed(403, "Forbidden")
    assert 'RuntimeClass "nonexistent" not found' in refused["message"]


@pytest.mark.behaviour("[sig-node] RuntimeClass should reject a Pod requesting a deleted RuntimeClass")
def test_a_deleted_runtime_class(api: Api, namespace: str, runtime_class: str) -> None:
    api.delete(f"{CLASSES}/{runtime_class}").ok()
    eventually(lambda: api.get(f"{CLASSES}/{runtime_class}").status == 404)

    def refused() -> bool:
        reply = api.post(core(namespace, "pods"), pod("test", runtimeClassName=runtime_class))
        return bool(reply.status == 403 and "not found" in reply.body["message"])

    eventually(refused)


@pytest.mark.behaviour("[sig-node] RuntimeClass should schedule a Pod requesting a RuntimeClass without PodOverhead")
def test_a_runtime_class_without_overhead(api: Api, namespace: str) -> None:
    """The handler is one that no node has: the pod is scheduled all the same, and its sandbox is refused, saying so."""
    name = f"conformance-{uuid.uuid4().hex[:8]}"
    api.post(CLASSES, {"metadata": {"name": name}, "handler": "no-such-handler"}).ok()
    try:
        made = api.post(core(namespace, "pods"), pod("test", runtimeClassName=name)).ok()
        assert "overhead" not in made["spec"]
        path = core(namespace, "pods", "test")
        eventually(lambda: scheduled(api, path))
        selector = "?fieldSelector=involvedObject.name%3Dtest,reason%3DFailedCreatePodSandBox"
        (event, *_) = eventually(lambda: api.get(core(namespace, "events") + selector).ok()["items"])
        assert "no-such-handler" in event["message"]
        assert api.get(path).ok()["status"]["phase"] == "Pending"
    finally:
        api.delete(f"{CLASSES}/{name}")


@pytest.mark.behaviour(
    "[sig-node] RuntimeClass should schedule a Pod requesting a RuntimeClass and initialize its Overhead"
)
def test_overhead(api: Api, namespace: str, runtime_class: str) -> None:
    made = api.post(core(namespace, "pods"), pod("test", runtimeClassName=runtime_class)).ok()
    assert made["spec"]["overhead"] == {"cpu": "10m", "memory": "1Mi"}
    path = core(namespace, "pods", "test")
    eventually(lambda: scheduled(api, path))
    eventually(lambda: api.get(path).ok()["status"]["phase"] == "Running")


@pytest.mark.behaviour("[sig-node] RuntimeClass should support RuntimeClasses API operations")
def test_runtime_class_operations(api: Api) -> None:
    (group,) = [one for one in api.get("/apis").ok()["groups"] if one["name"] == "node.k8s.io"]
    assert {"groupVersion": "node.k8s.io/v1", "version": "v1"} in group["versions"]
    assert api.get("/apis/node.k8s.io").ok()["versions"] == group["versions"]
    assert "runtimeclasses" in [one["name"] for one in api.get("/apis/node.k8s.io/v1").ok()["resources"]]
    label = f"e2e-{uuid.uuid4().hex[:8]}"
    selected = f"{CLASSES}?labelSelector=test%3D{label}"
    start = api.get(selected).ok()["metadata"]["resourceVersion"]
    names = [f"{label}-{index}" for index in range(3)]
    for name in names:
        body = {"metadata": {"name": name, "labels": {"test": label}}, "handler": f"{name}-handler"}
        assert api.post(CLASSES, body).ok()["handler"] == f"{name}-handler"
        api.post(CLASSES, body).failed(409, "AlreadyExists")
    assert api.get(f"{CLASSES}/{names[0]}").ok()["handler"] == f"{names[0]}-handler"
    assert [one["metadata"]["name"] for one in api.get(selected).ok()["items"]] == names
    with api.watch(f"{selected}&resourceVersion={start}") as events:
        for name in names:
            until(events, "ADDED", name)
        path = f"{CLASSES}/{names[0]}"
        assert api.patch(path, {"metadata": {"annotations": {"patched": "true"}}}, MERGE).ok()["metadata"][
            "annotations"
        ] == {"patched": "true"}
        until(events, "MODIFIED", names[0], "patched")

        def change(one: Obj) -> None:
            one["metadata"]["annotations"]["updated"] = "true"

        replace(api, path, change)
        until(events, "MODIFIED", names[0], "updated")
        api.delete(path).ok()
        api.get(path).failed(404, "NotFound")
        until(events, "DELETED", names[0])
        assert len(api.get(selected).ok()["items"]) == 2
        api.delete(selected).ok()
        until(events, "DELETED", names[2])
    assert api.get(selected).ok()["items"] == []


# ---------------------------------------------------------------- nodes


@pytest.mark.behaviour("[sig-node] Node Lifecycle should run through the lifecycle of a node")
def test_node_lifecycle(api: Api) -> None:
    name, label = f"e2e-fake-node-{uuid.uuid4().hex[:8]}", uuid.uuid4().hex[:8]
    status = {
        "capacity": {"cpu": "4", "memory": "1Gi"},
        "allocatable": {"cpu": "2", "memory": "512Mi"},
        "phase": "Running",
        "conditions": [
            {
                "type": "Ready",
                "status": "True",
                "message": "Set from e2e test",
                "reason": "E2E",
                "lastTransitionTime": "2026-01-01T00:00:00Z",
            }
        ],
    }
    try:
        assert api.post(NODES, {"metadata": {"name": name}, "status": status}).ok()["metadata"]["name"] == name
        found = api.get(f"{NODES}/{name}").ok()
        assert found["metadata"]["name"] == name
        assert found["status"]["capacity"] == status["capacity"]
        patched = api.patch(f"{NODES}/{name}", {"metadata": {"labels": {label: "patched"}}}, STRATEGIC).ok()
        assert patched["metadata"]["labels"][label] == "patched"
        assert len(api.get(f"{NODES}?labelSelector={label}%3Dpatched").ok()["items"]) == 1

        def change(one: Obj) -> None:
            one["metadata"]["labels"][label] = "updated"

        assert replace(api, f"{NODES}/{name}", change)["metadata"]["labels"][label] == "updated"
        assert len(api.get(f"{NODES}?labelSelector={label}%3Dupdated").ok()["items"]) == 1
        api.delete(f"{NODES}/{name}", {"propagationPolicy": "Background"}).ok()
        eventually(lambda: api.get(f"{NODES}?labelSelector={label}%3Dupdated").ok()["items"] == [])
        api.get(f"{NODES}/{name}").failed(404, "NotFound")
    finally:
        api.delete(f"{NODES}/{name}")
