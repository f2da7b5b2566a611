"""Endpoints and EndpointSlices: made for the pods of services, mirrored, and written by hand; and what they lead to."""

from __future__ import annotations

from typing import Any

import pytest

from tests.cluster.conformance.conftest import Api
from tests.cluster.conformance.network_pods import NODES, SLICES, Net, server_pod
from tests.cluster.conformance.objects import core, pod
from tests.cluster.conformance.operations import replace
from tests.cluster.waiting import eventually

pytestmark = pytest.mark.cluster
MANAGED_BY = "endpointslice.kubernetes.io/managed-by"


def slices_of(api: Api, namespace: str, service: str) -> list[Any]:
    path = SLICES.format(namespace=namespace)
    return list(api.get(f"{path}?labelSelector=kubernetes.io%2Fservice-name%3D{service}").ok()["items"])


def service(api: Api, namespace: str, name: str, *ports: dict[str, Any], **spec: Any) -> None:
    body = {"metadata": {"name": name}, "spec": {"ports": list(ports), **spec}}
    api.post(core(namespace, "services"), body).ok()


@pytest.mark.behaviour(
    "[sig-network] EndpointSlice should create and delete EndpointSlices for a Service with a selector that matches "
    "no pods",
    "[sig-network] EndpointsController should create and delete Endpoints for a Service with a selector that matches "
    "no pods",
)
def test_no_pods(api: Api, namespace: str) -> None:
    name = "example-empty-selector"
    service(api, namespace, name, {"name": "example", "port": 80}, selector={"does-not-match-anything": "endpoints"})
    endpoints = core(namespace, "endpoints", name)
    found = eventually(lambda: api.get(endpoints).status == 200 and api.get(endpoints).ok())
    assert not found.get("subsets")
    (made,) = eventually(lambda: slices_of(api, namespace, name))
    assert made["metadata"]["labels"][MANAGED_BY] == "endpointslice-controller.k8s.io"
    assert not made["endpoints"] and made["metadata"]["ownerReferences"][0]["kind"] == "Service"
    api.delete(core(namespace, "services", name)).ok()
    eventually(lambda: api.get(endpoints).status == 404)
    eventually(lambda: not slices_of(api, namespace, name))


class Expected:
    """What a service's Endpoints and slices must hold: these pods, each with the ports given by name."""

    def __init__(
        self, api: Api, namespace: str, service: str, pods: list[Any], ports: dict[str, dict[str, int]]
    ) -> None:
        self.api, self.namespace, self.service = api, namespace, service
        self.pods = {one["status"]["podIP"]: one for one in pods}
        self.wanted = {(one["status"]["podIP"], *ports[one["metadata"]["name"]].items()) for one in pods}

    def hold(self) -> bool:
        found = slices_of(self.api, self.namespace, self.service)
        assert found
        in_slices = set()
        for one in found:
            for endpoint in one.get("endpoints") or ():
                (address,) = endpoint["addresses"]
                self._check_target(address, endpoint["targetRef"])
                in_slices.add((address, *((port["name"], port["port"]) for port in one["ports"])))
        assert in_slices == self.wanted
        reply = self.api.get(core(self.namespace, "endpoints", self.service))
        in_endpoints = set()
        for subset in reply.ok().get("subsets") or ():
            for address in [*(subset.get("addresses") or ()), *(subset.get("notReadyAddresses") or ())]:
                self._check_target(address["ip"], address["targetRef"])
                in_endpoints.add((address["ip"], *((port["name"], port["port"]) for port in subset["ports"])))
        assert in_endpoints == self.wanted
        return True

    def _check_target(self, address: str, target: Any) -> None:
        assert address in self.pods
        meta = self.pods[address]["metadata"]
        assert target == {"kind": "Pod", **{key: meta[key] for key in ("namespace", "name", "uid")}}


