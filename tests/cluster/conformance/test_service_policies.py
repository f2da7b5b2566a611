"""Which endpoints serve whom: traffic policies, health of nodes, source ranges, external addresses; flows of UDP."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.cluster.conformance.network_pods import NODES, WEB, Net
from tests.cluster.conformance.test_services import REFUSED, SILENT, WEBS, http_port
from tests.cluster.waiting import eventually

pytestmark = pytest.mark.cluster
LOCAL = {NODES[0]: {"web-0", "web-2"}, NODES[1]: {"web-1"}}
SOURCE_PORT = 40123


def test_internal_traffic_stays_on_the_node(net: Net) -> None:
    spec = net.service("internal", WEB, internalTrafficPolicy="Local")["spec"]
    url = f"http://{spec['clusterIP']}/"
    for node, client in net.clients.items():
        eventually(lambda: net.reached(client, url, LOCAL[node]))  # noqa: B023
    eventually(lambda: net.reached(net.host_client, url, LOCAL[NODES[0]]))
    path = net.path("services", "internal")
    net.api.patch(path, {"spec": {"selector": {"app": "web", "name": "web-1"}}}).ok()
    eventually(lambda: net.reached(net.clients[NODES[1]], url, {"web-1"}, 3))
    eventually(lambda: net.reached(net.clients[NODES[0]], url, {SILENT}, 1))
    net.api.patch(path, {"spec": {"internalTrafficPolicy": "Cluster"}}).ok()
    eventually(lambda: net.reached(net.clients[NODES[0]], url, {"web-1"}, 3))


def test_external_traffic_stays_on_the_node(net: Net) -> None:
    """externalTrafficPolicy Local: no detour, no other source address; health checks tell balancers where to go."""
    name = "external-local"
    spec = net.service(
        name,
        WEB | {"name": "web-1"},
        type="LoadBalancer",
        externalTrafficPolicy="Local",
        ports=[http_port()],
    )["spec"]
    health, port = spec["healthCheckNodePort"], spec["ports"][0]["nodePort"]
    first, second = net.node_addresses()

    def healthy(address: str, count: int) -> bool:
        answer = net.from_host(address, health)
        assert answer.startswith("{"), answer
        assert json.loads(answer) == {
            "service": {"namespace": net.namespace, "name": name},
            "localEndpoints": count,
            "serviceProxyHealthy": True,
        }
        return True

    eventually(lambda: healthy(second, 1))
    eventually(lambda: healthy(first, 0))
    eventually(lambda: net.from_host(second, port) == "web-1")
    own = net.from_host(second, port, "/clientip")
    assert own == first.rpartition(".")[0] + ".1"  # the machine's own address on the nodes' segment
    assert net.from_host(first, port) == "TimeoutError"
    # Pods, and nodes by their own addresses, take every endpoint all the same.
    for client in (net.clients[NODES[0]], net.host_client):
        eventually(lambda: net.reached(client, f"http://{first}:{port}/", {"web-1"}, 3))  # noqa: B023
    balancer = eventually(lambda: balancer_address(net, name))
    eventually(lambda: net.from_host(balancer, 80) == "web-1")
    assert net.from_host(balancer, 80, "/clientip") == own
    eventually(lambda: net.reached(net.clients[NODES[0]], f"http://{balancer}/", {"web-1"}, 3))
    # Back to Cluster: every node serves, and nothing answers health checks.
    changed = net.api.patch(net.path("services", name), {"spec": {"externalTrafficPolicy": "Cluster"}}).ok()
    assert "healthCheckNodePort" not in changed["spec"]
    eventually(lambda: net.from_host(first, port) == "web-1")
    assert net.from_host(first, port, "/clientip") != own
    eventually(lambda: net.from_host(second, health) == "ConnectionRefusedError")
    net.remove("services", name)
    eventually(lambda: net.from_host(first, port) == "ConnectionRefusedError")


def balancer_address(net: Net, name: str) -> str:
    status = net.api.get(net.path("services", name)).ok()["status"]
    ingress = (status.get("loadBalancer") or {}).get("ingress") or []
    return str(ingress[0]["ip"]) if ingress else ""


def test_source_ranges(net: Net) -> None:
    name = "ranges"
    spec: dict[str, Any] = {
        "type": "LoadBalancer",
        "loadBalancerSourceRanges": ["192.0.2.0/24"],
        "ports": [http_port()],
    }
    net.service(name, WEB, **spec)
    address = eventually(lambda: balancer_address(net, name))
    client = net.clients[NODES[0]]
    eventually(lambda: net.reached(client, f"http://{name}/", WEBS))
    assert net.from_host(address, 80) == "TimeoutError"
    host = net.node_address(NODES[0]).rpartition(".")[0] + ".1"
    net.api.patch(net.path("services", name), {"spec": {"loadBalancerSourceRanges": [f"{host}/32"]}}).ok()
    eventually(lambda: net.from_host(address, 80) in WEBS)
    net.api.patch(net.path("services", name), {"spec": {"loadBalancerSourceRanges": None}}).ok()
    eventually(lambda: net.reached(client, f"http://{address}/", WEBS))


def test_external_addresses(net: Net) -> None:
    net.service("outside", WEB, externalIPs=["198.51.77.7"], ports=[http_port(port=8443)])
    for client in net.clients.values():
        eventually(lambda: net.reached(client, "http://198.51.77.7:8443/", WEBS))  # noqa: B023


@pytest.mark.parametrize("kind", ["ClusterIP", "NodePort"])
def test_udp_flows_follow_their_service(net: Net, kind: str) -> None:
    """A client that keeps its port gets the server that the service has now: none, one, another, none again."""
    name = f"flows-{kind.lower()}"
    listed = [{"name": "udp", "port": 80, "protocol": "UDP"}]
    spec = net.service(name, {"app": "nobody"}, type=kind, ports=listed)["spec"]
    path = net.path("services", name)
    host, port = (spec["clusterIP"], 80)
    if kind == "NodePort":
        host, port = net.node_address(NODES[1]), spec["ports"][0]["nodePort"]
    for node, client in net.clients.items():
        source = SOURCE_PORT + NODES.index(node)

        def answer(client: str = client, source: int = source) -> str:
            return net.ask_udp(client, host, port, source=source)[0]

        def serve(server: str) -> None:
            net.api.patch(path, {"spec": {"selector": {"app": "web", "name": server}}}).ok()

        serve("nobody")
        eventually(lambda: answer() == "ConnectionRefusedError")
        for server in ("web-0", "web-1"):
            serve(server)
            eventually(lambda: answer() == server)  # noqa: B023
    serve("nobody")
    eventually(lambda: answer() == "ConnectionRefusedError")


def test_what_is_gone_refuses(net: Net) -> None:
    """A service that loses its servers refuses at once, on every way in; when it goes, its node port does, too."""
    spec = net.service("lost", WEB, type="NodePort", ports=[http_port()])["spec"]
    port, client = spec["ports"][0]["nodePort"], net.clients[NODES[0]]
    urls = [f"http://{spec['clusterIP']}/", *(f"http://{one}:{port}/" for one in net.node_addresses())]
    eventually(lambda: net.reached(client, urls, WEBS))
    net.api.patch(net.path("services", "lost"), {"spec": {"selector": {"app": "nobody"}}}).ok()
    eventually(lambda: net.reached(client, urls, {REFUSED}, 1))
    eventually(lambda: net.reached(net.host_client, urls, {REFUSED}, 1))
    assert net.from_host(net.node_addresses()[1], port) == "ConnectionRefusedError"
