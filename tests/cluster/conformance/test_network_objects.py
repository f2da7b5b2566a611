"""The objects of the network as objects: every verb of Ingress, IngressClass, EndpointSlice, ServiceCIDR, IPAddress,
Endpoints and Service. What they do to packets is tested beside this."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from tests.cluster.conformance.conftest import STRATEGIC, Api
from tests.cluster.conformance.objects import condition, core
from tests.cluster.conformance.operations import check_discovery, drive, replace, until
from tests.cluster.waiting import eventually

pytestmark = pytest.mark.cluster
NETWORKING = "networking.k8s.io"
PATH = f"/apis/{NETWORKING}/v1"
LABEL = "test-label"


@pytest.mark.behaviour("[sig-network] Ingress API should support creating Ingress API operations")
def test_ingresses(api: Api, namespace: str) -> None:
    check_discovery(api, "ingresses", "ingresses/status", group=NETWORKING)
    backend = {"service": {"name": "default-backend", "port": {"number": 8080}}}

    def status(api: Api, path: str) -> None:
        address = {"ip": "169.1.1.1"}
        patch = {
            "metadata": {"annotations": {"patchedstatus": "true"}},
            "status": {"loadBalancer": {"ingress": [address]}},
        }
        patched = api.patch(f"{path}/status", patch).ok()
        assert patched["status"]["loadBalancer"]["ingress"] == [address]
        assert patched["metadata"]["annotations"]["patchedstatus"] == "true"
        second = {"ip": "169.1.1.2", "hostname": "a.example.com", "ports": [{"port": 80, "protocol": "TCP"}]}
        updated = replace(
            api, f"{path}/status", lambda one: one["status"].update(loadBalancer={"ingress": [address, second]})
        )
        assert updated["status"]["loadBalancer"]["ingress"] == [address, second]
        assert api.get(f"{path}/status").ok()["spec"]["defaultBackend"] == backend
        assert api.get(path).ok()["status"] == updated["status"]

    drive(
        api,
        "ingresses",
        {"spec": {"defaultBackend": backend, "rules": []}},
        status=status,
        group=NETWORKING,
        namespace=namespace,
    )


@pytest.mark.behaviour("[sig-network] IngressClass API should support creating IngressClass API operations")
def test_ingress_classes(api: Api) -> None:
    check_discovery(api, "ingressclasses", group=NETWORKING)
    drive(api, "ingressclasses", {"spec": {"controller": "example.com/controller"}}, group=NETWORKING)


@pytest.mark.behaviour("[sig-network] EndpointSlice should support creating EndpointSlice API operations")
def test_endpoint_slices(api: Api, namespace: str) -> None:
    check_discovery(api, "endpointslices", group="discovery.k8s.io")
    endpoints = [{"addresses": ["1.2.3.4", "5.6.7.8"]}, {"addresses": ["2.2.3.4", "6.6.7.8"]}]
    body = {"addressType": "IPv4", "endpoints": endpoints}
    drive(api, "endpointslices", body, group="discovery.k8s.io", namespace=namespace)


@pytest.mark.behaviour("[sig-network] ServiceCIDR and IPAddress API should support ServiceCIDR API operations")
def test_service_cidrs(api: Api) -> None:
    check_discovery(api, "servicecidrs", "servicecidrs/status", group=NETWORKING)
    path = f"{PATH}/servicecidrs"
    default = api.get(f"{path}/kubernetes").ok()
    assert condition(default, "Ready")["status"] == "True"
    patched = api.patch(f"{path}/kubernetes", {"metadata": {"annotations": {"patched": "true"}}}).ok()
    assert patched["metadata"]["annotations"]["patched"] == "true"
    updated = replace(api, f"{path}/kubernetes", lambda one: one["metadata"]["annotations"].update(updated="true"))
    assert updated["metadata"]["annotations"]["updated"] == "true"
    start = api.get(path).ok()
    assert "kubernetes" in [one["metadata"]["name"] for one in start["items"]]
    label = f"e2e-{uuid.uuid4().hex[:8]}"
    made = [service_range(api, f"198.51.{100 + number}.0/24", label) for number in range(2)]
    with api.watch(f"{path}?resourceVersion={start['metadata']['resourceVersion']}") as events:
        for name in made:
            until(events, "ADDED", name)
        status = f"{path}/{made[0]}/status"
        mine = {
            "type": "Mine",
            "status": "True",
            "reason": "R",
            "message": "",
            "lastTransitionTime": "2030-01-01T00:00:00Z",
        }
        assert condition(api.patch(status, {"status": {"conditions": [mine]}}, kind=STRATEGIC).ok(), "Mine") == mine
        changed = replace(api, status, lambda one: one["status"]["conditions"].append({**mine, "type": "Too"}))
        assert condition(changed, "Too")["status"] == "True"
        api.delete(f"{path}/{made[0]}").ok()
        until(events, "DELETED", made[0])
        api.delete(f"{path}?labelSelector=e2e%3D{label}").ok()
        until(events, "DELETED", made[1])


def service_range(api: Api, cidr: str, label: str) -> str:
    """Makes a range for services and waits until it is ready; returns its name."""
    body = {"metadata": {"generateName": "e2e-", "labels": {"e2e": label}}, "spec": {"cidrs": [cidr]}}
    name: str = api.post(f"{PATH}/servicecidrs", body).ok()["metadata"]["name"]
    eventually(lambda: condition(api.get(f"{PATH}/servicecidrs/{name}").ok(), "Ready").get("status") == "True")
    return name


@pytest.mark.behaviour("[sig-network] ServiceCIDR and IPAddress API should support IPAddress API operations")
def test_ip_addresses(api: Api) -> None:
    check_discovery(api, "ipaddresses", group=NETWORKING)
    path = f"{PATH}/ipaddresses"
    parent = {"group": "mygroup", "resource": "myresources", "namespace": "foo", "name": "bar"}
    start = api.get(path).ok()["metadata"]["resourceVersion"]
    named = {"255.255.255.255": "broadcast", "fe80::42:1dff:fe84:f9e2": "link-local"}
    for name, kind in named.items():
        body = {"metadata": {"name": name, "labels": {"type": kind}}, "spec": {"parentRef": parent}}
        assert api.post(path, body).ok()["spec"]["parentRef"] == parent
    name = "255.255.255.255"
    with api.watch(f"{path}?labelSelector=type%3Dbroadcast&resourceVersion={start}") as events:
        until(events, "ADDED", name)
        patched = api.patch(f"{path}/{name}", {"metadata": {"annotations": {"patched": "true"}}}).ok()
        assert patched["metadata"]["annotations"] == {"patched": "true"}
        updated = replace(api, f"{path}/{name}", lambda one: one["metadata"]["annotations"].update(updated="true"))
        assert updated["metadata"]["annotations"] == {"patched": "true", "updated": "true"}
        assert api.get(f"{path}/{name}").ok()["metadata"]["uid"] == updated["metadata"]["uid"]
        assert len(api.get(f"{path}?labelSelector=type%3Dbroadcast").ok()["items"]) == 1
        api.delete(f"{path}/{name}").ok()
        until(events, "DELETED", name)
    api.delete(f"{path}?labelSelector=type%3Dlink-local").ok()
    assert api.get(f"{path}?labelSelector=type%3Dlink-local").ok()["items"] == []
    for bad in ("10.0.0.01", "not-an-address"):
        api.post(path, {"metadata": {"name": bad}, "spec": {"parentRef": parent}}).failed(422, "Invalid")


@pytest.mark.behaviour("[sig-network] Endpoints should test the lifecycle of an Endpoint")
def test_endpoints(api: Api, namespace: str) -> None:
    path = core(namespace, "endpoints", "testservice")
    subset = {
        "addresses": [{"ip": "10.0.0.24"}],
        "ports": [{"name": "http", "port": 80, "protocol": "TCP"}],
    }
    body = {"metadata": {"name": "testservice", "labels": {LABEL: "static"}}, "subsets": [subset]}
    start = api.get(core(namespace, "endpoints")).ok()["metadata"]["resourceVersion"]
    selected = f"labelSelector={LABEL}%3Dstatic"
    with api.watch(f"{core(namespace, 'endpoints')}?resourceVersion={start}&{selected}") as events:
        made = api.post(core(namespace, "endpoints"), body).ok()
        until(events, "ADDED", "testservice")
        everywhere = api.get(f"/api/v1/endpoints?{selected}").ok()["items"]
        assert [one["metadata"]["uid"] for one in everywhere] == [made["metadata"]["uid"]]
        updated = replace(api, path, lambda one: one["metadata"]["labels"].update({LABEL: "static", "more": "updated"}))
        assert updated["metadata"]["labels"]["more"] == "updated"
        assert until(events, "MODIFIED", "testservice")["metadata"]["labels"]["more"] == "updated"
        patch: dict[str, Any] = {
            "metadata": {"labels": {"more": "patched"}},
            "subsets": [
                {
                    "addresses": [{"ip": "10.0.0.25"}],
                    "ports": [{"name": "http-test", "port": 8080, "protocol": "TCP"}],
                }
            ],
        }
        assert api.patch(path, patch, kind=STRATEGIC).ok()["subsets"] == patch["subsets"]
        seen = until(events, "MODIFIED", "testservice")
        assert seen["metadata"]["labels"]["more"] == "patched" and seen["subsets"] == patch["subsets"]
        assert api.get(path).ok()["subsets"] == patch["subsets"]
        api.delete(f"{core(namespace, 'endpoints')}?{selected}").ok()
        until(events, "DELETED", "testservice")
    api.get(path).failed(404, "NotFound")


@pytest.mark.behaviour("[sig-network] Services should complete a service status lifecycle")
def test_service_status(api: Api, namespace: str) -> None:
    name = "test-service"
    path = core(namespace, "services", name)
    body = {
        "metadata": {"name": name, "labels": {"test-service-static": "true"}},
        "spec": {"type": "LoadBalancer", "loadBalancerClass": "example.com/mine", "ports": [http_port()]},
    }
    start = api.get(core(namespace, "services")).ok()["metadata"]["resourceVersion"]
    selected = "labelSelector=test-service-static%3Dtrue"
    with api.watch(f"{core(namespace, 'services')}?resourceVersion={start}&{selected}") as events:
        api.post(core(namespace, "services"), body).ok()
        until(events, "ADDED", name)
        assert api.get(f"{path}/status").ok()["status"] == {"loadBalancer": {}}
        balancer = {"loadBalancer": {"ingress": [{"ip": "203.0.113.1"}]}}
        patch = {"metadata": {"annotations": {"patchedstatus": "true"}}, "status": balancer}
        patched = api.patch(f"{path}/status", patch).ok()
        shown = [{"ip": "203.0.113.1", "ipMode": "VIP"}]
        assert patched["status"]["loadBalancer"]["ingress"] == shown
        assert until(events, "MODIFIED", name, "patchedstatus")["status"]["loadBalancer"]["ingress"] == shown
        mine = {
            "type": "StatusUpdate",
            "status": "True",
            "reason": "E2E",
            "message": "Set from e2e test",
            "lastTransitionTime": "2030-01-01T00:00:00Z",
        }
        updated = replace(api, f"{path}/status", lambda one: one["status"].update(conditions=[mine]))
        assert updated["status"]["conditions"] == [mine]
        assert until(events, "MODIFIED", name)["status"]["conditions"] == [mine]
        again = api.patch(path, {"metadata": {"labels": {"test-service": "patched"}}}, kind=STRATEGIC).ok()
        assert again["metadata"]["labels"]["test-service"] == "patched" and again["status"] == updated["status"]
        assert until(events, "MODIFIED", name)["metadata"]["labels"]["test-service"] == "patched"
        everywhere = api.get(f"/api/v1/services?{selected}").ok()["items"]
        assert [one["metadata"]["namespace"] for one in everywhere] == [namespace]
        api.delete(path).ok()
        until(events, "DELETED", name)


def http_port(**more: Any) -> dict[str, Any]:
    return {"name": "http", "protocol": "TCP", "port": 80, "targetPort": 80, **more}


@pytest.mark.behaviour("[sig-network] Services should delete a collection of services")
def test_service_collection(api: Api, namespace: str) -> None:
    path = core(namespace, "services")
    label = f"e2e-{uuid.uuid4().hex[:8]}"
    wanted = {"one": "deletecollection", "two": "deletecollection", "three": "kept"}
    for name, value in wanted.items():
        spec = {"type": "ClusterIP", "ports": [http_port()]}
        api.post(path, {"metadata": {"name": name, "labels": {label: value}}, "spec": spec}).ok()
    assert {one["metadata"]["name"] for one in api.get(path).ok()["items"]} == set(wanted)
    deleted = api.delete(f"{path}?labelSelector={label}%3Ddeletecollection").ok()
    assert {one["metadata"]["name"] for one in deleted["items"]} == {"one", "two"}
    assert [one["metadata"]["name"] for one in api.get(path).ok()["items"]] == ["three"]


@pytest.mark.behaviour("[sig-network] Services should find a service from listing all namespaces")
def test_all_services(api: Api) -> None:
    listed = api.get("/api/v1/services").ok()["items"]
    found = {(one["metadata"]["namespace"], one["metadata"]["name"]): one for one in listed}
    assert found["default", "kubernetes"]["spec"]["ports"][0]["port"] == 443