@pytest.mark.behaviour(
    "[sig-network] EndpointSlice should create Endpoints and EndpointSlices for Pods matching a Service",
    "[sig-network] EndpointsController should create Endpoints for Pods matching a Service",
)
def test_matching_pods(api: Api, namespace: str) -> None:
    for name, ports in {"pod1": {"example-name": 3000}, "pod2": {"example-name": 3001, "other-port": 3002}}.items():
        body = pod(name, labels={name: "on", "shared12": "on"})
        listed = [{"name": one, "containerPort": number} for one, number in ports.items()]
        body["spec"]["containers"][0]["ports"] = listed
        api.post(core(namespace, "pods"), body).ok()
    common = {"publishNotReadyAddresses": True}
    service(
        api,
        namespace,
        "int-port",
        {"name": "example", "port": 80, "targetPort": 3000},
        selector={"pod1": "on"},
        **common,
    )
    named = {"name": "http", "port": 80, "targetPort": "example-name"}
    service(api, namespace, "named-port", named, selector={"shared12": "on"}, **common)
    nowhere = {"name": "example-no-match", "port": 80, "targetPort": 8080}
    service(api, namespace, "no-match", nowhere, selector={"pod3": "on"}, **common)

    def with_address(name: str) -> Any:
        found = api.get(core(namespace, "pods", name)).ok()
        return found if (found.get("status") or {}).get("podIPs") else None

    one, two = (eventually(lambda name=name: with_address(name)) for name in ("pod1", "pod2"))  # type: ignore[misc]
    eventually(Expected(api, namespace, "int-port", [one], {"pod1": {"example": 3000}}).hold)
    both = Expected(api, namespace, "named-port", [one, two], {"pod1": {"http": 3000}, "pod2": {"http": 3001}})
    eventually(both.hold)
    assert len(slices_of(api, namespace, "named-port")) == 2
    eventually(Expected(api, namespace, "no-match", [], {}).hold)
    (empty,) = slices_of(api, namespace, "no-match")
    assert not empty.get("ports")
    for made in slices_of(api, namespace, "named-port"):
        api.delete(SLICES.format(namespace=namespace) + "/" + made["metadata"]["name"]).ok()
    eventually(both.hold)
    # Endpoints that somebody takes away come back, too.
    api.delete(core(namespace, "endpoints", "named-port")).ok()
    eventually(lambda: api.get(core(namespace, "endpoints", "named-port")).status == 200)
    eventually(both.hold)
    # A pod that goes takes its endpoint with it; one that a service does not serve any more, too.
    api.delete(core(namespace, "pods", "pod1")).ok()
    eventually(Expected(api, namespace, "named-port", [two], {"pod2": {"http": 3001}}).hold)
    api.patch(core(namespace, "pods", "pod2"), {"metadata": {"labels": {"shared12": "off"}}}).ok()
    eventually(Expected(api, namespace, "named-port", [], {}).hold)


@pytest.mark.behaviour(
    "[sig-network] EndpointSliceMirroring should mirror a custom Endpoints resource through create update and delete"
)
def test_mirroring(api: Api, namespace: str) -> None:
    name = "example-custom-endpoints"
    service(api, namespace, name, {"name": "example", "port": 80, "protocol": "TCP"})
    subset = {"ports": [{"port": 80}], "addresses": [{"ip": "10.1.2.3"}]}
    endpoints = {"metadata": {"name": name, "labels": {"own": "label"}}, "subsets": [subset]}
    api.post(core(namespace, "endpoints"), endpoints).ok()

    def mirrored(*addresses: str) -> bool:
        found = slices_of(api, namespace, name)
        assert len(found) == 1, found
        one = found[0]
        assert [port["port"] for port in one["ports"]] == [80]
        assert [each["addresses"] for each in one["endpoints"]] == [[address] for address in addresses]
        labels = one["metadata"]["labels"]
        assert labels[MANAGED_BY] == "endpointslicemirroring-controller.k8s.io" and labels["own"] == "label"
        assert one["metadata"]["ownerReferences"][0]["kind"] == "Endpoints"
        return True

    eventually(lambda: mirrored("10.1.2.3"))
    path = core(namespace, "endpoints", name)
    replace(api, path, lambda one: one["subsets"][0].update(addresses=[{"ip": "10.2.3.4"}]))
    eventually(lambda: mirrored("10.2.3.4"))
    api.delete(path).ok()
    eventually(lambda: slices_of(api, namespace, name) == [])


# ---------------------------------------------------------------- by hand, with traffic


