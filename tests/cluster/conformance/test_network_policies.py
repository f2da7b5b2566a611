"""Network policies with real traffic: who reaches whom, on two nodes, over TCP and UDP, as upstream's matrix asks it.

Three namespaces with two pods each, on different nodes. Every pod asks every other at once (`/probe`), and is itself
asked to through the API server, which policies do not concern.
"""

from __future__ import annotations

import ipaddress
import uuid
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

from tests.cluster.conformance.network_pods import NODES, Net, install_program, server_pod
from tests.cluster.conformance.objects import core, is_ready
from tests.cluster.waiting import eventually

pytestmark = pytest.mark.cluster
SPACES, PODS = ("x", "y", "z"), ("a", "b")
PORTS = (("tcp", 80), ("tcp", 81), ("udp", 80))
EVERYONE = tuple(f"{space}/{pod}" for space in SPACES for pod in PODS)
# from, to, protocol, port
Try = tuple[str, str, str, int]
Allowed = Callable[[str, str, str, int], bool]


class Matrix:
    """The pods, by `space/pod`, and what reaches what."""

    def __init__(self, net: Net) -> None:
        self.net, self.api = net, net.api
        self.mark = uuid.uuid4().hex[:6]
        self.addresses: dict[str, str] = {}

    def space(self, short: str) -> str:
        return f"np-{short}-{self.mark}"

    def path(self, who: str) -> str:
        space, _, pod = who.partition("/")
        return core(self.space(space), "pods", pod)

    def start(self) -> None:
        for short in SPACES:
            body = {"metadata": {"name": self.space(short), "labels": {"ns": short}}}
            self.api.post("/api/v1/namespaces", body).ok()
        for short in SPACES:
            account = core(self.space(short), "serviceaccounts", "default")
            eventually(lambda: self.api.get(account).status == 200)  # noqa: B023
            install_program(self.api, self.space(short))
            for number, pod in enumerate(PODS):
                self.create(f"{short}/{pod}", NODES[(number + SPACES.index(short)) % 2])
        for who in EVERYONE:
            self.addresses[who] = eventually(lambda who=who: self._ready(who), 90, who)  # type: ignore[misc]

    def create(self, who: str, node: str, **labels: str) -> None:
        serves = {"http": {"80": None, "81": None}, "udp": [80]}
        named = [("serve-80-tcp", 80, "TCP"), ("serve-81-tcp", 81, "TCP"), ("serve-80-udp", 80, "UDP")]
        ports = [{"name": name, "containerPort": port, "protocol": protocol} for name, port, protocol in named]
        space, _, pod = who.partition("/")
        body = server_pod(pod, {"pod": pod, **labels}, serves, ports, nodeName=node, hostname=f"{space}-{pod}")
        self.api.post(core(self.space(space), "pods"), body).ok()

    def _ready(self, who: str) -> str:
        found = self.api.get(self.path(who)).ok()
        return found["status"]["podIP"] if is_ready(found) else ""

    def reached(self) -> set[Try]:
        """Returns all that succeeds; what a pod says to itself never leaves it, and is left out."""
        with ThreadPoolExecutor(len(EVERYONE)) as pool:
            return set().union(*pool.map(self._reached_from, EVERYONE))

    def _reached_from(self, who: str) -> set[Try]:
        named = {
            f"{protocol}:{self.addresses[to]}:{port}": (who, to, protocol, port)
            for to in EVERYONE
            if to != who
            for protocol, port in PORTS
        }
        query = "&".join(f"to={target}" for target in named)
        told = self.api.get(f"{self.path(who)}:80/proxy/probe?{query}").ok()
        return {named[target] for target, name in told.items() if name == named[target][1].replace("/", "-")}

    def expect(self, allowed: Allowed) -> None:
        wanted = {
            (one, to, protocol, port)
            for one in EVERYONE
            for to in EVERYONE
            if one != to
            for protocol, port in PORTS
            if allowed(one, to, protocol, port)
        }

        def same() -> bool:
            found = self.reached()
            assert not (more := found - wanted), f"reached, but must not be: {sorted(more)}"
            assert not (less := wanted - found), f"not reached: {sorted(less)}"
            return True

        eventually(same)

    @contextmanager
    def policies(self, *specs: dict[str, Any], space: str = "x") -> Iterator[None]:
        """Has these policies in a namespace for a while."""
        path = f"/apis/networking.k8s.io/v1/namespaces/{self.space(space)}/networkpolicies"
        for number, spec in enumerate(specs):
            self.api.post(path, {"metadata": {"name": f"p{number}"}, "spec": spec}).ok()
        try:
            yield
        finally:
            self.api.delete(path).ok()


@pytest.fixture(scope="module")
def matrix(net: Net) -> Iterator[Matrix]:
    made = Matrix(net)
    made.start()
    yield made
    for short in SPACES:
        net.api.delete(f"/api/v1/namespaces/{made.space(short)}")


