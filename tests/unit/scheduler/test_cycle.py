"""Where a pod goes, and what a user reads when it goes nowhere."""

from __future__ import annotations

import pytest

from tests.unit.scheduler.cases import cluster, node, place, pod

ZONES = [node(f"n{i}", labels={"zone": zone}) for i, zone in enumerate("aabb")]


def selector(**labels: str) -> dict:
    return {"labelSelector": {"matchLabels": labels}}


def anti(key: str, **labels: str) -> dict:
    term = {**selector(**labels), "topologyKey": key}
    return {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}


def near(key: str, **labels: str) -> dict:
    term = {**selector(**labels), "topologyKey": key}
    return {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}


def required_nodes(*expressions: dict) -> dict:
    terms = {"nodeSelectorTerms": [{"matchExpressions": list(expressions)}]}
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}


def test_no_nodes() -> None:
    assert place(cluster([]), pod("p")) == "no nodes available to schedule pods"


def test_emptiest_node_wins() -> None:
    columns = cluster([node("full"), node("empty")], [pod("x", cpu="2", memory="2Gi", on="full")])
    assert place(columns, pod("p", cpu="1")) == "empty"


def test_ties_are_broken_by_the_seed() -> None:
    columns = cluster([node(f"n{i}") for i in range(4)])
    assert {place(columns, pod("p"), seed) for seed in range(8)} == {"n0", "n1", "n2", "n3"}


@pytest.mark.parametrize(
    ("nodes", "placed", "wanted", "message"),
    [
        ([node("a")], [], pod("p", cpu="8"), "1 Insufficient cpu"),
        ([node("a")], [], pod("p", cpu="8", memory="9Gi"), "1 Insufficient cpu, 1 Insufficient memory"),
        ([node("a", pods=1)], [pod("x", on="a")], pod("p"), "1 Too many pods"),
        ([node("a", unschedulable=True)], [], pod("p"), "1 node(s) were unschedulable"),
        (
            [node("a", taints=[{"key": "k", "value": "v", "effect": "NoSchedule"}]), node("b", cpu="1")],
            [],
            pod("p", cpu="2"),
            "1 Insufficient cpu, 1 node(s) had untolerated taint(s)",
        ),
        ([node("a")], [], pod("p", nodeSelector={"x": "y"}), "1 node(s) didn't match Pod's node affinity/selector"),
        (
            [node("a")],
            [pod("x", on="a", container={"ports": [{"containerPort": 80, "hostPort": 80}]})],
            pod("p", container={"ports": [{"containerPort": 80, "hostPort": 80, "hostIP": "127.0.0.1"}]}),
            "1 node(s) didn't have free ports for the requested pod ports",
        ),
        (
            [node("a")],
            [pod("x", on="a", labels={"app": "w"})],
            pod("p", affinity=anti("kubernetes.io/hostname", app="w")),
            "1 node(s) didn't match pod anti-affinity rules",
        ),
        (
            [node("a")],
            [pod("x", on="a", affinity=anti("kubernetes.io/hostname", app="w"))],
            pod("p", labels={"app": "w"}),
            "1 node(s) didn't satisfy existing pods anti-affinity rules",
        ),
        (
            [node("a")],
            [],
            pod("p", affinity=near("kubernetes.io/hostname", app="w")),
            "1 node(s) didn't match pod affinity rules",
        ),
    ],
)
def test_reasons(nodes, placed, wanted, message) -> None:
    assert place(cluster(nodes, placed), wanted) == f"0/{len(nodes)} nodes are available: {message}."


@pytest.mark.parametrize(
    ("expression", "nodes"),
    [
        ({"key": "zone", "operator": "In", "values": ["b", "c"]}, {"n2", "n3"}),
        ({"key": "zone", "operator": "NotIn", "values": ["b"]}, {"n0", "n1", "bare"}),
        ({"key": "zone", "operator": "Exists"}, {"n0", "n1", "n2", "n3"}),
        ({"key": "zone", "operator": "DoesNotExist"}, {"bare"}),
        ({"key": "size", "operator": "Gt", "values": ["5"]}, {"bare"}),
        ({"key": "size", "operator": "Lt", "values": ["5"]}, set()),
    ],
)
def test_node_affinity_operators(expression, nodes) -> None:
    columns = cluster([*ZONES, node("bare", labels={"size": "10"})])
    wanted = pod("p", affinity=required_nodes(expression))
    found = {place(columns, wanted, seed) for seed in range(20)}
    assert {one for one in found if not one.startswith("0/")} == nodes


