"""The service `kubernetes`: how a cluster finds its own API server."""

from __future__ import annotations

import pytest

from tests.cluster.conformance.conftest import Api
from tests.cluster.conformance.objects import core

pytestmark = pytest.mark.cluster


@pytest.mark.behaviour("[sig-network] API Server should provide secure master service")
def test_service(api: Api) -> None:
    service = api.get(core("default", "services", "kubernetes")).ok()
    (port,) = service["spec"]["ports"]
    assert (port["name"], port["port"], port["protocol"]) == ("https", 443, "TCP")
    assert service["spec"]["type"] == "ClusterIP" and service["spec"]["clusterIP"] not in ("", "None")
    assert service["metadata"]["labels"] == {"component": "apiserver", "provider": "kubernetes"}


@pytest.mark.behaviour("[sig-network] API Server should have Endpoints and EndpointSlices pointing to API Server")
def test_endpoints(api: Api) -> None:
    service = api.get(core("default", "services", "kubernetes")).ok()
    (subset,) = api.get(core("default", "endpoints", "kubernetes")).ok()["subsets"]
    slices = api.get(
        "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices"
        "?labelSelector=kubernetes.io%2Fservice-name%3Dkubernetes"
    ).ok()["items"]
    assert slices
    addresses = {one for found in slices for endpoint in found["endpoints"] for one in endpoint["addresses"]}
    assert addresses == {one["ip"] for one in subset["addresses"]}
    assert all(endpoint["conditions"]["ready"] for found in slices for endpoint in found["endpoints"])
    assert len(subset["ports"]) == len(service["spec"]["ports"]) == 1
    named = {(one["name"], one["port"]) for one in subset["ports"]}
    assert named == {(one["name"], one["port"]) for found in slices for one in found["ports"]}
    assert {one["name"] for one in subset["ports"]} == {"https"}
