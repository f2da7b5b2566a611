"""Services as pods, nodes and the machine outside see them: real packets, changed types, sessions and ports."""

from __future__ import annotations

import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.cluster.conformance.conftest import Api
from tests.cluster.conformance.network_pods import NODES, WEB, Net, client_pod, server_pod
from tests.cluster.conformance.objects import core
from tests.cluster.conformance.operations import replace
from tests.cluster.conformance.test_network_objects import service_range
from tests.cluster.waiting import eventually

pytestmark = pytest.mark.cluster
WEBS = {"web-0", "web-1", "web-2"}
AFFINE = "ClientIP"
REFUSED, SILENT = "failed 7", "failed 28"


def http_port(**more: Any) -> dict[str, Any]:
    return {"name": "http", "port": 80, "targetPort": 80, "protocol": "TCP", **more}


def reachable(net: Net, name: str, names: set[str] = WEBS, times: int = 15) -> None:
    """A service answers to a pod on each node: by name, by address, and on every node's port if it has one."""
    spec = net.api.get(net.path("services", name)).ok()["spec"]
    port = spec["ports"][0]
    urls = [f"http://{name}:{port['port']}/", f"http://{spec['clusterIP']}:{port['port']}/"]
    if port.get("nodePort"):
        urls += [f"http://{address}:{port['nodePort']}/" for address in net.node_addresses()]
    for client in net.clients.values():
        eventually(lambda: net.reached(client, urls, names, times))  # noqa: B023


# ---------------------------------------------------------------- endpoints


@pytest.mark.behaviour("[sig-network] Services should serve a basic endpoint from pods")
def test_basic_endpoints(net: Net) -> None:
    name, labels = "basic", {"app": "basic"}
    net.service(name, labels)
    client = net.clients[NODES[0]]
    eventually(lambda: len(net.slices(name)) == 1)
    assert net.serving(name) == {}
    eventually(lambda: net.reached(client, f"http://{name}/", {REFUSED}, times=1))
    addresses: dict[str, str] = {}
    for number in range(2):
        pod = f"basic-{number}"
        net.create("pods", server_pod(pod, labels, nodeName=NODES[number]))
        addresses |= net.wait_ready(pod)
        eventually(lambda: net.serving(name) == {80: set(addresses.values())})  # noqa: B023
        reachable(net, name, set(addresses))
    net.remove("pods", "basic-0")
    del addresses["basic-0"]
    eventually(lambda: net.serving(name) == {80: set(addresses.values())})
    reachable(net, name, {"basic-1"}, 5)
    net.remove("pods", "basic-1")
    eventually(lambda: net.serving(name) == {})
    eventually(lambda: net.reached(client, f"http://{name}/", {REFUSED}, times=1))


@pytest.mark.behaviour("[sig-network] Services should serve multiport endpoints from pods")
def test_several_ports(net: Net) -> None:
    name, labels = "multi", {"app": "multi"}
    ports = {"portname1": (80, "first", 100), "portname2": (81, "second", 101)}
    listed = [{"name": one, "port": port, "targetPort": target} for one, (port, target, _) in ports.items()]
    net.service(name, labels, ports=listed)
    eventually(lambda: len(net.slices(name)) == 1)
    assert net.serving(name) == {}
    client, wanted = net.clients[NODES[1]], {}
    pods = {"multi-1": ("first", 100), "multi-2": ("second", 101)}
    for pod, (target, number) in pods.items():
        serves = {"http": {str(number): None}}
        net.create("pods", server_pod(pod, labels, serves, [{"name": target, "containerPort": number}], ready=number))
        wanted[number] = set(net.wait_ready(pod).values())
        eventually(lambda: net.serving(name) == wanted)
    for port, pod in ((80, "multi-1"), (81, "multi-2")):
        eventually(lambda: net.reached(client, f"http://{name}:{port}/", {pod}, times=5))  # noqa: B023
    for pod, (_, number) in pods.items():
        net.remove("pods", pod)
        del wanted[number]
        eventually(lambda: net.serving(name) == wanted)
    eventually(lambda: net.reached(client, f"http://{name}:81/", {REFUSED}, times=1))