def select(**labels: str) -> dict[str, Any]:
    return {"matchLabels": labels}


def into_a(rules: list[Any] | None) -> dict[str, Any]:
    """A policy for ingress of x/a."""
    return {"podSelector": select(pod="a"), "policyTypes": ["Ingress"], **({} if rules is None else {"ingress": rules})}


def out_of_a(rules: list[Any]) -> dict[str, Any]:
    return {"podSelector": select(pod="a"), "policyTypes": ["Egress"], "egress": rules}


def only_from(*sources: str, ports: Iterable[tuple[str, int]] = PORTS) -> Allowed:
    """Everything, but into x/a only from these, on these ports."""
    return lambda one, to, protocol, port: to != "x/a" or (one in sources and (protocol, port) in tuple(ports))


def only_to(*targets: str, ports: Iterable[tuple[str, int]] = PORTS) -> Allowed:
    return lambda one, to, protocol, port: one != "x/a" or (to in targets and (protocol, port) in tuple(ports))


SPACE_Y = {"namespaceSelector": select(ns="y")}
POD_B = {"podSelector": select(pod="b")}
Y_AND_Z = {"matchExpressions": [{"key": "ns", "operator": "NotIn", "values": ["x"]}]}
TCP_80 = [{"port": 80, "protocol": "TCP"}]
# name -> policies of namespace x, and what they allow
CASES: dict[str, tuple[list[dict[str, Any]], Allowed]] = {
    "deny all ingress of a namespace": (
        [{"podSelector": {}, "policyTypes": ["Ingress"]}],
        lambda one, to, *_: not to.startswith("x/"),
    ),
    "deny all egress of a namespace": (
        [{"podSelector": {}, "policyTypes": ["Egress"]}],
        lambda one, to, *_: not one.startswith("x/"),
    ),
    "deny both, allow all": (
        [
            {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]},
            {"podSelector": {}, "policyTypes": ["Ingress", "Egress"], "ingress": [{}], "egress": [{}]},
        ],
        lambda *_: True,
    ),
    "an empty selector of pods is the own namespace": ([into_a([{"from": [{"podSelector": {}}]}])], only_from("x/b")),
    "a namespace": ([into_a([{"from": [SPACE_Y]}])], only_from("y/a", "y/b")),
    "a pod in the own namespace": ([into_a([{"from": [POD_B]}])], only_from("x/b")),
    "pods or namespaces": ([into_a([{"from": [POD_B, SPACE_Y]}])], only_from("x/b", "y/a", "y/b")),
    "pods and namespaces": ([into_a([{"from": [{**POD_B, **SPACE_Y}]}])], only_from("y/b")),
    "namespaces by expression": (
        [into_a([{"from": [{"namespaceSelector": Y_AND_Z, **POD_B}]}])],
        only_from("y/b", "z/b"),
    ),
    "every namespace": ([into_a([{"from": [{"namespaceSelector": {}}]}])], lambda *_: True),
    "a port": ([into_a([{"ports": TCP_80}])], only_from(*EVERYONE, ports=[("tcp", 80)])),
    "a port from a namespace": (
        [into_a([{"from": [SPACE_Y], "ports": TCP_80}])],
        only_from("y/a", "y/b", ports=[("tcp", 80)]),
    ),
    "rules of several ports stack": (
        [into_a([{"ports": TCP_80}]), into_a([{"from": [SPACE_Y], "ports": [{"port": 81}]}])],
        lambda one, to, protocol, port: (
            to != "x/a" or (protocol, port) == ("tcp", 80) or ((protocol, port) == ("tcp", 81) and one.startswith("y/"))
        ),
    ),
    "named ports": (
        [into_a([{"ports": [{"port": "serve-81-tcp"}]}])],
        only_from(*EVERYONE, ports=[("tcp", 81)]),
    ),
    "a range of ports": (
        [into_a([{"ports": [{"port": 81, "endPort": 90, "protocol": "TCP"}]}])],
        only_from(*EVERYONE, ports=[("tcp", 81)]),
    ),
    "UDP alone": ([into_a([{"ports": [{"protocol": "UDP"}]}])], only_from(*EVERYONE, ports=[("udp", 80)])),
    "egress to a port of a namespace": (
        [out_of_a([{"to": [SPACE_Y], "ports": TCP_80}])],
        only_to("y/a", "y/b", ports=[("tcp", 80)]),
    ),
    "egress to a named port": (
        [out_of_a([{"to": [{"namespaceSelector": {}}], "ports": [{"port": "serve-80-udp", "protocol": "UDP"}]}])],
        only_to(*EVERYONE, ports=[("udp", 80)]),
    ),
    "egress allowed while ingress is not": (
        [into_a(None), out_of_a([{}])],
        only_from(),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_matrix(matrix: Matrix, case: str) -> None:
    policies, allowed = CASES[case]
    with matrix.policies(*policies):
        matrix.expect(allowed)


def test_blocks(matrix: Matrix) -> None:
    """A block of addresses, with exceptions, in both directions."""
    mine = ipaddress.ip_network(matrix.addresses["y/a"] + "/24", strict=False)
    inside = {who for who, address in matrix.addresses.items() if ipaddress.ip_address(address) in mine}
    hole = f"{matrix.addresses['y/a']}/32"
    for cidr, excepted, allowed in (
        (str(mine), [], inside),
        ("10.244.0.0/16", [hole], set(EVERYONE) - {"y/a"}),
        (hole, [], {"y/a"}),
        ("0.0.0.0/0", [str(mine)], set(EVERYONE) - inside),
    ):
        block = {"ipBlock": {"cidr": cidr, **({"except": excepted} if excepted else {})}}
        with matrix.policies(into_a([{"from": [block]}])):
            matrix.expect(only_from(*allowed))
        with matrix.policies(out_of_a([{"to": [block]}])):
            matrix.expect(only_to(*allowed))


def test_changes_of_labels_and_policies(matrix: Matrix) -> None:
    """Selectors follow the labels of pods and namespaces; a changed policy is the one that counts."""
    space = f"/api/v1/namespaces/{matrix.space('z')}"
    with matrix.policies(
        into_a([{"from": [{"namespaceSelector": select(ns="new")}, {"podSelector": select(pod="new")}]}])
    ):
        matrix.expect(only_from())
        matrix.api.patch(space, {"metadata": {"labels": {"ns": "new"}}}).ok()
        matrix.expect(only_from("z/a", "z/b"))
        matrix.api.patch(space, {"metadata": {"labels": {"ns": "z"}}}).ok()
        matrix.api.patch(matrix.path("x/b"), {"metadata": {"labels": {"pod": "new"}}}).ok()
        matrix.expect(only_from("x/b"))
        matrix.api.patch(matrix.path("x/b"), {"metadata": {"labels": {"pod": "b"}}}).ok()
        path = f"/apis/networking.k8s.io/v1/namespaces/{matrix.space('x')}/networkpolicies/p0"
        matrix.api.patch(path, {"spec": {"ingress": [{"from": [SPACE_Y]}]}}).ok()
        matrix.expect(only_from("y/a", "y/b"))
    matrix.expect(lambda *_: True)


def test_a_pod_reaches_itself_through_its_service(matrix: Matrix) -> None:
    """Nothing isolates a pod from itself, and its node reaches it; services are seen through."""
    service = core(matrix.space("x"), "services")
    made = matrix.api.post(
        service, {"metadata": {"name": "own"}, "spec": {"selector": {"pod": "a"}, "ports": [{"port": 80}]}}
    ).ok()
    target = f"tcp:{made['spec']['clusterIP']}:80"

    def through(who: str) -> str:
        return str(matrix.api.get(f"{matrix.path(who)}:80/proxy/probe?to={target}").ok()[target])

    eventually(lambda: through("x/a") == "x-a" and through("x/b") == "x-a")
    with matrix.policies({"podSelector": select(pod="a"), "policyTypes": ["Ingress", "Egress"]}):
        matrix.expect(lambda one, to, *_: "x/a" not in (one, to))
        assert through("x/a") == "x-a"
        assert through("x/b") == "TimeoutError"
        assert is_ready(matrix.api.get(matrix.path("x/a")).ok())
    matrix.api.delete(f"{service}/own").ok()


def test_pods_are_isolated_before_they_start(matrix: Matrix) -> None:
    """A pod that a policy denies everything sends no packet out, from its first instant on."""
    at = matrix.addresses["y/a"]
    program = (
        "import socket\n"
        "found = []\n"
        "for _ in range(40):\n"
        "    with socket.socket() as one:\n"
        "        one.settimeout(0.05)\n"
        f"        found.append(one.connect_ex(('{at}', 80)))\n"
        "print('reached' if 0 in found else 'isolated')\n"
    )
    with matrix.policies({"podSelector": {}, "policyTypes": ["Egress"]}):
        matrix.expect(lambda one, *_: not one.startswith("x/"))
        names = [f"early-{number}" for number in range(4)]
        for number, name in enumerate(names):
            body = server_pod(name, {"early": "yes"}, ready=0, nodeName=NODES[number % 2], restartPolicy="Never")
            body["spec"]["containers"][0]["command"] = ["python3", "-c", program]
            matrix.api.post(core(matrix.space("x"), "pods"), body).ok()
        for name in names:
            path = core(matrix.space("x"), "pods", name)
            eventually(lambda: matrix.api.get(path).ok()["status"]["phase"] == "Succeeded")  # noqa: B023
            assert matrix.api.get(f"{path}/log").body == b"isolated\n", name