def manual_slice(net: Net, name: str, service: str, endpoints: list[str], **ports: int) -> None:
    body = {
        "metadata": {"name": name, "labels": {"kubernetes.io/service-name": service, MANAGED_BY: "e2e-test"}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": [address]} for address in endpoints],
        "ports": [{"name": key, "port": port, "protocol": "TCP"} for key, port in ports.items()],
    }
    net.api.post(SLICES.format(namespace=net.namespace), body).ok()


@pytest.mark.behaviour(
    "[sig-network] EndpointSlice should support a Service with multiple ports specified in multiple EndpointSlices"
)
def test_ports_in_several_slices(net: Net) -> None:
    ports = [{"name": name, "port": port, "protocol": "TCP"} for name, port in (("http", 80), ("alt", 81))]
    made = net.service("split-ports", None, ports=ports)
    address = net.addresses["web-0"]
    manual_slice(net, "split-ports-1", "split-ports", [address], http=80)
    manual_slice(net, "split-ports-2", "split-ports", [address], alt=8080)
    hosts = (made["spec"]["clusterIP"], f"split-ports.{net.namespace}")
    urls = [f"http://{host}:{port}/" for host in hosts for port in (80, 81)]
    for client in net.clients.values():
        eventually(lambda: net.reached(client, urls, {"web-0"}, times=3))  # noqa: B023
    # Through the API server as well, though no pod is named in these slices.
    for port in (80, 81):
        assert net.api.get(f"{net.path('services', f'split-ports:{port}')}/proxy/").ok() == b"web-0"


@pytest.mark.behaviour(
    "[sig-network] EndpointSlice should support a Service with multiple endpoint IPs specified in multiple "
    "EndpointSlices"
)
def test_addresses_in_several_slices(net: Net) -> None:
    made = net.service("split-addresses", None)
    manual_slice(net, "split-addresses-1", "split-addresses", [net.addresses["web-0"]], http=80)
    manual_slice(net, "split-addresses-2", "split-addresses", [net.addresses["web-1"]], http=8080)
    for client in net.clients.values():
        url = f"http://{made['spec']['clusterIP']}/"
        eventually(lambda: net.reached(client, url, {"web-0", "web-1"}, times=20))  # noqa: B023


def test_mirrored_endpoints_take_traffic(net: Net) -> None:
    """One pod's two ports in two subsets, as upstream's test of several subsets with the same address."""
    ports = [{"name": name, "port": port, "protocol": "TCP"} for name, port in (("port80", 80), ("port81", 81))]
    made = net.service("mirrored", None, ports=ports)
    address = {"ip": net.addresses["web-1"]}
    subsets = [
        {"ports": [{"name": "port80", "port": 80}], "addresses": [address]},
        {"ports": [{"name": "port81", "port": 8080}], "addresses": [address]},
    ]
    net.create("endpoints", {"metadata": {"name": "mirrored"}, "subsets": subsets})
    urls = [f"http://{made['spec']['clusterIP']}:{port}/" for port in (80, 81)]
    eventually(lambda: net.reached(net.clients[NODES[0]], urls, {"web-1"}, times=3))
    net.remove("endpoints", "mirrored")
    eventually(lambda: not net.slices("mirrored"))
    url = f"http://{made['spec']['clusterIP']}/"
    eventually(lambda: net.reached(net.clients[NODES[0]], url, {"failed 7"}, times=1))


def test_terminating_endpoints_serve_until_the_last(net: Net) -> None:
    """KEP-1669: while no other is ready, pods that end but still serve take traffic."""
    serves = {"http": {"80": None}, "stay": True}
    for number in range(2):
        body = server_pod(f"ending-{number}", {"app": "ending"}, serves, nodeName=NODES[number])
        body["spec"]["terminationGracePeriodSeconds"] = 600
        net.create("pods", body)
    made = net.service("ending", {"app": "ending"})
    net.wait_ready("ending-0", "ending-1")
    client, url = net.clients[NODES[0]], f"http://{made['spec']['clusterIP']}/"
    eventually(lambda: net.reached(client, url, {"ending-0", "ending-1"}))
    net.api.delete(net.path("pods", "ending-0")).ok()
    eventually(lambda: net.reached(client, url, {"ending-1"}))
    (found,) = net.slices("ending")
    shown = {each["targetRef"]["name"]: each["conditions"] for each in found["endpoints"]}
    assert shown["ending-0"] == {"ready": False, "serving": True, "terminating": True}
    net.api.delete(net.path("pods", "ending-1")).ok()
    eventually(lambda: net.reached(client, url, {"ending-0", "ending-1"}))
    net.remove("pods", "ending-0", "ending-1")
    eventually(lambda: net.reached(client, url, {"failed 7"}, times=1))