@pytest.mark.behaviour("[sig-network] Services should serve endpoints on same port and different protocols")
def test_one_port_of_two_protocols(net: Net) -> None:
    name = "protocols"
    tcp, udp = ({"name": one.lower(), "port": 80, "protocol": one} for one in ("TCP", "UDP"))
    made = net.service(name, WEB, type="NodePort", ports=[tcp, udp])
    assert len({port["nodePort"] for port in made["spec"]["ports"]}) == 1
    address, client = made["spec"]["clusterIP"], net.clients[NODES[0]]

    def over_udp(names: set[str]) -> bool:
        found = set(net.ask_udp(client, address, 80, 15 if names == WEBS else 1))
        assert found == names
        return True

    def check(over_tcp: set[str], wanted_udp: set[str]) -> None:
        times = 15 if over_tcp == WEBS else 1
        eventually(lambda: net.reached(client, f"http://{address}/", over_tcp, times))
        eventually(lambda: over_udp(wanted_udp))

    check(WEBS, WEBS)
    path = net.path("services", name)
    for ports, over_tcp, wanted_udp in (([tcp], WEBS, None), ([udp], None, WEBS), ([tcp, udp], WEBS, WEBS)):
        replace(net.api, path, lambda one: one["spec"].update(ports=ports))  # noqa: B023
        # A service address refuses nothing that it does not know; it is nobody's, so nothing answers.
        check(over_tcp or {SILENT}, wanted_udp or {"TimeoutError"})


# ---------------------------------------------------------------- types


@pytest.mark.behaviour("[sig-network] Services should be able to create a functioning NodePort service")
def test_node_port(net: Net) -> None:
    name = "node-port"
    made = net.service(name, WEB, type="NodePort", ports=[http_port()])
    reachable(net, name)
    port = made["spec"]["ports"][0]["nodePort"]
    urls = [f"http://{address}:{port}/" for address in net.node_addresses()]
    eventually(lambda: net.reached(net.host_client, urls, WEBS))
    for address in net.node_addresses():
        assert net.from_host(address, port) in WEBS


@pytest.mark.behaviour("[sig-network] Services should be able to change the type from ExternalName to ClusterIP")
def test_external_name_to_cluster_ip(net: Net) -> None:
    name = external(net)

    def change(one: Any) -> None:
        one["spec"].pop("externalName")
        one["spec"].update(type="ClusterIP", ports=[http_port()], selector=WEB)

    spec = replace(net.api, net.path("services", name), change)["spec"]
    assert spec["clusterIP"] not in ("", "None") and spec["clusterIPs"] == [spec["clusterIP"]]
    assert "externalName" not in spec
    reachable(net, name)


@pytest.mark.behaviour("[sig-network] Services should be able to change the type from ExternalName to NodePort")
def test_external_name_to_node_port(net: Net) -> None:
    name = external(net)

    def change(one: Any) -> None:
        one["spec"].pop("externalName")
        one["spec"].update(type="NodePort", ports=[http_port()], selector=WEB)

    spec = replace(net.api, net.path("services", name), change)["spec"]
    assert spec["clusterIP"] not in ("", "None") and 30000 <= spec["ports"][0]["nodePort"] <= 32767
    reachable(net, name)


def external(net: Net) -> str:
    name = f"external-{uuid.uuid4().hex[:6]}"
    made = net.service(name, None, type="ExternalName", externalName="foo.example.com", ports=[])
    assert not made["spec"].get("clusterIP") and not made["spec"].get("clusterIPs")
    return name


