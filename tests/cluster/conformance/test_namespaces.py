"""Namespaces: labels, status, finalizers, and what goes with them, in which order."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from tests.cluster.conformance.conftest import STRATEGIC, Api
from tests.cluster.conformance.objects import condition, config_map, core, pod
from tests.cluster.waiting import eventually

pytestmark = pytest.mark.cluster

PATH = "/api/v1/namespaces"


@pytest.fixture
def own(api: Api) -> Iterator[str]:
    """A namespace that the test may delete itself."""
    name = f"t-{uuid.uuid4().hex[:8]}"
    make_namespace(api, name)
    yield name
    api.delete(f"{PATH}/{name}")


def make_namespace(api: Api, name: str) -> dict[str, Any]:
    """Creates a namespace and waits until pods can be created in it."""
    made = api.post(PATH, {"metadata": {"name": name}}).ok()
    eventually(lambda: api.get(core(name, "serviceaccounts", "default")).status == 200)
    return made


def remove_namespace(api: Api, name: str) -> None:
    api.delete(f"{PATH}/{name}").ok()
    eventually(lambda: api.get(f"{PATH}/{name}").status == 404, what=f"namespace {name} is gone")


@pytest.mark.behaviour("[sig-api-machinery] Namespaces [Serial] should patch a Namespace")
def test_patch(api: Api, own: str) -> None:
    before = api.get(f"{PATH}/{own}").ok()
    patched = api.patch(f"{PATH}/{own}", {"metadata": {"labels": {"testLabel": "testValue"}}}, STRATEGIC).ok()
    assert int(patched["metadata"]["resourceVersion"]) > int(before["metadata"]["resourceVersion"])
    found = api.get(f"{PATH}/{own}").ok()
    assert found["metadata"]["labels"] == {"kubernetes.io/metadata.name": own, "testLabel": "testValue"}


@pytest.mark.behaviour("[sig-api-machinery] Namespaces [Serial] should apply an update to a Namespace")
def test_update(api: Api, own: str) -> None:
    found = api.get(f"{PATH}/{own}").ok()
    found["metadata"]["labels"][own] = "updated"
    assert api.put(f"{PATH}/{own}", found).ok()["metadata"]["labels"][own] == "updated"
    assert api.get(f"{PATH}/{own}").ok()["metadata"]["labels"][own] == "updated"


@pytest.mark.behaviour("[sig-api-machinery] Namespaces [Serial] should apply changes to a namespace status")
def test_status(api: Api, own: str) -> None:
    status = f"{PATH}/{own}/status"
    assert api.get(status).ok()["status"]["phase"] == "Active"
    wanted = {"type": "StatusPatch", "status": "True", "reason": "E2E", "message": "Patched by an e2e test"}
    change = {"metadata": {"annotations": {"e2e-patched-ns-status": own}}, "status": {"conditions": [wanted]}}
    # What a Go client sends for a condition without a time is null.
    change["status"]["conditions"][0] = {"lastTransitionTime": None, **wanted}  # type: ignore[index]
    patched = api.patch(status, change).ok()
    assert patched["metadata"]["annotations"]["e2e-patched-ns-status"] == own
    assert patched["status"]["phase"] == "Active"
    assert condition(patched, "StatusPatch")["message"] == "Patched by an e2e test"
    found = api.get(status).ok()
    updated = {"type": "StatusUpdate", "status": "True", "reason": "E2E", "message": "Updated by an e2e test"}
    found["status"]["conditions"].append(updated)
    written = api.put(status, found).ok()
    assert [one["type"] for one in written["status"]["conditions"]] == ["StatusPatch", "StatusUpdate"]
    assert api.get(f"{PATH}/{own}").ok()["status"] == written["status"]


@pytest.mark.behaviour("[sig-api-machinery] Namespaces [Serial] should apply a finalizer to a Namespace")
def test_finalizer(api: Api, own: str) -> None:
    fake = "e2e.example.com/fakeFinalizer"
    found = api.get(f"{PATH}/{own}").ok()
    assert found["spec"]["finalizers"] == ["kubernetes"]
    found["spec"]["finalizers"].append(fake)
    added = api.put(f"{PATH}/{own}/finalize", found).ok()
    assert added["spec"]["finalizers"] == ["kubernetes", fake]
    assert api.get(f"{PATH}/{own}").ok()["spec"]["finalizers"] == ["kubernetes", fake]
    added["spec"]["finalizers"].remove(fake)
    assert api.put(f"{PATH}/{own}/finalize", added).ok()["spec"]["finalizers"] == ["kubernetes"]
    assert api.get(f"{PATH}/{own}").ok()["spec"]["finalizers"] == ["kubernetes"]


@pytest.mark.behaviour(
    "[sig-api-machinery] Namespaces [Serial] should ensure that all pods are removed when a namespace is deleted"
)
def test_pods_go_with_it(api: Api, own: str) -> None:
    api.post(core(own, "pods"), pod("test-pod")).ok()
    eventually(lambda: api.get(core(own, "pods", "test-pod")).ok()["status"]["phase"] == "Running")
    remove_namespace(api, own)
    make_namespace(api, own)
    api.get(core(own, "pods", "test-pod")).failed(404, "NotFound")
    assert api.get(core(own, "pods")).ok()["items"] == []


@pytest.mark.behaviour(
    "[sig-api-machinery] Namespaces [Serial] should ensure that all services are removed when a namespace is deleted"
)
def test_services_go_with_it(api: Api, own: str) -> None:
    ports = [{"port": 80, "targetPort": 80}]
    service = {"metadata": {"name": "test-service"}, "spec": {"selector": {"foo": "bar"}, "ports": ports}}
    api.post(core(own, "services"), service).ok()
    remove_namespace(api, own)
    make_namespace(api, own)
    api.get(core(own, "services", "test-service")).failed(404, "NotFound")


@pytest.mark.behaviour("[sig-api-machinery] OrderedNamespaceDeletion namespace deletion should delete pod first")
def test_pods_go_first(api: Api, own: str) -> None:
    held = pod("test-pod")
    held["metadata"]["finalizers"] = ["e2e.example.com/finalizer"]
    path = core(own, "pods", "test-pod")
    api.post(core(own, "pods"), held).ok()
    eventually(lambda: api.get(path).ok()["status"]["phase"] == "Running")
    api.post(core(own, "configmaps"), config_map("test-configmap", key="value")).ok()
    api.delete(f"{PATH}/{own}").ok()

    def processed() -> bool:
        found = api.get(f"{PATH}/{own}").ok()
        return found["status"]["phase"] == "Terminating" and bool(condition(found, "NamespaceDeletionContentFailure"))

    eventually(processed)
    remaining = condition(api.get(f"{PATH}/{own}").ok(), "NamespaceFinalizersRemaining")
    assert remaining["status"] == "True" and "e2e.example.com/finalizer in 1 resource instances" in remaining["message"]
    eventually(lambda: api.get(path).ok()["metadata"].get("deletionTimestamp"))
    kept = api.get(core(own, "configmaps", "test-configmap")).ok()
    assert "deletionTimestamp" not in kept["metadata"]

    def released() -> bool:
        found = api.get(path).ok()
        found["metadata"]["finalizers"] = []
        return api.put(path, found).status == 200

    eventually(released)
    eventually(lambda: api.get(path).status == 404)
    eventually(lambda: api.get(f"{PATH}/{own}").status == 404)
