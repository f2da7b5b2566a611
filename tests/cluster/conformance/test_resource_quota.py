"""Resource quotas: what counts, when it counts no more, and who is refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from tests.cluster.conformance.conftest import STRATEGIC, Api
from tests.cluster.conformance.objects import NOWHERE, apps, config_map, core, pod, replication_controller, workload
from tests.cluster.waiting import eventually

pytestmark = pytest.mark.cluster

DONGLES = "requests.example.com/dongle"
# As upstream's tests have it: one of everything that a quota can limit.
HARD = {
    "pods": "5",
    "services": "10",
    "services.nodeports": "1",
    "services.loadbalancers": "1",
    "replicationcontrollers": "10",
    "resourcequotas": "1",
    "cpu": "1",
    "memory": "500Mi",
    "configmaps": "10",
    "secrets": "10",
    "persistentvolumeclaims": "10",
    "requests.storage": "10Gi",
    "requests.ephemeral-storage": "50Gi",
    "gold.storageclass.storage.k8s.io/persistentvolumeclaims": "10",
    "gold.storageclass.storage.k8s.io/requests.storage": "10Gi",
    "count/replicasets.apps": "5",
    DONGLES: "3",
}
SCOPED = {
    "pods": "5",
    "requests.cpu": "1",
    "requests.memory": "500Mi",
    "limits.cpu": "2",
    "limits.memory": "1Gi",
}
REQUESTS = {"cpu": "500m", "memory": "200Mi"}
LIMITS = {"cpu": "1", "memory": "400Mi"}


class Quotas:
    """The quotas of one namespace."""

    def __init__(self, api: Api, namespace: str) -> None:
        self.api, self.namespace = api, namespace

    def path(self, name: str = "") -> str:
        return core(self.namespace, "resourcequotas", name)

    def create(self, name: str, hard: Mapping[str, str], *scopes: str) -> dict[str, Any]:
        """Creates a quota and waits until its status is calculated."""
        spec = {"hard": dict(hard), "scopes": list(scopes)} if scopes else {"hard": dict(hard)}
        made = self.api.post(self.path(), {"metadata": {"name": name}, "spec": spec}).ok()
        eventually(lambda: self.get(name)["status"].get("hard") == dict(hard), what=f"status of quota {name}")
        assert set(self.get(name)["status"]["used"]) == set(hard)
        return made

    def get(self, name: str) -> dict[str, Any]:
        return self.api.get(self.path(name)).ok()

    def uses(self, name: str, wanted: Mapping[str, str]) -> None:
        """Waits until the status says so."""

        def shown() -> bool:
            used = self.get(name)["status"]["used"]
            assert {key: used[key] for key in wanted} == wanted
            return True

        eventually(shown, what=f"quota {name}")


@pytest.fixture
def quotas(api: Api, namespace: str) -> Quotas:
    return Quotas(api, namespace)


def limited_pod(name: str, requests: dict[str, str], limits: dict[str, str] | None = None, **spec: Any) -> Any:
    """A pod that stays Pending and asks for resources."""
    made = pod(name, nodeSelector=NOWHERE, **spec)
    resources = {"requests": requests, "limits": limits} if limits else {"requests": requests}
    made["spec"]["containers"][0]["resources"] = resources
    return made


@pytest.mark.behaviour(
    "[sig-api-machinery] ResourceQuota should create a ResourceQuota and ensure its status is promptly calculated."
)
def test_status_is_calculated(api: Api, namespace: str, quotas: Quotas) -> None:
    config_maps = len(api.get(core(namespace, "configmaps")).ok()["items"])
    quotas.create("test-quota", HARD)
    quotas.uses("test-quota", {"resourcequotas": "1", "pods": "0", "configmaps": str(max(config_maps, 1))})


@pytest.mark.behaviour(
    "[sig-api-machinery] ResourceQuota should create a ResourceQuota and capture the life of a service."
)
def test_life_of_a_service(api: Api, namespace: str, quotas: Quotas) -> None:
    path = core(namespace, "services")

    def service(name: str, **spec: Any) -> dict[str, Any]:
        return {"metadata": {"name": name}, "spec": {"ports": [{"port": 80, "targetPort": 80}], **spec}}

    quotas.create("test-quota", HARD)
    api.post(path, service("test-service", type="ClusterIP")).ok()
    api.post(path, service("test-service-np", type="NodePort")).ok()
    refused = api.post(path, service("test-service-lb", type="LoadBalancer", allocateLoadBalancerNodePorts=True))
    assert "exceeded quota: test-quota, requested: services.nodeports=1" in refused.failed(403, "Forbidden")["message"]
    quotas.uses("test-quota", {"services": "2", "services.nodeports": "1", "services.loadbalancers": "0"})
    for name in ("test-service", "test-service-np"):
        api.delete(f"{path}/{name}").ok()
    quotas.uses("test-quota", {"services": "0", "services.nodeports": "0", "services.loadbalancers": "0"})


@pytest.mark.behaviour(
    "[sig-api-machinery] ResourceQuota should create a ResourceQuota and capture the life of a secret."
)
def test_life_of_a_secret(api: Api, namespace: str, quotas: Quotas) -> None:
    quotas.create("test-quota", HARD)
    quotas.uses("test-quota", {"resourcequotas": "1", "secrets": "0"})
    api.post(core(namespace, "secrets"), {"metadata": {"name": "test-secret"}, "data": {"data-1": "dmFsdWUtMQo="}}).ok()
    quotas.uses("test-quota", {"secrets": "1"})
    api.delete(core(namespace, "secrets", "test-secret")).ok()
    quotas.uses("test-quota", {"secrets": "0"})


@pytest.mark.behaviour(
    "[sig-api-machinery] ResourceQuota should create a ResourceQuota and capture the life of a configMap."
)
def test_life_of_a_config_map(api: Api, namespace: str, quotas: Quotas) -> None:
    eventually(lambda: api.get(core(namespace, "configmaps", "kube-root-ca.crt")).status == 200)
    quotas.create("test-quota", HARD)
    quotas.uses("test-quota", {"configmaps": "1"})
    api.post(core(namespace, "configmaps"), config_map("test-configmap", data="value")).ok()
    quotas.uses("test-quota", {"configmaps": "2"})
    api.delete(core(namespace, "configmaps", "test-configmap")).ok()
    quotas.uses("test-quota", {"configmaps": "1"})


@pytest.mark.behaviour("[sig-api-machinery] ResourceQuota should create a ResourceQuota and capture the life of a pod.")
def test_life_of_a_pod(api: Api, namespace: str, quotas: Quotas) -> None:
    path = core(namespace, "pods")
    quotas.create("test-quota", HARD)
    dongles = {"example.com/dongle": "2"}
    requests = {"cpu": "500m", "memory": "252Mi", "ephemeral-storage": "30Gi", **dongles}
    api.post(path, limited_pod("test-pod", requests, dongles)).ok()
    used = {"pods": "1", "cpu": "500m", "memory": "252Mi", "requests.ephemeral-storage": "30Gi", DONGLES: "2"}
    quotas.uses("test-quota", used)

    exceeding = limited_pod("fail-pod", {"cpu": "600m", "memory": "100Mi"})
    message = api.post(path, exceeding).failed(403, "Forbidden")["message"]
    assert "exceeded quota: test-quota, requested: cpu=600m, used: cpu=500m, limited: cpu=1" in message
    extended = limited_pod("fail-pod-for-extended-resource", {"cpu": "1m", "memory": "1Mi", **dongles}, dongles)
    message = api.post(path, extended).failed(403, "Forbidden")["message"]
    assert f"requested: {DONGLES}=2, used: {DONGLES}=2, limited: {DONGLES}=3" in message
    nothing = api.post(path, pod("fail-pod-without-requests", nodeSelector=NOWHERE)).failed(403, "Forbidden")
    assert "failed quota: test-quota: must specify cpu for: main; memory for: main" in nothing["message"]

    found = api.get(f"{path}/test-pod").ok()
    found["spec"]["containers"][0]["resources"]["requests"] = {"cpu": "100m", "memory": "100Mi", **dongles}
    api.put(f"{path}/test-pod", found).failed(422, "Invalid")
    quotas.uses("test-quota", used)
    api.delete(f"{path}/test-pod", {"gracePeriodSeconds": 0}).ok()
    quotas.uses("test-quota", dict.fromkeys((*used, DONGLES), "0"))


@pytest.mark.behaviour(
    "[sig-api-machinery] ResourceQuota should create a ResourceQuota and capture the life of a replication controller."
)
def test_life_of_a_replication_controller(api: Api, namespace: str, quotas: Quotas) -> None:
    path = core(namespace, "replicationcontrollers")
    quotas.create("test-quota", HARD)
    quotas.uses("test-quota", {"replicationcontrollers": "0"})
    api.post(path, replication_controller("test-rc", 0)).ok()
    quotas.uses("test-quota", {"replicationcontrollers": "1"})
    api.delete(f"{path}/test-rc", {"propagationPolicy": "Background"}).ok()
    quotas.uses("test-quota", {"replicationcontrollers": "0"})


@pytest.mark.behaviour(
    "[sig-api-machinery] ResourceQuota should create a ResourceQuota and capture the life of a replica set."
)
def test_life_of_a_replica_set(api: Api, namespace: str, quotas: Quotas) -> None:
    path = apps(namespace, "replicasets")
    counted = "count/replicasets.apps"
    quotas.create("test-quota", HARD)
    quotas.uses("test-quota", {counted: "0"})
    api.post(path, workload("ReplicaSet", "test-rs", 0)).ok()
    quotas.uses("test-quota", {counted: "1"})
    api.delete(f"{path}/test-rs").ok()
    quotas.uses("test-quota", {counted: "0"})


@pytest.mark.behaviour("[sig-api-machinery] ResourceQuota should verify ResourceQuota with terminating scopes.")
def test_terminating_scopes(api: Api, namespace: str, quotas: Quotas) -> None:
    quotas.create("quota-terminating", SCOPED, "Terminating")
    quotas.create("quota-not-terminating", SCOPED, "NotTerminating")
    full = {
        "pods": "1",
        "requests.cpu": "500m",
        "requests.memory": "200Mi",
        "limits.cpu": "1",
        "limits.memory": "400Mi",
    }
    counted(api, quotas, limited_pod("test-pod", REQUESTS, LIMITS), full, "quota-not-terminating", "quota-terminating")
    ends = limited_pod("terminating-pod", REQUESTS, LIMITS, activeDeadlineSeconds=3600)
    counted(api, quotas, ends, full, "quota-terminating", "quota-not-terminating")


@pytest.mark.behaviour("[sig-api-machinery] ResourceQuota should verify ResourceQuota with best effort scope.")
def test_best_effort_scopes(api: Api, namespace: str, quotas: Quotas) -> None:
    quotas.create("quota-besteffort", {"pods": "5"}, "BestEffort")
    quotas.create("quota-not-besteffort", {"pods": "5"}, "NotBestEffort")
    best = pod("pfpod", nodeSelector=NOWHERE)
    counted(api, quotas, best, {"pods": "1"}, "quota-besteffort", "quota-not-besteffort")
    burstable = limited_pod("burstable-pod", REQUESTS, LIMITS)
    counted(api, quotas, burstable, {"pods": "1"}, "quota-not-besteffort", "quota-besteffort")


def counted(api: Api, quotas: Quotas, made: Any, full: dict[str, str], by: str, ignored_by: str) -> None:
    """Creates and deletes a pod that one quota must count and the other must not."""
    path = core(quotas.namespace, "pods")
    none = dict.fromkeys(full, "0")
    api.post(path, made).ok()
    quotas.uses(by, full)
    quotas.uses(ignored_by, none)
    api.delete(f"{path}/{made['metadata']['name']}", {"gracePeriodSeconds": 0}).ok()
    quotas.uses(by, none)
    quotas.uses(ignored_by, none)


@pytest.mark.behaviour("[sig-api-machinery] ResourceQuota should be able to update and delete ResourceQuota.")
def test_update_and_delete(api: Api, namespace: str, quotas: Quotas) -> None:
    made = quotas.create("test-quota", {"cpu": "1", "memory": "500Mi"})
    # Upstream's test sends what it created, without a resourceVersion.
    changed = {"metadata": {"name": "test-quota"}, "spec": {"hard": {"cpu": "2", "memory": "1Gi"}}}
    updated = api.put(quotas.path("test-quota"), changed).ok()
    assert updated["spec"]["hard"] == {"cpu": "2", "memory": "1Gi"}
    assert updated["metadata"]["uid"] == made["metadata"]["uid"]
    assert quotas.get("test-quota")["spec"]["hard"] == {"cpu": "2", "memory": "1Gi"}
    eventually(lambda: quotas.get("test-quota")["status"]["hard"] == {"cpu": "2", "memory": "1Gi"})
    api.delete(quotas.path("test-quota")).ok()
    api.get(quotas.path("test-quota")).failed(404, "NotFound")


@pytest.mark.behaviour("[sig-api-machinery] ResourceQuota should manage the lifecycle of a ResourceQuota")
def test_lifecycle(api: Api, namespace: str, quotas: Quotas) -> None:
    labels = {"e2e-rq-label": namespace}
    selected = f"?labelSelector=e2e-rq-label%3D{namespace}"
    made = {"metadata": {"name": "e2e-quota", "labels": labels}, "spec": {"hard": {"cpu": "1", "memory": "500Mi"}}}
    api.post(quotas.path(), made).ok()
    assert quotas.get("e2e-quota")["spec"]["hard"] == {"cpu": "1", "memory": "500Mi"}
    assert len(api.get(f"/api/v1/resourcequotas{selected}").ok()["items"]) == 1
    change = {"metadata": {"labels": {"e2e-quota": "patched"}}, "spec": {"hard": {"memory": "750Mi"}}}
    patched = api.patch(quotas.path("e2e-quota"), change, STRATEGIC).ok()
    assert patched["metadata"]["labels"] == {**labels, "e2e-quota": "patched"}
    assert patched["spec"]["hard"] == {"cpu": "1", "memory": "750Mi"}
    api.delete(f"{quotas.path()}{selected}", {"kind": "DeleteOptions", "apiVersion": "v1"}).ok()
    api.get(quotas.path("e2e-quota")).failed(404, "NotFound")


@pytest.mark.behaviour("[sig-api-machinery] ResourceQuota should apply changes to a resourcequota status")
def test_status(api: Api, namespace: str, quotas: Quotas) -> None:
    start = api.get(quotas.path()).ok()["metadata"]["resourceVersion"]
    hard = {"cpu": "500m", "memory": "500Mi"}
    quotas.create("e2e-rq-status", hard)
    status = quotas.path("e2e-rq-status/status")

    def written() -> bool:
        found = quotas.get("e2e-rq-status")
        found["status"] = {"hard": hard}
        return api.put(status, found).status == 200

    eventually(written)
    seen(api, f"{quotas.path()}?resourceVersion={start}", hard)

    start = api.get(quotas.path()).ok()["metadata"]["resourceVersion"]
    hard = {"cpu": "1", "memory": "1Gi"}
    assert api.patch(quotas.path("e2e-rq-status"), {"spec": {"hard": hard}}, STRATEGIC).ok()["spec"]["hard"] == hard
    assert api.patch(status, {"status": {"hard": hard}}, STRATEGIC).ok()["status"]["hard"] == hard
    seen(api, f"{quotas.path()}?resourceVersion={start}", hard)
    eventually(lambda: api.get(status).ok()["status"]["hard"] == hard)

    start = api.get(quotas.path()).ok()["metadata"]["resourceVersion"]
    other = {"cpu": "2", "memory": "2Gi"}
    repatched = api.patch(status, {"status": {"hard": other}}, STRATEGIC).ok()
    assert repatched["status"]["hard"] == other and repatched["spec"]["hard"] == hard
    seen(api, f"{quotas.path()}?resourceVersion={start}", other)
    # The controller puts it right again; the spec never changed.
    eventually(lambda: quotas.get("e2e-rq-status")["status"]["hard"] == hard)
    assert quotas.get("e2e-rq-status")["spec"]["hard"] == hard


def seen(api: Api, path: str, hard: dict[str, str]) -> None:
    """A watch must show a quota whose status has these limits."""
    with api.watch(path) as events:
        assert any(event["object"]["status"].get("hard") == hard for event in events)