@pytest.mark.behaviour("[sig-network] Services should be able to change the type from ClusterIP to ExternalName")
def test_cluster_ip_to_external_name(net: Net) -> None:
    to_external_name(net, "ClusterIP")


@pytest.mark.behaviour("[sig-network] Services should be able to change the type from NodePort to ExternalName")
def test_node_port_to_external_name(net: Net) -> None:
    to_external_name(net, "NodePort")


def to_external_name(net: Net, kind: str) -> None:
    name, target = f"was-{kind.lower()}", f"target-of-{kind.lower()}"
    full = f"{target}.{net.namespace}.svc.cluster.local"
    there = net.service(target, WEB)["spec"]["clusterIP"]
    before = net.service(name, WEB, type=kind, ports=[http_port()])["spec"]
    reachable(net, name)

    def change(one: Any) -> None:
        one["spec"].update(type="ExternalName", externalName=full)

    spec = replace(net.api, net.path("services", name), change)["spec"]
    assert not spec.get("clusterIP") and not spec.get("clusterIPs") and "nodePort" not in spec["ports"][0]
    client = net.clients[NODES[0]]
    eventually(lambda: net.run(client, f"dig +search +short {name}").split() == [f"{full}.", there])
    found = net.run(client, f"nslookup {name}.{net.namespace}.svc.cluster.local")
    assert there in found and full in found, found
    # The old address and port lead nowhere, and are free for others.
    eventually(lambda: net.reached(client, f"http://{before['clusterIP']}/", {SILENT}, times=1))
    net.api.get(f"/apis/networking.k8s.io/v1/ipaddresses/{before['clusterIP']}").failed(404)
    again = {"type": kind, "clusterIP": before["clusterIP"]}
    if kind == "NodePort":
        url = f"http://{net.node_addresses()[0]}:{before['ports'][0]['nodePort']}/"
        eventually(lambda: net.reached(client, url, {REFUSED}, times=1))
    listed = [http_port(**({"nodePort": before["ports"][0]["nodePort"]} if kind == "NodePort" else {}))]
    net.service(f"{name}-again", WEB, ports=listed, **again)
    reachable(net, f"{name}-again")


def test_other_ranges(net: Net) -> None:
    """A service with an address of a range that was added later; the range stays for as long as the service."""
    cidr, path = "198.51.99.0/24", "/apis/networking.k8s.io/v1/servicecidrs"
    label = f"e2e-{uuid.uuid4().hex[:8]}"
    name = service_range(net.api, cidr, label)
    made = net.service("other-range", WEB, type="NodePort", clusterIP="198.51.99.77", ports=[http_port()])
    assert made["spec"]["clusterIP"] == "198.51.99.77"
    reachable(net, "other-range")
    eventually(lambda: net.reached(net.host_client, "http://198.51.99.77/", WEBS))
    net.api.delete(f"{path}/{name}").ok()
    condition = net.api.get(f"{path}/{name}").ok()
    assert condition["metadata"]["deletionTimestamp"]
    net.remove("services", "other-range")
    eventually(lambda: net.api.get(f"{path}/{name}").status == 404)
    assert net.api.post(net.path("services"), made | {"metadata": {"name": "too-late"}}).status == 422


# ---------------------------------------------------------------- sessions


def check_sessions(net: Net, name: str, url: str, *, affine: bool) -> None:
    """All of a client's connections reach one server, or, without affinity, several."""
    client = net.clients[NODES[0]]

    def settled() -> bool:
        found = net.fetch(client, url, times=16)
        assert (len(set(found)) == 1) is affine and set(found) <= WEBS, found
        return True

    eventually(settled, what=f"{name}: affinity {affine}")


def urls_of(net: Net, spec: Any) -> list[str]:
    if spec["type"] == "NodePort":
        return [f"http://{net.node_addresses()[1]}:{spec['ports'][0]['nodePort']}/"]
    return [f"http://{spec['clusterIP']}:80/"]


