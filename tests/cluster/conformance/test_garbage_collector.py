"""The garbage collector: what goes with an owner, what stays, and who waits for whom."""

from __future__ import annotations

from typing import Any

import pytest

from tests.cluster.conformance.conftest import STRATEGIC, Api
from tests.cluster.conformance.objects import NOWHERE, apps, core, pod, replication_controller, workload
from tests.cluster.waiting import eventually

pytestmark = pytest.mark.cluster

MANY = 10  # upstream's least number of pods where it takes as many as the nodes hold


def delete_options(policy: str, obj: dict[str, Any]) -> dict[str, Any]:
    preconditions = {"uid": obj["metadata"]["uid"]}
    return {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": policy, "preconditions": preconditions}


def pods_of(api: Api, namespace: str) -> list[dict[str, Any]]:
    return api.get(core(namespace, "pods")).ok()["items"]


def start_controller(api: Api, namespace: str, name: str, replicas: int, **spec: Any) -> dict[str, Any]:
    """Creates a replication controller and waits until it has all its pods."""
    path = core(namespace, "replicationcontrollers")
    made = api.post(path, replication_controller(name, replicas, **spec)).ok()
    eventually(lambda: api.get(f"{path}/{name}").ok()["status"]["replicas"] == replicas)
    return made


def owners(obj: dict[str, Any]) -> list[dict[str, Any]]:
    return obj["metadata"].get("ownerReferences") or []


@pytest.mark.behaviour("[sig-api-machinery] Garbage collector should delete pods created by rc when not orphaning")
def test_background(api: Api, namespace: str) -> None:
    path = core(namespace, "replicationcontrollers", "simpletest.rc")
    made = start_controller(api, namespace, "simpletest.rc", 2)
    assert all(owners(one)[0]["uid"] == made["metadata"]["uid"] for one in pods_of(api, namespace))
    api.delete(path, delete_options("Background", made)).ok()
    api.get(path).failed(404, "NotFound")
    eventually(lambda: not pods_of(api, namespace))


@pytest.mark.behaviour(
    "[sig-api-machinery] Garbage collector should orphan pods created by rc if delete options say so [Serial]"
)
def test_orphan(api: Api, namespace: str) -> None:
    path = core(namespace, "replicationcontrollers", "simpletest.rc")
    made = start_controller(api, namespace, "simpletest.rc", MANY, nodeSelector=NOWHERE)
    api.delete(path, delete_options("Orphan", made)).ok()
    eventually(lambda: api.get(path).status == 404)
    left = pods_of(api, namespace)
    assert len(left) == MANY
    assert not any(owners(one) or "deletionTimestamp" in one["metadata"] for one in left)
    # The garbage collector has nothing left to do: a controller of the same labels adopts them all.
    adopting = start_controller(api, namespace, "simpletest.rc", MANY, nodeSelector=NOWHERE)
    eventually(lambda: {owners(one)[0]["uid"] for one in pods_of(api, namespace)} == {adopting["metadata"]["uid"]})
    assert {one["metadata"]["uid"] for one in pods_of(api, namespace)} == {one["metadata"]["uid"] for one in left}


@pytest.mark.behaviour(
    "[sig-api-machinery] Garbage collector should delete RS created by deployment when not orphaning"
)
def test_deployment_in_background(api: Api, namespace: str) -> None:
    made = api.post(apps(namespace, "deployments"), workload("Deployment", "simpletest.deployment", 2)).ok()
    eventually(lambda: len(api.get(apps(namespace, "replicasets")).ok()["items"]) == 1)
    eventually(lambda: len(pods_of(api, namespace)) == 2)
    api.delete(apps(namespace, "deployments", "simpletest.deployment"), delete_options("Background", made)).ok()
    eventually(lambda: not api.get(apps(namespace, "replicasets")).ok()["items"])
    eventually(lambda: not pods_of(api, namespace))


@pytest.mark.behaviour(
    "[sig-api-machinery] Garbage collector should orphan RS created by deployment when deleteOptions.PropagationPolicy "
    "is Orphan"
)
def test_deployment_orphans(api: Api, namespace: str) -> None:
    made = api.post(apps(namespace, "deployments"), workload("Deployment", "simpletest.deployment", 2)).ok()
    path = apps(namespace, "deployments", "simpletest.deployment")
    eventually(lambda: len(pods_of(api, namespace)) == 2)
    # Upstream's test waits until the deployment itself is settled, or its status would be written to the end.
    eventually(lambda: api.get(path).ok()["status"].get("updatedReplicas") == 2)
    api.delete(path, delete_options("Orphan", made)).ok()
    eventually(lambda: api.get(path).status == 404)
    (left,) = api.get(apps(namespace, "replicasets")).ok()["items"]
    assert not owners(left) and "deletionTimestamp" not in left["metadata"]
    # Its pods still are the replica set's.
    found = pods_of(api, namespace)
    assert len(found) == 2 and all(owners(one)[0]["uid"] == left["metadata"]["uid"] for one in found)


@pytest.mark.behaviour(
    "[sig-api-machinery] Garbage collector should keep the rc around until all its pods are deleted if the "
    "deleteOptions says so [Serial]"
)
def test_foreground(api: Api, namespace: str) -> None:
    path = core(namespace, "replicationcontrollers", "simpletest.rc")
    made = start_controller(api, namespace, "simpletest.rc", MANY)
    watched = f"{core(namespace, 'replicationcontrollers')}?resourceVersion={made['metadata']['resourceVersion']}"
    with api.watch(watched, seconds_max=60) as events:
        answered = api.delete(path, delete_options("Foreground", made)).ok()
        assert answered["metadata"]["finalizers"] == ["foregroundDeletion"]
        assert any(event["type"] == "DELETED" for event in events)
    assert not pods_of(api, namespace)
    api.get(path).failed(404, "NotFound")


@pytest.mark.behaviour(
    "[sig-api-machinery] Garbage collector should not delete dependents that have both valid owner and owner that's "
    "waiting for dependents to be deleted [Serial]"
)
def test_second_owner_keeps_dependents(api: Api, namespace: str) -> None:
    first = start_controller(api, namespace, "simpletest-rc-to-be-deleted", MANY, nodeSelector=NOWHERE)
    stays = api.post(
        core(namespace, "replicationcontrollers"),
        replication_controller("simpletest-rc-to-stay", 0) | {"metadata": {"name": "simpletest-rc-to-stay"}},
    ).ok()
    reference = {
        "apiVersion": "v1",
        "kind": "ReplicationController",
        "name": stays["metadata"]["name"],
        "uid": stays["metadata"]["uid"],
    }
    half = [one["metadata"]["name"] for one in pods_of(api, namespace)][: MANY // 2]
    for name in half:
        change = {"metadata": {"ownerReferences": [reference]}}
        patched = api.patch(core(namespace, "pods", name), change, STRATEGIC).ok()
        assert len(owners(patched)) == 2, "a strategic merge patch adds an owner"
    path = core(namespace, "replicationcontrollers", first["metadata"]["name"])
    api.delete(path, delete_options("Foreground", first)).ok()
    eventually(lambda: api.get(path).status == 404)
    left = pods_of(api, namespace)
    assert sorted(one["metadata"]["name"] for one in left) == sorted(half)
    assert not any("deletionTimestamp" in one["metadata"] for one in left)
    assert all([one["uid"] for one in owners(pod)] == [stays["metadata"]["uid"]] for pod in left)


@pytest.mark.behaviour("[sig-api-machinery] Garbage collector should not be blocked by dependency circle")
def test_circle(api: Api, namespace: str) -> None:
    made = [api.post(core(namespace, "pods"), pod(f"pod{number}")).ok() for number in (1, 2, 3)]
    for dependent, owner in zip(made, (made[2], made[0], made[1]), strict=True):
        reference = {
            "apiVersion": "v1",
            "kind": "Pod",
            "name": owner["metadata"]["name"],
            "uid": owner["metadata"]["uid"],
            "controller": True,
            "blockOwnerDeletion": True,
        }
        change = {"metadata": {"ownerReferences": [reference]}}
        patched = api.patch(core(namespace, "pods", dependent["metadata"]["name"]), change, STRATEGIC).ok()
        assert owners(patched) == [reference]
    api.delete(core(namespace, "pods", "pod1"), delete_options("Foreground", made[0])).ok()
    eventually(lambda: not pods_of(api, namespace))
