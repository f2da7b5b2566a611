"""Names: what pods get from the cluster's resolver, with dig and the C library, over UDP and TCP."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from tests.cluster.conformance.network_pods import NODES, Net, client_pod
from tests.cluster.conformance.operations import replace
from tests.cluster.waiting import eventually

pytestmark = pytest.mark.cluster
_HOSTS = "import socket, sys; print(socket.getaddrinfo(sys.argv[1], None, socket.AF_INET)[0][4][0])"


def dig(net: Net, pod: str, *asked: str) -> dict[str, list[str]]:
    """Asks each question (`NAME TYPE`, or any arguments of dig) with the pod's search path; returns the data sorted."""
    script = "".join(f"echo '? {one}'; dig +search +noall +answer +time=2 +tries=2 {one}; " for one in asked)
    found: dict[str, list[str]] = {}
    for line in net.run(pod, script).splitlines():
        if line.startswith("? "):
            answers = found.setdefault(line[2:], [])
        elif line and not line.startswith(";"):
            answers.append(" ".join(line.split()[4:]))
    return {one: sorted(answers) for one, answers in found.items()}


def both_ways(names: Iterable[str]) -> list[str]:
    return [f"{way} {name}" for name in names for way in ("+notcp", "+tcp")]


def expect(net: Net, pod: str, wanted: dict[str, list[str]]) -> None:
    """The names (`NAME TYPE`) answer so, over UDP and TCP."""
    expected = {one: sorted(wanted[one.partition(" ")[2]]) for one in both_ways(wanted)}

    def same() -> bool:
        found = dig(net, pod, *expected)
        assert found == expected
        return True

    eventually(same)


def headless(net: Net, name: str, selector: dict[str, str]) -> None:
    net.service(name, selector, clusterIP="None", ports=[{"name": "http", "port": 80, "protocol": "TCP"}])


@pytest.fixture(scope="module")
def querier(net: Net) -> tuple[str, str]:
    """A pod with a host name and a subdomain of its own, and its address; the headless service is `dns-test`."""
    name = "dns-querier"
    headless(net, "dns-test", {"app": name})
    net.create(
        "pods", client_pod(name, {"app": name}, hostname="dns-querier-1", subdomain="dns-test", nodeName=NODES[1])
    )
    return name, net.wait_ready(name)[name]


@pytest.mark.behaviour("[sig-network] DNS should provide DNS for the cluster")
def test_cluster(net: Net) -> None:
    api = net.api.get("/api/v1/namespaces/default/services/kubernetes").ok()["spec"]["clusterIP"]
    for client in net.clients.values():
        own = net.addresses[client]
        names = {"kubernetes.default A": [api], "kubernetes.default.svc A": [api]}
        names["kubernetes.default.svc.cluster.local A"] = [api]
        names[f"{own.replace('.', '-')}.{net.namespace}.pod.cluster.local A"] = [own]
        names["_https._tcp.kubernetes.default.svc.cluster.local SRV"] = [
            "0 100 443 kubernetes.default.svc.cluster.local."
        ]
        names[f"-x {api}"] = ["kubernetes.default.svc.cluster.local."]
        expect(net, client, names)


@pytest.mark.behaviour("[sig-network] DNS should provide /etc/hosts entries for the cluster")
def test_hosts(net: Net, querier: tuple[str, str]) -> None:
    pod, address = querier
    full = f"dns-querier-1.dns-test.{net.namespace}.svc.cluster.local"
    assert f"{address}\t{full}\tdns-querier-1" in net.run(pod, "cat /etc/hosts")
    for name in (full, "dns-querier-1"):
        assert net.python(pod, _HOSTS, name).strip() == address


@pytest.mark.behaviour("[sig-network] DNS should provide DNS for services")
def test_services(net: Net, querier: tuple[str, str]) -> None:
    pod, address = querier
    regular = net.service("dns-regular", {"app": "dns-querier"})["spec"]["clusterIP"]
    space = f"{net.namespace}.svc.cluster.local"
    wanted = {
        f"dns-test.{net.namespace}.svc.cluster.local A": [address],
        f"dns-test.{net.namespace}.svc A": [address],
        f"dns-regular.{space} A": [regular],
        f"_http._tcp.dns-test.{net.namespace}.svc SRV": [f"0 100 80 dns-querier-1.dns-test.{space}."],
        f"_http._tcp.dns-regular.{net.namespace}.svc SRV": [f"0 100 80 dns-regular.{space}."],
        f"-x {regular}": [f"dns-regular.{space}."],
        f"-x {address}": [f"dns-querier-1.dns-test.{space}."],
        f"dns-regular.{space} AAAA": [],
        f"_nothing._tcp.dns-regular.{space} SRV": [],
    }
    for one in (pod, net.clients[NODES[0]]):
        expect(net, one, wanted)


@pytest.mark.behaviour("[sig-network] DNS should resolve DNS of partial qualified names for services [LinuxOnly]")
def test_partial_names(net: Net, querier: tuple[str, str]) -> None:
    pod, address = querier
    regular = net.service("dns-partial", {"app": "dns-querier"})["spec"]["clusterIP"]
    wanted = {}
    for service, found in (("dns-test", address), ("dns-partial", regular)):
        for suffix in ("", f".{net.namespace}", f".{net.namespace}.svc"):
            wanted[f"{service}{suffix} A"] = [found]
    space = f"{net.namespace}.svc.cluster.local"
    wanted[f"_http._tcp.dns-test.{net.namespace}.svc SRV"] = [f"0 100 80 dns-querier-1.dns-test.{space}."]
    wanted[f"_http._tcp.dns-partial.{net.namespace}.svc SRV"] = [f"0 100 80 dns-partial.{space}."]
    wanted[f"-x {regular}"] = [f"dns-partial.{space}."]
    expect(net, pod, wanted)


