"""The proxy's rules in a real kernel: packets through nftables between namespaces, with real sockets."""

import subprocess
import sys
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from proa.proxy.plan import NodeFacts, Share, service_share
from proa.proxy.ruleset import Ruleset
from tests.unit.test_proxy_plan import endpoint, service, slice_of

pytestmark = pytest.mark.cluster

ANSWER = """
import socket, sys
server = socket.socket(); server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
server.bind((sys.argv[1], int(sys.argv[2]))); server.listen(64); print("ready", flush=True)
while True:
    peer, address = server.accept(); peer.sendall(f"{sys.argv[1]} {address[0]}".encode()); peer.close()
"""
ASK = """
import socket, sys
for _ in range(int(sys.argv[3])):
    try:
        with socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=float(sys.argv[4])) as s:
            print(s.recv(100).decode())
    except OSError as error:
        print(type(error).__name__)
"""


class Lab:
    """A router namespace (the node) with two pods and one outsider."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.servers: list[subprocess.Popen[str]] = []
        self.places = {"node": f"{name}-n", "a": f"{name}-a", "b": f"{name}-b", "out": f"{name}-o"}
        addresses = {"a": ("10.244.0.1/24", "10.244.0.5/24"), "b": ("10.244.1.1/24", "10.244.1.5/24")}
        addresses["out"] = ("10.213.0.2/24", "10.213.0.1/24")
        lines = [f"netns add {place}" for place in self.places.values()]
        node = self.places["node"]
        lines += [
            f"link add v{one} netns {node} type veth peer name eth0 netns {self.places[one]}" for one in addresses
        ]
        self.ip("", lines)
        for one, (gateway, address) in addresses.items():
            self.ip("node", [f"addr add {gateway} dev v{one}", f"link set v{one} up"])
            route = f"route add default via {gateway.partition('/')[0]}"
            self.ip(one, ["link set lo up", f"addr add {address} dev eth0", "link set eth0 up", route])
        self.ip("node", ["link set lo up", "route add 10.96.0.0/16 dev vout src 10.213.0.2"])
        self.run("node", "sh", "-c", "echo 1 >/proc/sys/net/ipv4/ip_forward")

    def ip(self, place: str, lines: list[str]) -> None:
        within = ["-n", self.places[place]] if place else []
        subprocess.run(["ip", *within, "-batch", "-"], input="\n".join(lines) + "\n", text=True, check=True)

    def run(self, place: str, *command: str, text: str = "") -> str:
        inside = ["nsenter", f"--net=/run/netns/{self.places[place]}", "--", *command]
        done = subprocess.run(inside, input=text, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def serve(self, place: str, address: str, port: int) -> None:
        inside = ["nsenter", f"--net=/run/netns/{self.places[place]}", "--", sys.executable, "-c", ANSWER]
        process = subprocess.Popen([*inside, address, str(port)], stdout=subprocess.PIPE, text=True)
        assert process.stdout and process.stdout.readline() == "ready\n"
        self.servers.append(process)

    def ask(self, place: str, address: str, port: int, times: int = 1, seconds: float = 2.0) -> list[str]:
        command = [sys.executable, "-c", ASK, address, str(port), str(times), str(seconds)]
        return self.run(place, *command).splitlines()

    def load(self, *shares: Share) -> Ruleset:
        rules = Ruleset({"ip": "10.244.0.0/16"})
        lines = [*rules.start(), *rules.replace({f"s{n}": share for n, share in enumerate(shares)})]
        self.apply(lines)
        return rules

    def apply(self, lines: list[str]) -> None:
        self.run("node", "nft", "-f", "-", text="\n".join(lines) + "\n")

    def close(self) -> None:
        for process in self.servers:
            process.kill()
            process.wait()
        for place in self.places.values():
            subprocess.run(["ip", "netns", "delete", place], check=False)


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    lab = Lab(f"t{uuid.uuid4().hex[:6]}")
    try:
        lab.serve("a", "10.244.0.5", 8080)
        lab.serve("b", "10.244.1.5", 8080)
        yield lab
    finally:
        lab.close()


NODE = NodeFacts(name="node-1", addresses=("10.213.0.2",))
BOTH = [slice_of(endpoint("10.244.0.5"), endpoint("10.244.1.5", "node-2"))]


def share(slices: Any = BOTH, **spec: Any) -> Share:
    return service_share(service(**spec), slices, NODE)


def test_connections_spread_over_endpoints_with_their_source(lab: Lab) -> None:
    lab.load(share())
    answers = lab.ask("a", "10.96.1.1", 80, 40)
    assert {one.split()[0] for one in answers} == {"10.244.0.5", "10.244.1.5"}
    assert "10.244.1.5 10.244.0.5" in answers  # not masqueraded


def test_a_pod_reaches_itself(lab: Lab) -> None:
    lab.load(share([slice_of(endpoint("10.244.0.5"))]))
    assert lab.ask("a", "10.96.1.1", 80) == ["10.244.0.5 10.244.0.1"]


def test_the_node_itself_reaches_services(lab: Lab) -> None:
    lab.load(share([slice_of(endpoint("10.244.0.5"))]))
    assert lab.ask("node", "10.96.1.1", 80)[0].startswith("10.244.0.5 ")


def test_no_endpoints_refuse_at_once(lab: Lab) -> None:
    lab.load(share([]))
    assert lab.ask("a", "10.96.1.1", 80) == ["ConnectionRefusedError"]
    assert lab.ask("node", "10.96.1.1", 80) == ["ConnectionRefusedError"]


def test_node_port_masquerades_and_policy_local_does_not(lab: Lab) -> None:
    ports = [{"port": 80, "protocol": "TCP", "nodePort": 30080}]
    lab.load(share([slice_of(endpoint("10.244.0.5"))], type="NodePort", ports=ports))
    assert lab.ask("out", "10.213.0.2", 30080) == ["10.244.0.5 10.244.0.1"]
    lab.load(share(type="NodePort", ports=ports, externalTrafficPolicy="Local"))
    assert set(lab.ask("out", "10.213.0.2", 30080, 20)) == {"10.244.0.5 10.213.0.1"}
    assert {one.split()[0] for one in lab.ask("a", "10.213.0.2", 30080, 40)} == {"10.244.0.5", "10.244.1.5"}
    away = [slice_of(endpoint("10.244.1.5", "node-2"))]
    lab.load(share(away, type="NodePort", ports=ports, externalTrafficPolicy="Local"))
    assert lab.ask("out", "10.213.0.2", 30080, 1, 0.3) == ["TimeoutError"]


def test_client_affinity_holds_and_survives_new_endpoints(lab: Lab) -> None:
    one = [slice_of(endpoint("10.244.0.5"))]
    rules = lab.load(share(one, sessionAffinity="ClientIP"))
    assert {each.split()[0] for each in lab.ask("a", "10.96.1.1", 80, 5)} == {"10.244.0.5"}
    lab.apply(rules.replace({"s0": share(sessionAffinity="ClientIP")}))
    assert {each.split()[0] for each in lab.ask("a", "10.96.1.1", 80, 20)} == {"10.244.0.5"}
    lab.apply(rules.replace({"s0": share([slice_of(endpoint("10.244.1.5", "node-2"))], sessionAffinity="ClientIP")}))
    assert {each.split()[0] for each in lab.ask("a", "10.96.1.1", 80, 5)} == {"10.244.1.5"}
    lab.apply(rules.replace({"s0": None}))
    assert "aff-" not in lab.run("node", "nft", "list", "ruleset")


def test_source_ranges(lab: Lab) -> None:
    balancer = {"loadBalancer": {"ingress": [{"ip": "10.213.0.128"}]}}
    lab.ip("out", ["route replace 10.213.0.128/32 via 10.213.0.2"])
    for ranges, answer in ((["192.0.2.0/24"], "TimeoutError"), (["10.213.0.0/24"], "10.244.0.5 10.244.0.1")):
        one = share(
            [slice_of(endpoint("10.244.0.5"))], type="LoadBalancer", status=balancer, loadBalancerSourceRanges=ranges
        )
        lab.load(one)
        assert lab.ask("out", "10.213.0.128", 80, 1, 0.3) == [answer]


def test_changes_apply_one_after_another(lab: Lab) -> None:
    """Every kind of change is a transaction that the kernel accepts, and the end is as if it had been loaded anew."""
    rules = lab.load()
    ports = [{"port": 80, "protocol": "TCP", "nodePort": 30080}]
    variants = [
        share(),
        share([]),
        share(type="NodePort", ports=ports),
        share(type="NodePort", ports=ports, externalTrafficPolicy="Local"),
        share(type="NodePort", ports=ports, sessionAffinity="ClientIP"),
        share(internalTrafficPolicy="Local"),
        share([slice_of(*(endpoint(f"10.244.0.{n}") for n in range(10, 40)))]),
    ]
    for one in [*variants, *reversed(variants)]:
        lab.apply(rules.replace({"s0": one}))
    lab.apply(rules.replace({"s0": None}))
    for name in ("frontends", "external", "refused", "slot-0"):
        assert "elements" not in lab.run("node", "nft", "list", "map", "ip", "proa", name)


def test_ten_thousand_services_load_quickly(lab: Lab) -> None:
    rules = Ruleset({"ip": "10.244.0.0/16"})
    lines = rules.start()
    many = {}
    for number in range(10_000):
        address = f"10.96.{number >> 8}.{number & 255}"
        many[f"s{number}"] = share(clusterIP=address, clusterIPs=[address])
    lab.apply([*lines, *rules.replace(many)])
    assert lab.run("node", "nft", "list", "map", "ip", "proa", "slot-1").count("8080") == 10_000
