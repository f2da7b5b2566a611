"""Which endpoints a service's addresses lead to, by policy, readiness and hints; and how rule sets change."""

from typing import Any

from proa.meta.objects import Obj
from proa.proxy.plan import EMPTY, NodeFacts, Share, service_share
from proa.proxy.ruleset import Ruleset

NODE = NodeFacts(name="node-1", addresses=("10.213.0.2",), zone="a", own_addresses=frozenset({"10.96.0.10"}))


def service(**spec: Any) -> Obj:
    status = spec.pop("status", {})
    base = {"clusterIP": "10.96.1.1", "clusterIPs": ["10.96.1.1"], "ports": [{"port": 80, "protocol": "TCP"}]}
    return {"metadata": {"name": "web", "namespace": "default"}, "spec": {**base, **spec}, "status": status}


def slice_of(*endpoints: Obj, port: int = 8080, name: str = "", protocol: str = "TCP") -> Obj:
    return {
        "metadata": {"name": "web-x", "namespace": "default", "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv4",
        "ports": [{"name": name, "port": port, "protocol": protocol}],
        "endpoints": list(endpoints),
    }


def endpoint(address: str, node: str = "node-1", **more: Any) -> Obj:
    return {"addresses": [address], "nodeName": node, "conditions": {"ready": True}, **more}


def elements(share: Share, *maps: str) -> dict[tuple[str, str], str]:
    return {(name, key): value for (_, name, key), value in share.elements.items() if not maps or name in maps}


def test_a_cluster_address_leads_to_every_ready_endpoint() -> None:
    share = service_share(service(), [slice_of(endpoint("10.244.0.5"), endpoint("10.244.1.5", "node-2"))], NODE)
    assert elements(share) == {
        ("frontends", "10.96.1.1 . tcp . 80"): "goto svc-2",
        ("slot-0", "10.96.1.1 . tcp . 80"): "10.244.0.5 . 8080",
        ("slot-1", "10.96.1.1 . tcp . 80"): "10.244.1.5 . 8080",
        ("hairpin", "10.244.0.5 . 10.244.0.5"): "",
    }


def test_no_endpoints_are_refused() -> None:
    assert elements(service_share(service(), [], NODE)) == {("refused", "10.96.1.1 . tcp . 80"): "goto refuse"}


def test_terminating_endpoints_serve_only_when_none_is_ready() -> None:
    ending = {"conditions": {"ready": False, "serving": True, "terminating": True}}
    gone = {"conditions": {"ready": False, "serving": False, "terminating": True}}
    both = [endpoint("10.244.0.5", **ending), endpoint("10.244.0.6", **gone)]
    share = service_share(service(), [slice_of(*both)], NODE)
    assert elements(share, "slot-0", "slot-1") == {("slot-0", "10.96.1.1 . tcp . 80"): "10.244.0.5 . 8080"}
    share = service_share(service(), [slice_of(*both, endpoint("10.244.0.7"))], NODE)
    assert elements(share, "slot-0", "slot-1") == {("slot-0", "10.96.1.1 . tcp . 80"): "10.244.0.7 . 8080"}


def test_headless_external_name_and_foreign_services_are_left_alone() -> None:
    for one in (service(clusterIP="None"), service(type="ExternalName"), service(clusterIP="")):
        assert service_share(one, [slice_of(endpoint("10.244.0.5"))], NODE) == EMPTY
    foreign = service()
    foreign["metadata"]["labels"] = {"service.kubernetes.io/service-proxy-name": "other"}
    assert service_share(foreign, [], NODE) == EMPTY


def test_an_address_that_the_node_serves_itself_gets_no_rule() -> None:
    share = service_share(service(clusterIP="10.96.0.10", clusterIPs=["10.96.0.10"]), [], NODE)
    assert share.elements == {}


def test_node_ports_and_balancers_are_masqueraded() -> None:
    one = service(
        type="LoadBalancer",
        ports=[{"port": 80, "protocol": "TCP", "nodePort": 30080}],
        externalIPs=["203.0.113.9"],
        status={"loadBalancer": {"ingress": [{"ip": "10.213.0.128"}, {"ip": "10.213.0.129", "ipMode": "Proxy"}]}},
    )
    share = service_share(one, [slice_of(endpoint("10.244.0.5"))], NODE)
    assert elements(share, "frontends") == {
        ("frontends", "10.96.1.1 . tcp . 80"): "goto svc-1",
        ("frontends", "203.0.113.9 . tcp . 80"): "goto ext-1",
        ("frontends", "10.213.0.128 . tcp . 80"): "goto ext-1",
        ("frontends", "10.213.0.2 . tcp . 30080"): "goto ext-1",
    }


def test_external_policy_local_keeps_sources_and_stays_on_the_node() -> None:
    one = service(
        type="NodePort",
        externalTrafficPolicy="Local",
        healthCheckNodePort=32000,
        ports=[{"port": 80, "protocol": "TCP", "nodePort": 30080}],
    )
    here, away = endpoint("10.244.0.5"), endpoint("10.244.1.5", "node-2")
    share = service_share(one, [slice_of(here, away)], NODE)
    key = "10.213.0.2 . tcp . 30080"
    assert elements(share, "external", "local-0", "local-1") == {
        ("external", key): "goto loc-1",
        ("local-0", key): "10.244.0.5 . 8080",
    }
    assert elements(share)["frontends", key] == "goto svc-2"
    assert (share.health_port, share.local_endpoints) == (32000, 1)
    share = service_share(one, [slice_of(away)], NODE)
    refused = {("external", key): "accept", ("external-refused", key): "drop"}
    assert elements(share, "external", "external-refused") == refused


def test_internal_policy_local_without_local_endpoints_drops() -> None:
    one = service(internalTrafficPolicy="Local")
    share = service_share(one, [slice_of(endpoint("10.244.1.5", "node-2"))], NODE)
    assert elements(share) == {("refused", "10.96.1.1 . tcp . 80"): "drop"}


def test_hints_keep_traffic_in_the_zone_if_every_endpoint_has_one() -> None:
    near = endpoint("10.244.0.5", hints={"forZones": [{"name": "a"}]})
    far = endpoint("10.244.1.5", "node-2", hints={"forZones": [{"name": "b"}]})
    share = service_share(service(), [slice_of(near, far)], NODE)
    assert elements(share, "frontends") == {("frontends", "10.96.1.1 . tcp . 80"): "goto svc-1"}
    share = service_share(service(), [slice_of(near, far, endpoint("10.244.2.5", "node-3"))], NODE)
    assert elements(share, "frontends") == {("frontends", "10.96.1.1 . tcp . 80"): "goto svc-3"}


def test_source_ranges_restrict_the_balancer_alone() -> None:
    one = service(
        type="LoadBalancer",
        loadBalancerSourceRanges=["10.0.0.0/8", " 10.1.0.0/16 ", "192.0.2.1/32"],
        status={"loadBalancer": {"ingress": [{"ip": "10.213.0.128"}]}},
    )
    share = service_share(one, [slice_of(endpoint("10.244.0.5"))], NODE)
    key = "10.213.0.128 . tcp . 80"
    assert set(elements(share, "restricted", "allowed")) == {
        ("restricted", key),
        ("allowed", f"{key} . 10.0.0.0/8"),
        ("allowed", f"{key} . 192.0.2.1/32"),
    }


def test_ports_are_matched_by_name_and_protocol() -> None:
    ports = [{"name": "dns", "port": 53, "protocol": "UDP"}, {"name": "dns-tcp", "port": 53, "protocol": "TCP"}]
    slices = [slice_of(endpoint("10.244.0.5"), port=5353, name="dns", protocol="UDP")]
    share = service_share(service(ports=ports), slices, NODE)
    assert elements(share, "frontends", "refused") == {
        ("frontends", "10.96.1.1 . udp . 53"): "goto svc-1",
        ("refused", "10.96.1.1 . tcp . 53"): "goto refuse",
    }
    assert share.datagrams == {("10.96.1.1", 53): frozenset({"10.244.0.5"})}


def test_a_change_becomes_a_delta() -> None:
    rules = Ruleset({"ip": "10.244.0.0/16"})
    rules.start()
    one = service_share(service(), [slice_of(endpoint("10.244.0.5"))], NODE)
    two = service_share(service(), [slice_of(endpoint("10.244.0.5"), endpoint("10.244.1.5", "node-2"))], NODE)
    first = rules.replace({"default/web": one})
    assert any(line.startswith("add chain ip proa svc-1") for line in first)
    assert rules.replace({"default/web": one}) == []
    second = rules.replace({"default/web": two})
    assert "delete element ip proa frontends { 10.96.1.1 . tcp . 80 }" in second
    assert second[-1] == "add element ip proa slot-1 { 10.96.1.1 . tcp . 80 : 10.244.1.5 . 8080 }"
    assert not any("slot-0 {" in line and "element" in line for line in second)
    gone = rules.replace({"default/web": None})
    assert all(line.startswith("delete element") for line in gone)
    assert sum(line.count("10.96.1.1 . tcp . 80") for line in gone) == 3


def test_two_services_may_share_a_pod_and_claim_one_address() -> None:
    rules = Ruleset({"ip": "10.244.0.0/16"})
    rules.start()
    slices = [slice_of(endpoint("10.244.0.5"))]
    one = service_share(service(externalIPs=["203.0.113.9"]), slices, NODE)
    other = service(clusterIP="10.96.1.2", clusterIPs=["10.96.1.2"], externalIPs=["203.0.113.9"])
    rules.replace({"default/one": one, "default/two": service_share(other, slices, NODE)})
    lines = rules.replace({"default/one": None})
    assert not any("hairpin" in line or "203.0.113.9" in line for line in lines)
    assert any("hairpin" in line for line in rules.replace({"default/two": None}))