@pytest.mark.behaviour(
    "[sig-network] Services should have session affinity work for service with type clusterIP [LinuxOnly]"
)
def test_sessions(net: Net) -> None:
    keeps_sessions(net, "sessions", "ClusterIP")


@pytest.mark.behaviour("[sig-network] Services should have session affinity work for NodePort service [LinuxOnly]")
def test_node_port_sessions(net: Net) -> None:
    keeps_sessions(net, "node-port-sessions", "NodePort")


def keeps_sessions(net: Net, name: str, kind: str) -> None:
    spec = net.service(name, WEB, type=kind, ports=[http_port()], sessionAffinity=AFFINE)["spec"]
    assert spec["sessionAffinityConfig"] == {"clientIP": {"timeoutSeconds": 10800}}
    for url in urls_of(net, spec):
        check_sessions(net, name, url, affine=True)
    # A client has one server, whichever of the service's addresses it asks.
    client = net.clients[NODES[0]]
    asked = [f"http://{name}/", f"http://{spec['clusterIP']}/"]
    if kind == "NodePort":
        asked.append(f"http://{net.node_address(NODES[0])}:{spec['ports'][0]['nodePort']}/")
    answers = net.fetch_each(client, asked, times=8)
    assert len({one for found in answers.values() for one in found}) == 1


@pytest.mark.behaviour(
    "[sig-network] Services should be able to switch session affinity for service with type clusterIP [LinuxOnly]"
)
def test_switching_sessions(net: Net) -> None:
    switches_sessions(net, "switched", "ClusterIP")


@pytest.mark.behaviour(
    "[sig-network] Services should be able to switch session affinity for NodePort service [LinuxOnly]"
)
def test_switching_node_port_sessions(net: Net) -> None:
    switches_sessions(net, "switched-node-port", "NodePort")


def switches_sessions(net: Net, name: str, kind: str) -> None:
    spec = net.service(name, WEB, type=kind, ports=[http_port()], sessionAffinity=AFFINE)["spec"]
    (url,) = urls_of(net, spec)
    path = net.path("services", name)
    check_sessions(net, name, url, affine=True)
    changed = net.api.patch(path, {"spec": {"sessionAffinity": "None"}}).ok()
    assert "sessionAffinityConfig" not in changed["spec"]
    check_sessions(net, name, url, affine=False)
    net.api.patch(path, {"spec": {"sessionAffinity": AFFINE}}).ok()
    check_sessions(net, name, url, affine=True)


def test_sessions_end_after_their_time(net: Net) -> None:
    config = {"clientIP": {"timeoutSeconds": 1}}
    spec = net.service("short-sessions", WEB, sessionAffinity=AFFINE, sessionAffinityConfig=config)["spec"]
    client, url = net.clients[NODES[0]], f"http://{spec['clusterIP']}/"
    check_sessions(net, "short-sessions", url, affine=True)
    # Two seconds between connections: each is a new session, and sooner or later another server's.
    script = f"""
        first=$(curl -gs -m 2 {url})
        for i in $(seq 20); do sleep 2; next=$(curl -gs -m 2 {url}); [ "$next" = "$first" ] || break; done
        echo $first $next
    """
    first, then = net.run(client, script).split()
    assert {first, then} <= WEBS and first != then


# ---------------------------------------------------------------- host ports


