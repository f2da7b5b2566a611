"""The API of storage: every verb of its kinds, status of volumes, claims and attachments; data that can't change."""

from __future__ import annotations

import base64
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import pytest

from tests.cluster.conformance.conftest import JSON_PATCH, MERGE, STRATEGIC, Api
from tests.cluster.conformance.objects import BUSYBOX, core
from tests.cluster.conformance.operations import replace
from tests.cluster.waiting import eventually

pytestmark = pytest.mark.cluster

STORAGE = "/apis/storage.k8s.io/v1"
Body = dict[str, Any]


def fresh(prefix: str) -> str:
    return f"{prefix}-{uuid.uuid4().hex[:8]}"


@dataclass
class Kind:
    """One kind of object below `path`; `body` returns an object without its metadata."""

    api: Api
    path: str
    kind: str
    version: str
    body: Callable[[], Body]

    def create(self, name: str, **labels: str) -> Body:
        meta = {"name": name, "labels": labels}
        made: Body = self.api.post(
            self.path, {"apiVersion": self.version, "kind": self.kind, "metadata": meta, **self.body()}
        ).ok()
        assert made["metadata"]["name"] == name
        return made

    def get(self, name: str) -> Body:
        found: Body = self.api.get(f"{self.path}/{name}").ok()
        return found

    def labels(self, name: str) -> dict[str, str]:
        found: dict[str, str] = self.get(name)["metadata"].get("labels") or {}
        return found

    def patch_label(self, name: str, key: str, value: str) -> None:
        patched = self.api.patch(f"{self.path}/{name}", {"metadata": {"labels": {key: value}}}, STRATEGIC).ok()
        assert patched["metadata"]["labels"][key] == value

    def update(self, name: str, change: Callable[[Body], None], subresource: str = "") -> Body:
        """Puts the object as `change` makes it; again if somebody was faster."""
        found: Body = replace(self.api, f"{self.path}/{name}{subresource}", change)
        return found

    def update_label(self, name: str, key: str, value: str) -> None:
        updated = self.update(name, lambda one: one["metadata"].setdefault("labels", {}).update({key: value}))
        assert updated["metadata"]["labels"][key] == value

    def names(self, selector: str) -> set[str]:
        items = self.api.get(f"{self.path}?labelSelector={quote(selector)}").ok()["items"]
        return {one["metadata"]["name"] for one in items}

    def delete(self, name: str) -> None:
        self.api.delete(f"{self.path}/{name}").ok()
        self.gone(name)

    def delete_all(self, selector: str) -> None:
        self.api.delete(f"{self.path}?labelSelector={quote(selector)}").ok()
        eventually(lambda: not self.names(selector))

    def gone(self, name: str) -> None:
        eventually(lambda: self.api.get(f"{self.path}/{name}").status == 404, what=f"{name} is gone")


def storage(api: Api, plural: str, kind: str, body: Callable[[], Body]) -> Kind:
    return Kind(api, f"{STORAGE}/{plural}", kind, "storage.k8s.io/v1", body)


def run_through(objects: Kind) -> None:
    """The lifecycle that upstream drives for its small kinds: one object patched and deleted, another updated and
    deleted with its collection."""
    first, mark = fresh("e2e"), fresh("mark")
    objects.create(first, mark=mark)
    assert objects.get(first)["metadata"]["name"] == first
    objects.patch_label(first, first, "patched")
    assert objects.names(f"{first}=patched") == {first}
    objects.delete(first)
    second = fresh("e2e")
    made = objects.create(second, mark=mark)
    assert objects.get(second)["metadata"]["uid"] == made["metadata"]["uid"]
    objects.update_label(second, second, "updated")
    assert objects.names(f"{second}=updated") == {second}
    objects.delete_all(f"{second}=updated")
    objects.gone(second)


# ---------------------------------------------------------------- classes, drivers, capacities


@pytest.mark.behaviour(
    "[sig-storage] StorageClasses CSI Conformance should run through the lifecycle of a StorageClass"
)
def test_storage_class(api: Api) -> None:
    run_through(
        storage(api, "storageclasses", "StorageClass", lambda: {"provisioner": "e2e-fake-provisioner"}),
    )


@pytest.mark.behaviour(
    "[sig-storage] VolumeAttributesClass [FeatureGate:VolumeAttributesClass] should run through the lifecycle of a "
    "VolumeAttributesClass"
)
def test_volume_attributes_class(api: Api) -> None:
    body = {"driverName": "e2e-fake-csi-driver", "parameters": {"iops": "100"}}
    run_through(storage(api, "volumeattributesclasses", "VolumeAttributesClass", lambda: dict(body)))


