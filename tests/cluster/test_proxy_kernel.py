"""The proxy's rules in a real kernel: packets through nftables between namespaces, with real sockets."""

import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from proa.proxy.plan import NodeFacts, Share, service_share
from proa.proxy.ruleset import Ruleset
from tests.support.lab import Lab
from tests.unit.test_proxy_plan import endpoint, service, slice_of

pytestmark = pytest.mark.cluster


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


def load(lab: Lab, *shares: Share) -> Ruleset:
    rules = Ruleset({"ip": "10.244.0.0/16"})
    lab.apply([*rules.start(), *rules.replace({f"s{n}": share for n, share in enumerate(shares)})])
    return rules


def share(slices: Any = BOTH, **spec: Any) -> Share:
    return service_share(service(**spec), slices, NODE)


def test_connections_spread_over_endpoints_with_their_source(lab: Lab) -> None:
    load(lab, share())
    answers = lab.ask("a", "10.96.1.1", 80, 40)
    assert {one.split()[0] for one in answers} == {"10.244.0.5", "10.244.1.5"}
    assert "10.244.1.5 10.244.0.5" in answers  # not masqueraded


def test_a_pod_reaches_itself(lab: Lab) -> None:
    load(lab, share([slice_of(endpoint("10.244.0.5"))]))
    assert lab.ask("a", "10.96.1.1", 80) == ["10.244.0.5 10.244.0.1"]


def test_the_node_itself_reaches_services(lab: Lab) -> None:
    load(lab, share([slice_of(endpoint("10.244.0.5"))]))
    assert lab.ask("node", "10.96.1.1", 80)[0].startswith("10.244.0.5 ")


def test_no_endpoints_refuse_at_once(lab: Lab) -> None:
    load(lab, share([]))
    assert lab.ask("a", "10.96.1.1", 80) == ["ConnectionRefusedError"]
    assert lab.ask("node", "10.96.1.1", 80) == ["ConnectionRefusedError"]


def test_node_port_masquerades_and_policy_local_does_not(lab: Lab) -> None:
    ports = [{"port": 80, "protocol": "TCP", "nodePort": 30080}]
    load(lab, share([slice_of(endpoint("10.244.0.5"))], type="NodePort", ports=ports))
    assert lab.ask("out", "10.213.0.2", 30080) == ["10.244.0.5 10.244.0.1"]
    load(lab, share(type="NodePort", ports=ports, externalTrafficPolicy="Local"))
    assert set(lab.ask("out", "10.213.0.2", 30080, 20)) == {"10.244.0.5 10.213.0.1"}
    assert {one.split()[0] for one in lab.ask("a", "10.213.0.2", 30080, 40)} == {"10.244.0.5", "10.244.1.5"}
    away = [slice_of(endpoint("10.244.1.5", "node-2"))]
    load(lab, share(away, type="NodePort", ports=ports, externalTrafficPolicy="Local"))
    assert lab.ask("out", "10.213.0.2", 30080, 1, 0.3) == ["TimeoutError"]


def test_client_affinity_holds_and_survives_new_endpoints(lab: Lab) -> None:
    one = [slice_of(endpoint("10.244.0.5"))]
    rules = load(lab, share(one, sessionAffinity="ClientIP"))
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
        load(lab, one)
        assert lab.ask("out", "10.213.0.128", 80, 1, 0.3) == [answer]


def test_changes_apply_one_after_another(lab: Lab) -> None:
    """Every kind of change is a transaction that the kernel accepts, and the end is as if it had been loaded anew."""
    rules = load(lab)
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
