"""Network policies in a real kernel: who reaches whom, with real packets."""

import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from proa.meta.objects import Obj
from proa.network import policy
from tests.support.lab import Lab

pytestmark = pytest.mark.cluster

A, B, OUT = "10.244.0.5", "10.244.1.5", "10.213.0.1"
WEB = {"name": "web", "containerPort": 8080}
NAMESPACES = {"one": {"team": "red"}, "two": {"team": "blue"}}


def pod(name: str, namespace: str, address: str) -> Obj:
    return {
        "metadata": {"name": name, "namespace": namespace, "labels": {"app": name}},
        "spec": {
            "nodeName": "node-1",
            "containers": [{"name": "c", "ports": [{"name": "web", "containerPort": 8080}]}],
        },
        "status": {"phase": "Running", "podIPs": [{"ip": address}]},
    }


PODS = [pod("a", "one", A), pod("b", "two", B)]


def rule(**spec: Any) -> Obj:
    return {
        "metadata": {"name": "p", "namespace": "one"},
        "spec": {"podSelector": {"matchLabels": {"app": "a"}}, **spec},
    }


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    lab = Lab(f"t{uuid.uuid4().hex[:6]}")
    try:
        for place, address in (("a", A), ("b", B)):
            for port in (8080, 8081):
                lab.serve(place, address, port)
        lab.serve("out", OUT, 8080)
        yield lab
    finally:
        lab.close()


def reaches(lab: Lab, place: str, address: str, port: int = 8080) -> bool:
    return lab.ask(place, address, port, 1, 0.3) != ["TimeoutError"]


FROM_B = {
    "from": [{"namespaceSelector": {"matchLabels": {"team": "blue"}}, "podSelector": {"matchLabels": {"app": "b"}}}]
}
# policy -> which of these pass: b to a:8080, b to a:8081, out to a:8080, a to b:8080, a to out:8080
CASES: list[tuple[str, list[Obj], str]] = [
    ("none", [], "yyyyy"),
    ("deny ingress", [rule()], "nnnyy"),
    ("deny egress", [rule(policyTypes=["Egress"])], "yyynn"),
    ("deny both", [rule(policyTypes=["Ingress", "Egress"])], "nnnnn"),
    ("allow all ingress", [rule(ingress=[{}])], "yyyyy"),
    ("a pod in a namespace", [rule(ingress=[FROM_B])], "yynyy"),
    ("own namespace only", [rule(ingress=[{"from": [{"podSelector": {}}]}])], "nnnyy"),
    ("a port", [rule(ingress=[{"ports": [{"port": 8080}]}])], "ynyyy"),
    ("a named port", [rule(ingress=[{"ports": [{"port": "web"}]}])], "ynyyy"),
    ("a range", [rule(ingress=[{"ports": [{"port": 8080, "endPort": 8090}, {"port": 8085}]}])], "yyyyy"),
    ("another protocol", [rule(ingress=[{"ports": [{"protocol": "UDP"}]}])], "nnnyy"),
    ("a block", [rule(ingress=[{"from": [{"ipBlock": {"cidr": "10.213.0.0/16"}}]}])], "nnyyy"),
    (
        "a block with a hole",
        [rule(ingress=[{"from": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.213.0.0/16"]}}]}])],
        "yynyy",
    ),
    (
        "the union of two",
        [rule(ingress=[FROM_B]), {**rule(ingress=[{"from": [{"ipBlock": {"cidr": f"{OUT}/32"}}]}])}],
        "yyyyy",
    ),
    ("egress to a pod", [rule(policyTypes=["Egress"], egress=[{"to": [{"namespaceSelector": {}}]}])], "yyyyn"),
    (
        "egress to a named port",
        [rule(policyTypes=["Egress"], egress=[{"to": [{"namespaceSelector": {}}], "ports": [{"port": "web"}]}])],
        "yyyyn",
    ),
]


@pytest.mark.parametrize(("policies", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_who_reaches_whom(lab: Lab, policies: list[Obj], expected: str) -> None:
    for number, one in enumerate(policies):
        one["metadata"] = {**one["metadata"], "name": f"p{number}"}
    world = policy.World(pods=PODS, namespaces=NAMESPACES, policies=policies)
    lab.apply(policy.table(world, "node-1", "ip"))
    tries = (("b", A, 8080), ("b", A, 8081), ("out", A, 8080), ("a", B, 8080), ("a", OUT, 8080))
    assert "".join("y" if reaches(lab, *one) else "n" for one in tries) == expected


def test_pods_of_other_nodes_and_of_the_node_itself_need_no_rules() -> None:
    away = {**PODS[0], "spec": {**PODS[0]["spec"], "nodeName": "node-2"}}
    host = {**PODS[0], "spec": {**PODS[0]["spec"], "hostNetwork": True}}
    for one in (away, host):
        world = policy.World(pods=[one], namespaces=NAMESPACES, policies=[rule()])
        assert policy.table(world, "node-1", "ip") == ["add table ip proa-policy", "delete table ip proa-policy"]