@pytest.mark.behaviour("[sig-storage] CSINodes CSI Conformance should run through the lifecycle of a csinode")
def test_csi_node(api: Api) -> None:
    run_through(storage(api, "csinodes", "CSINode", lambda: {"spec": {"drivers": []}}))


@pytest.mark.behaviour("[sig-storage] CSIInlineVolumes should run through the lifecycle of a CSIDriver")
def test_csi_driver(api: Api) -> None:
    drivers = storage(api, "csidrivers", "CSIDriver", lambda: {"spec": {"attachRequired": False}})
    label = fresh("driver")
    names = [fresh("inline-driver") for _ in range(2)]
    for name in names:
        made = drivers.create(name, test=label)
        assert made["spec"]["attachRequired"] is False
        assert drivers.get(name)["metadata"]["uid"] == made["metadata"]["uid"]
    drivers.patch_label(names[1], names[1], "patched")
    drivers.update_label(names[1], names[1], "updated")
    assert drivers.names(f"test={label}") == set(names)
    drivers.delete(names[0])
    assert drivers.names(f"test={label}") == {names[1]}
    drivers.delete_all(f"{names[1]}=updated")
    assert drivers.names(f"test={label}") == set()


@pytest.mark.behaviour("[sig-storage] CSIInlineVolumes should support CSIVolumeSource in Pod API")
def test_csi_volume_in_a_pod(api: Api, namespace: str) -> None:
    def body() -> Body:
        mount = {"name": "inline", "mountPath": "/data"}
        container = {"name": "c", "image": BUSYBOX, "command": ["sleep", "3600"], "volumeMounts": [mount]}
        csi = {"driver": "e2e.example.com", "readOnly": True, "volumeAttributes": {"a": "b"}}
        volumes = [{"name": "inline", "csi": csi}]
        return {"spec": {"containers": [container], "volumes": volumes, "terminationGracePeriodSeconds": 0}}

    pods = Kind(api, core(namespace, "pods"), "Pod", "v1", body)
    pods.create("inline", test="csi")
    (source,) = [one["csi"] for one in pods.get("inline")["spec"]["volumes"] if one["name"] == "inline"]
    assert source == {"driver": "e2e.example.com", "readOnly": True, "volumeAttributes": {"a": "b"}}
    assert pods.names("test=csi") == {"inline"}
    pods.patch_label("inline", "inline", "patched")
    assert pods.labels("inline")["inline"] == "patched"
    pods.delete("inline")


@pytest.mark.behaviour("[sig-storage] CSIStorageCapacity should support CSIStorageCapacities API operations")
def test_csi_storage_capacity(api: Api, namespace: str) -> None:
    groups = {one["name"]: one for one in api.get("/apis").ok()["groups"]}
    assert "storage.k8s.io/v1" in [one["groupVersion"] for one in groups["storage.k8s.io"]["versions"]]
    assert "storage.k8s.io/v1" in [one["groupVersion"] for one in api.get("/apis/storage.k8s.io").ok()["versions"]]
    resources = {one["name"]: one for one in api.get(STORAGE).ok()["resources"]}
    wanted = {"create", "get", "list", "watch", "update", "patch", "delete", "deletecollection"}
    assert wanted <= set(resources["csistoragecapacities"]["verbs"])
    path = f"{STORAGE}/namespaces/{namespace}/csistoragecapacities"
    capacities = Kind(
        api, path, "CSIStorageCapacity", "storage.k8s.io/v1", lambda: {"storageClassName": "e2e", "capacity": "1Gi"}
    )
    start = api.get(path).ok()["metadata"]["resourceVersion"]
    for number in range(3):
        capacities.create(f"c-{number}", test="capacity")
    assert capacities.get("c-0")["capacity"] == "1Gi"
    assert capacities.names("test=capacity") == {"c-0", "c-1", "c-2"}
    everywhere = api.get(f"{STORAGE}/csistoragecapacities?labelSelector=test%3Dcapacity").ok()["items"]
    assert {one["metadata"]["namespace"] for one in everywhere} >= {namespace}
    with api.watch(f"{path}?resourceVersion={start}&labelSelector=test%3Dcapacity") as events:
        assert [next(events)["type"] for _ in range(3)] == ["ADDED"] * 3
        patch = {"metadata": {"annotations": {"patched": "true"}}}
        assert api.patch(f"{path}/c-0", patch, MERGE).ok()["metadata"]["annotations"] == {"patched": "true"}
        assert next(events)["type"] == "MODIFIED"
        updated = capacities.update("c-0", lambda one: one["metadata"]["annotations"].update(updated="true"))
        assert updated["metadata"]["annotations"] == {"patched": "true", "updated": "true"}
        assert next(events)["object"]["metadata"]["annotations"]["updated"] == "true"
        capacities.delete("c-0")
        assert next(events)["type"] == "DELETED"
        capacities.delete_all("test=capacity")
        assert [next(events)["type"] for _ in range(2)] == ["DELETED"] * 2