def test_toleration_lets_a_pod_onto_a_tainted_node() -> None:
    columns = cluster([node("a", taints=[{"key": "k", "value": "v", "effect": "NoExecute"}])])
    assert place(columns, pod("p", tolerations=[{"key": "k", "operator": "Exists"}])) == "a"
    assert place(columns, pod("p", tolerations=[{"key": "k", "value": "v"}])) == "a"
    assert place(columns, pod("p", tolerations=[{"key": "k", "value": "w"}])).startswith("0/1")


def test_spread_keeps_the_skew() -> None:
    placed = [pod("x", on="n0", labels={"app": "w"})]
    constraint = {"topologyKey": "zone", "maxSkew": 1, "whenUnsatisfiable": "DoNotSchedule", **selector(app="w")}
    wanted = pod("p", labels={"app": "w"}, topologySpreadConstraints=[constraint])
    columns = cluster([*ZONES, node("bare")], placed)
    assert {place(columns, wanted, seed) for seed in range(8)} == {"n2", "n3"}
    columns.remove_node("n2")
    columns.remove_node("n3")
    assert {place(columns, wanted, seed) for seed in range(8)} == {"n1"}, "one domain is always balanced"


def test_min_domains_make_an_empty_domain_count() -> None:
    constraint = {"topologyKey": "zone", "maxSkew": 1, "minDomains": 3, **selector(app="w")}
    constraint["whenUnsatisfiable"] = "DoNotSchedule"
    placed = [pod("x", on="n0", labels={"app": "w"}), pod("y", on="n2", labels={"app": "w"})]
    wanted = pod("p", labels={"app": "w"}, topologySpreadConstraints=[constraint])
    assert place(cluster(ZONES, placed), wanted) == (
        "0/4 nodes are available: 4 node(s) didn't match pod topology spread constraints."
    )


def test_first_of_a_group_may_start_anywhere() -> None:
    wanted = pod("p", labels={"app": "w"}, affinity=near("zone", app="w"))
    assert place(cluster([*ZONES, node("bare")]), wanted) in {"n0", "n1", "n2", "n3"}
    columns = cluster(ZONES, [pod("x", on="n1", labels={"app": "w"})])
    assert {place(columns, wanted, seed) for seed in range(8)} <= {"n0", "n1"}


def test_counts_follow_pods_and_nodes() -> None:
    columns = cluster(ZONES)
    wanted = pod("p", labels={"app": "w"}, affinity=anti("zone", app="w"))
    for index in range(2):
        chosen = place(columns, wanted)
        from proa.scheduler.pod import parse_pod

        placed = pod(f"p{index}", labels={"app": "w"}, on=chosen, affinity=anti("zone", app="w"))
        columns.add_pod(parse_pod(placed))
    assert place(columns, wanted).startswith("0/4")
    columns.remove_pod("default/p0")
    assert not place(columns, wanted).startswith("0/4")
    assert int(columns.requested.sum()) == 1


def test_nominated_room_is_kept_for_pods_of_equal_or_higher_priority() -> None:
    from proa.scheduler.pod import parse_pod

    columns = cluster([node("a", cpu="1")])
    promised = parse_pod(pod("big", cpu="1", priority=10))
    promised.nominated_node = "a"
    assert place(columns, pod("p", cpu="1"), nominated=[promised]).startswith("0/1")
    assert place(columns, pod("p", cpu="1", priority=20), nominated=[promised]) == "a"
    columns.promise({})
    assert not columns.where


def test_a_pod_that_needs_a_feature_goes_to_a_node_that_declares_it() -> None:
    able, old = node("able"), node("old")
    able["status"]["declaredFeatures"] = ["RestartAllContainersOnContainerExits"]
    rule = {"action": "RestartAllContainers", "exitCodes": {"operator": "In", "values": [3]}}
    wanted = pod("p", container={"restartPolicyRules": [rule]})
    assert place(cluster([able, old]), wanted) == "able"
    assert place(cluster([old]), wanted) == (
        "0/1 nodes are available: 1 node declared features check failed - unsatisfied requirements: "
        "RestartAllContainersOnContainerExits."
    )