@pytest.mark.behaviour(
    "[sig-network] HostPort validates that there is no conflict between pods with same hostPort but different hostIP "
    "and protocol [LinuxOnly]"
)
def test_host_ports(net: Net) -> None:
    address = net.node_address(NODES[0])
    port, pods = (
        54323,
        {"host-port-1": ("127.0.0.1", "TCP"), "host-port-2": (address, "TCP"), "host-port-3": (address, "UDP")},
    )
    serves = {"http": {"8080": None}, "udp": [8080]}
    for name, (host, protocol) in pods.items():
        listed = [{"hostPort": port, "containerPort": 8080, "protocol": protocol, "hostIP": host}]
        net.create("pods", server_pod(name, {"app": name}, serves, listed, ready=8080, nodeName=NODES[0]))
    net.wait_ready(*pods)
    host_client = net.host_client

    def reached() -> bool:
        local = net.fetch(host_client, f"http://127.0.0.1:{port}/hostname", options=f"--interface {address}")
        assert local == ["host-port-1"]
        assert net.fetch(host_client, f"http://{address}:{port}/hostname") == ["host-port-2"]
        assert net.ask_udp(host_client, address, port) == ["host-port-3"]
        client = net.clients[NODES[1]]
        assert net.fetch(client, f"http://{address}:{port}/hostname") == ["host-port-2"]
        assert net.ask_udp(client, address, port) == ["host-port-3"]
        return True

    eventually(reached)
    # The scheduler sees the difference, and the clash.
    body = server_pod("host-port-4", {"app": "clash"}, serves, [{"hostPort": port, "containerPort": 8080}], ready=0)
    body["spec"]["nodeSelector"] = {"kubernetes.io/hostname": NODES[0]}
    net.create("pods", body)

    def refused() -> bool:
        found = net.api.get(net.path("pods", "host-port-4")).ok()
        listed = [one for one in (found.get("status") or {}).get("conditions") or () if one["type"] == "PodScheduled"]
        return bool(listed) and "didn't have free ports" in listed[0].get("message", "")

    eventually(refused)
    net.remove("pods", *pods, "host-port-4")


# ---------------------------------------------------------------- latency


@pytest.mark.behaviour("[sig-network] Service endpoints latency should not be very high")
def test_latency(api: Api, net: Net) -> None:
    """From the creation of a service to its endpoints, a hundred times."""
    name = f"latency-{uuid.uuid4().hex[:6]}"
    path = core(net.namespace, "endpoints")
    start = api.get(path).ok()["metadata"]["resourceVersion"]
    began: dict[str, float] = {}
    took: dict[str, float] = {}
    with api.watch(f"{path}?resourceVersion={start}", seconds_max=60) as events:

        def begin(one: str) -> None:
            began[one] = time.monotonic()
            spec = {"selector": WEB, "ports": [http_port()]}
            body = {"metadata": {"name": one, "labels": {"for": name}}, "spec": spec}
            net.create("services", body)

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(begin, [f"{name}-{number}" for number in range(100)]))
        for event in events:
            found = event["object"]
            if found["metadata"]["name"] in began and found.get("subsets"):
                took.setdefault(found["metadata"]["name"], time.monotonic() - began[found["metadata"]["name"]])
                if len(took) == len(began):
                    break
    ordered = sorted(took.values())
    assert len(ordered) == 100
    assert ordered[49] < 20 and ordered[89] < 50 and ordered[98] < 50
    api.delete(f"{core(net.namespace, 'services')}?labelSelector=for%3D{name}").ok()


def test_pods_that_come_later(net: Net) -> None:
    """A client pod, too, is reached by what it serves; a pod reaches itself through its service (hairpin)."""
    body = server_pod("alone", {"app": "alone"}, nodeName=NODES[0])
    body["spec"]["containers"] += client_pod("x")["spec"]["containers"][:1]
    body["spec"]["containers"][1]["name"] = "tools"
    net.create("pods", body)
    spec = net.service("alone", {"app": "alone"}, type="NodePort", ports=[http_port()])["spec"]
    net.wait_ready("alone")
    urls = [f"http://{spec['clusterIP']}/", f"http://{net.node_addresses()[0]}:{spec['ports'][0]['nodePort']}/"]
    for url in urls:
        command = ["-n", net.namespace, "exec", "alone", "-c", "tools", "--", "curl", "-gs", "-m", "2", url]
        eventually(lambda: net.cluster.run(*command, check=False).stdout == "alone")  # noqa: B023