# ---------------------------------------------------------------- volumes and claims


def volumes_and_claims(api: Api, namespace: str) -> tuple[Kind, Kind]:
    """Volumes and claims of a class of the test's own, which nothing provisions."""
    name = fresh("sc")
    size = {"storage": "1Gi"}

    def volume() -> Body:
        return {
            "spec": {
                "capacity": size,
                "accessModes": ["ReadWriteOnce"],
                "persistentVolumeReclaimPolicy": "Delete",
                "storageClassName": name,
                "hostPath": {"path": "/tmp/e2e"},
            }
        }

    def claim() -> Body:
        wanted = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": size}, "storageClassName": name}
        return {"spec": wanted}

    volumes = Kind(api, "/api/v1/persistentvolumes", "PersistentVolume", "v1", volume)
    claims = Kind(api, core(namespace, "persistentvolumeclaims"), "PersistentVolumeClaim", "v1", claim)
    return volumes, claims


@pytest.mark.behaviour(
    "[sig-storage] PersistentVolumes CSI Conformance should run through the lifecycle of a PV and a PVC"
)
def test_volume_and_claim(api: Api, namespace: str) -> None:
    volumes, claims = volumes_and_claims(api, namespace)
    mark = fresh("mark")
    first = fresh("pv"), fresh("pvc")
    volumes.create(first[0], mark=mark)
    claims.create(first[1], mark=mark)
    eventually(lambda: claims.get(first[1])["status"]["phase"] == "Bound")
    assert volumes.names(f"mark={mark}") == {first[0]}
    assert claims.names(f"mark={mark}") == {first[1]}
    for objects, name in ((volumes, first[0]), (claims, first[1])):
        objects.patch_label(name, name, "patched")
        assert objects.labels(name)[name] == "patched"
        assert objects.get(name)["metadata"]["uid"]
    claims.delete(first[1])
    api.delete(f"{volumes.path}/{first[0]}")  # its binder may have been faster
    volumes.gone(first[0])
    second = fresh("pv"), fresh("pvc")
    volumes.create(second[0], mark=mark)
    claims.create(second[1], mark=mark)
    eventually(lambda: claims.get(second[1])["status"]["phase"] == "Bound")
    for objects, name in ((volumes, second[0]), (claims, second[1])):
        objects.update_label(name, name, "updated")
    claims.delete_all(f"{second[1]}=updated")
    volumes.delete_all(f"{second[0]}=updated")
    volumes.gone(second[0])


@pytest.mark.behaviour("[sig-storage] PersistentVolumes CSI Conformance should apply changes to a pv/pvc status")
def test_status_of_volume_and_claim(api: Api, namespace: str) -> None:
    volumes, claims = volumes_and_claims(api, namespace)
    mark = fresh("mark")
    volume, claim = fresh("pv"), fresh("pvc")
    volumes.create(volume, mark=mark)
    claims.create(claim, mark=mark)
    eventually(lambda: claims.get(claim)["status"]["phase"] == "Bound")
    assert volumes.names(f"mark={mark}") == {volume}
    assert claims.names("") == {claim}
    assert api.get(f"{claims.path}/{claim}/status").ok()["status"]["phase"] == "Bound"
    assert api.get(f"{volumes.path}/{volume}/status").ok()["status"]["phase"] == "Bound"
    condition = {"type": "StatusPatched", "status": "True", "reason": "E2E", "message": "Set from an e2e test"}
    patched = api.patch(f"{claims.path}/{claim}/status", {"status": {"conditions": [condition]}}).ok()
    assert [one["type"] for one in patched["status"]["conditions"]] == ["StatusPatched"]
    told = {"status": {"message": "StatusPatched", "reason": "E2E patchStatus"}}
    patched = api.patch(f"{volumes.path}/{volume}/status", told).ok()
    assert (patched["status"]["message"], patched["status"]["reason"]) == ("StatusPatched", "E2E patchStatus")

    def more(one: Body) -> None:
        one["status"]["conditions"].append({**condition, "type": "StatusUpdated"})

    updated = claims.update(claim, more, "/status")
    assert [one["type"] for one in updated["status"]["conditions"]] == ["StatusPatched", "StatusUpdated"]
    told_again = {"message": "StatusUpdated", "reason": "E2E updateStatus"}
    updated = volumes.update(volume, lambda one: one["status"].update(told_again), "/status")
    assert (updated["status"]["message"], updated["status"]["reason"]) == ("StatusUpdated", "E2E updateStatus")
    claims.delete(claim)
    api.delete(f"{volumes.path}/{volume}")
    volumes.gone(volume)