@pytest.mark.behaviour(
    "[sig-network] DNS should provide DNS for pods for Hostname",
    "[sig-network] DNS should provide DNS for pods for Subdomain",
)
def test_pod_names(net: Net) -> None:
    name = "dns-named"
    headless(net, "dns-sub", {"app": name})
    net.create(
        "pods", client_pod(name, {"app": name}, hostname="dns-querier-2", subdomain="dns-sub", nodeName=NODES[0])
    )
    address = net.wait_ready(name)[name]
    full = f"dns-querier-2.dns-sub.{net.namespace}.svc.cluster.local"
    for pod in (name, net.clients[NODES[1]]):
        expect(net, pod, {f"{full} A": [address], f"dns-sub.{net.namespace}.svc.cluster.local A": [address]})
    for one in (full, "dns-querier-2"):
        assert net.python(name, _HOSTS, one).strip() == address
    assert net.run(name, "hostname").strip() == "dns-querier-2"


@pytest.mark.behaviour("[sig-network] DNS should provide DNS for ExternalName services")
def test_external_names(net: Net) -> None:
    client = net.clients[NODES[0]]
    name, path = "dns-external", net.path("services", "dns-external")
    full = f"{name}.{net.namespace}.svc.cluster.local"
    net.service(name, None, type="ExternalName", externalName="foo.example.com", ports=[])
    expect(net, client, {f"{full} CNAME": ["foo.example.com."]})
    net.api.patch(path, {"spec": {"externalName": "bar.example.com"}}).ok()
    expect(net, client, {f"{full} CNAME": ["bar.example.com."]})
    ports = [{"port": 80, "name": "http", "protocol": "TCP"}]

    def change(one: Any) -> None:
        one["spec"].update(type="ClusterIP", ports=ports)
        one["spec"].pop("externalName")

    address = replace(net.api, path, change)["spec"]["clusterIP"]
    expect(net, client, {f"{full} A": [address]})
    # A name of the cluster itself is followed to its address.
    change_back = {"type": "ExternalName", "externalName": "kubernetes.default.svc.cluster.local"}
    net.api.patch(path, {"spec": change_back | {"clusterIP": None, "clusterIPs": None}}).ok()
    api = net.api.get("/api/v1/namespaces/default/services/kubernetes").ok()["spec"]["clusterIP"]
    expect(net, client, {f"{full} A": sorted(["kubernetes.default.svc.cluster.local.", api])})


@pytest.mark.behaviour("[sig-network] DNS should support configurable pod DNS nameservers")
def test_pod_dns_config(net: Net) -> None:
    config = {"nameservers": ["1.1.1.1"], "searches": ["resolv.conf.local"]}
    options = [{"name": "ndots", "value": "2"}, {"name": "edns0"}]
    pods = {
        "dns-none": {"dnsPolicy": "None", "dnsConfig": config},
        "dns-more": {"dnsConfig": {**config, "options": options}},
        "dns-host": {"dnsPolicy": "ClusterFirstWithHostNet", "hostNetwork": True},
        "dns-default": {"dnsPolicy": "Default"},
    }
    for name, spec in pods.items():
        net.create("pods", client_pod(name, nodeName=NODES[0], **spec))
    net.wait_ready(*pods)
    shown = {name: net.run(name, "cat /etc/resolv.conf").splitlines() for name in pods}
    cluster = f"search {net.namespace}.svc.cluster.local svc.cluster.local cluster.local"
    assert shown["dns-none"] == ["search resolv.conf.local", "nameserver 1.1.1.1"]
    assert shown["dns-more"][0].startswith(cluster) and shown["dns-more"][0].endswith(" resolv.conf.local")
    assert shown["dns-more"][1:] == ["nameserver 10.96.0.10", "nameserver 1.1.1.1", "options ndots:2 edns0"]
    assert shown["dns-host"][0].startswith(cluster) and "nameserver 10.96.0.10" in shown["dns-host"]
    assert not any("10.96.0.10" in line or "cluster.local" in line for line in shown["dns-default"])
    api = net.api.get("/api/v1/namespaces/default/services/kubernetes").ok()["spec"]["clusterIP"]
    expect(net, "dns-host", {"kubernetes.default A": [api]})
    net.remove("pods", *pods)


def test_headless_services_name_only_what_is_ready(net: Net) -> None:
    """Unless publishNotReadyAddresses says otherwise."""
    name = "dns-unready"
    body = client_pod(name, {"app": name}, nodeName=NODES[1])
    never = {"exec": {"command": ["false"]}, "periodSeconds": 1}
    body["spec"]["containers"][0]["readinessProbe"] = never
    net.create("pods", body)
    headless(net, name, {"app": name})
    client, full = net.clients[NODES[0]], f"{name}.{net.namespace}.svc.cluster.local"
    (endpoint,) = eventually(lambda: [each for one in net.slices(name) for each in one.get("endpoints") or ()])
    expect(net, client, {f"{full} A": []})
    assert "NXDOMAIN" in net.run(client, f"dig {full}")
    net.api.patch(net.path("services", name), {"spec": {"publishNotReadyAddresses": True}}).ok()
    (address,) = endpoint["addresses"]
    expect(net, client, {f"{full} A": [address], f"{address.replace('.', '-')}.{full} A": [address]})
    net.remove("pods", name)