# ---------------------------------------------------------------- attachments


def attachments(api: Api) -> Kind:
    def body() -> Body:
        source = {"persistentVolumeName": fresh("pv")}
        return {"spec": {"attacher": "e2e-test.storage.k8s.io", "nodeName": fresh("node"), "source": source}}

    return storage(api, "volumeattachments", "VolumeAttachment", body)


@pytest.mark.behaviour(
    "[sig-storage] VolumeAttachment Conformance should run through the lifecycle of a VolumeAttachment"
)
def test_volume_attachment(api: Api) -> None:
    objects = attachments(api)
    first, mark = fresh("va"), fresh("mark")
    objects.create(first, mark=mark)
    assert objects.get(first)["metadata"]["name"] == first
    objects.patch_label(first, first, "patched")
    assert objects.names(f"{first}=patched") == {first}
    objects.delete(first)
    others = [fresh("va") for _ in range(2)]
    for name in others:
        objects.create(name, mark=mark)
        objects.update_label(name, mark, "updated")
    assert objects.names(f"{mark}=updated") == set(others)
    objects.delete_all(f"{mark}=updated")
    for name in others:
        objects.gone(name)


@pytest.mark.behaviour("[sig-storage] VolumeAttachment Conformance should apply changes to a volumeattachment status")
def test_status_of_a_volume_attachment(api: Api) -> None:
    objects = attachments(api)
    name = fresh("va")
    objects.create(name)
    objects.patch_label(name, name, "patched")
    path = f"{objects.path}/{name}/status"
    assert api.get(path).ok()["status"]["attached"] is False
    patched = api.patch(path, {"status": {"attached": True}}).ok()
    assert patched["status"]["attached"] is True
    updated = objects.update(name, lambda one: one["status"].update(attached=False), "/status")
    assert updated["status"]["attached"] is False
    assert objects.get(name)["status"]["attached"] is False
    objects.delete(name)


# ---------------------------------------------------------------- data that can't change


def check_immutable(objects: Kind, value: Callable[[str], str]) -> None:
    """Data may change until the object says that it can't; then only its metadata may, and it can be deleted."""
    name = "kept"
    objects.create(name)

    def put(**fields: Any) -> Any:
        return objects.api.put(f"{objects.path}/{name}", {**objects.get(name), **fields})

    changed = put(data={"data-1": value("value-1"), "data-2": value("value-2")}).ok()
    assert changed["data"]["data-2"] == value("value-2")
    assert put(immutable=True).ok()["immutable"] is True
    put(data={"data-1": value("other")}).failed(422, "Invalid")
    put(immutable=False).failed(422, "Invalid")
    removed = objects.api.patch(f"{objects.path}/{name}", [{"op": "remove", "path": "/immutable"}], JSON_PATCH)
    removed.failed(422, "Invalid")
    found = objects.get(name)
    assert found["data"] == changed["data"]
    assert found["immutable"] is True
    objects.update_label(name, "still", "labelled")
    objects.delete(name)


@pytest.mark.behaviour("[sig-storage] ConfigMap should be immutable if `immutable` field is set")
def test_immutable_config_map(api: Api, namespace: str) -> None:
    body = {"data": {"data-1": "value-1"}}
    check_immutable(Kind(api, core(namespace, "configmaps"), "ConfigMap", "v1", lambda: body), str)


@pytest.mark.behaviour("[sig-storage] Secrets should be immutable if `immutable` field is set")
def test_immutable_secret(api: Api, namespace: str) -> None:
    def encoded(text: str) -> str:
        return base64.b64encode(text.encode()).decode()

    body = {"data": {"data-1": encoded("value-1")}}
    check_immutable(Kind(api, core(namespace, "secrets"), "Secret", "v1", lambda: body), encoded)
