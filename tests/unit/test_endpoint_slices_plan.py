"""Fitting endpoints into slices with few writes, and what endpoints say, as tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from proa.controllers.endpoints.plan import plan as plan_endpoints
from proa.controllers.endpointslice.plan import Step, parts
from proa.controllers.endpointslice.plan import plan as plan_parts
from proa.controllers.endpointslicemirroring.plan import is_mirrored
from proa.controllers.slices import Group, Plan, plan
from proa.meta.objects import Obj

META: Obj = {"generateName": "web-", "labels": {"a": "b"}}
HTTP = ({"name": "http", "protocol": "TCP", "port": 80},)


def endpoint(name: str, *, ready: bool = True) -> Obj:
    return {"addresses": [f"10.0.0.{name}"], "conditions": {"ready": ready}, "targetRef": {"uid": name}}


def group(*names: str, ports: tuple[Obj, ...] = HTTP) -> Group:
    return Group("IPv4", ports, tuple(map(endpoint, names)))


def slice_of(name: str, *members: str, ports: tuple[Obj, ...] = HTTP, **more: Any) -> Obj:
    meta = {"name": name, "labels": META["labels"], **more}
    return {
        "metadata": meta,
        "addressType": "IPv4",
        "endpoints": [endpoint(one) for one in members],
        "ports": list(ports) or None,
    }


def outcome(step: Plan) -> tuple[list[list[str]], dict[str, list[str]], list[str]]:
    """(members of new slices, members of changed slices by name, names of deleted slices)"""

    def members(one: Obj) -> list[str]:
        return sorted(endpoint["targetRef"]["uid"] for endpoint in one.get("endpoints") or ())

    return (
        [members(one) for one in step.create],
        {one["metadata"]["name"]: members(one) for one in step.update},
        [one["metadata"]["name"] for one in step.delete],
    )


@pytest.mark.parametrize(
    ("groups", "slices", "create", "update", "delete"),
    [
        ([], [], [[]], {}, []),
        ([], [slice_of("s", ports=())], [], {}, []),
        ([], [slice_of("s", "1")], [], {"s": []}, []),
        ([], [slice_of("s", "1"), slice_of("t", "2")], [], {"s": []}, ["t"]),
        ([group("1")], [], [["1"]], {}, []),
        ([group("1", "2", "3", "4")], [], [["1", "2", "3"], ["4"]], {}, []),
        ([group("1")], [slice_of("s", "1")], [], {}, []),
        ([group("1", "2")], [slice_of("s", "1")], [], {"s": ["1", "2"]}, []),
        ([group("2")], [slice_of("s", "1", "2")], [], {"s": ["2"]}, []),
        # What is new goes into the slice that changes anyway.
        ([group("2", "3", "9")], [slice_of("s", "1", "2"), slice_of("t", "3")], [], {"s": ["2", "9"]}, []),
        # Into the fullest with room, rather than a new one.
        ([group("1", "2", "3", "9")], [slice_of("s", "1", "2"), slice_of("t", "3")], [], {"s": ["1", "2", "9"]}, []),
        ([group("1", "2", "3", "9")], [slice_of("s", "1", "2", "3")], [["9"]], {}, []),
        # An empty slice goes when another is left.
        ([group("1")], [slice_of("s", "1"), slice_of("t", "2")], [], {}, ["t"]),
        # Other ports, other slices; the placeholder goes.
        ([group("1", ports=())], [slice_of("s", "1")], [["1"]], {}, ["s"]),
        ([group("1")], [slice_of("s", ports=())], [["1"]], {}, ["s"]),
        ([group("1")], [slice_of("s", "1", deletionTimestamp="x")], [["1"]], {}, []),
    ],
)
def test_slices(
    groups: list[Group], slices: list[Obj], create: list[list[str]], update: dict[str, list[str]], delete: list[str]
) -> None:
    assert outcome(plan(groups, slices, META, size_max=3)) == (create, update, delete)


def test_a_changed_condition_changes_its_slice_only() -> None:
    unready = Group("IPv4", HTTP, (endpoint("1"), endpoint("2", ready=False)))
    step = plan([unready], [slice_of("s", "1"), slice_of("t", "2")], META)
    assert outcome(step) == ([], {"t": ["2"]}, [])


def test_labels_are_mended() -> None:
    step = plan([group("1")], [slice_of("s", "1", labels={"old": "x"})], META)
    assert [one["metadata"]["labels"] for one in step.update] == [META["labels"]]


# ---------------------------------------------------------------- services and pods


def plan_service(of: Obj, pods: Sequence[Obj], zones: Mapping[str, str], slices: Sequence[Obj]) -> Step:
    made = [part for one in pods for part in parts(of, one, zones.get(one["spec"].get("nodeName") or "", ""))]
    return plan_parts(of, made, slices)


def service(**spec: Any) -> Obj:
    ports = [{"name": "http", "port": 80, "targetPort": "web", "protocol": "TCP"}]
    meta = {"name": "svc", "namespace": "ns", "uid": "svc"}
    return {"metadata": meta, "spec": {"ports": ports, "ipFamilies": ["IPv4"], "selector": {"a": "b"}, **spec}}


def pod(name: str, ip: str = "10.0.0.1", *, port: int = 8080, ready: bool = True, **more: Any) -> Obj:
    meta: Obj = {"name": name, "namespace": "ns", "uid": name}
    if more.pop("deleted", False):
        meta["deletionTimestamp"] = "x"
    conditions = [{"type": "Ready", "status": "True" if ready else "False"}]
    phase = more.pop("phase", "Running")
    ips = [{"ip": one} for one in (ip, *more.pop("more_ips", ())) if one]
    spec = {"containers": [{"ports": [{"name": "web", "containerPort": port, "protocol": "TCP"}]}], **more}
    return {"metadata": meta, "spec": spec, "status": {"phase": phase, "podIPs": ips, "conditions": conditions}}


@pytest.mark.parametrize(
    ("one", "publishes_all", "expected"),
    [
        (pod("p"), False, (True, True, False)),
        (pod("p", ready=False), False, (False, False, False)),
        (pod("p", ready=False), True, (True, False, False)),
        (pod("p", deleted=True), False, (False, True, True)),
        (pod("p", deleted=True), True, (True, True, True)),
        (pod("p", phase="Succeeded"), False, None),
        (pod("p", ip=""), False, None),
    ],
)
def test_conditions(one: Obj, publishes_all: bool, expected: tuple[bool, bool, bool] | None) -> None:
    step = plan_service(service(publishNotReadyAddresses=publishes_all), [one], {}, []).slices
    found = step.create[0]["endpoints"]
    if expected is None:
        assert found is None
        return
    conditions = found[0]["conditions"]
    assert (conditions["ready"], conditions["serving"], conditions["terminating"]) == expected


def test_a_named_port_may_differ_between_pods() -> None:
    step = plan_service(service(), [pod("a"), pod("b", port=9090), pod("c", "10.0.0.3")], {}, []).slices
    found = {one["ports"][0]["port"]: len(one["endpoints"]) for one in step.create}
    assert found == {8080: 2, 9090: 1}


def test_two_families_are_two_slices() -> None:
    both = service(ipFamilies=["IPv4", "IPv6"])
    step = plan_service(both, [pod("a", more_ips=("fd00::1",))], {}, []).slices
    assert [(one["addressType"], one["endpoints"][0]["addresses"]) for one in step.create] == [
        ("IPv4", ["10.0.0.1"]),
        ("IPv6", ["fd00::1"]),
    ]
    alone = plan_service(service(), [pod("a")], {}, list(step.create)).slices
    assert [one["addressType"] for one in alone.delete] == ["IPv6"]


def test_headless_services_tell_host_names() -> None:
    headless = service(clusterIP="None", ports=[])
    step = plan_service(headless, [pod("a", hostname="a", subdomain="svc"), pod("b", subdomain="other")], {}, []).slices
    (only,) = step.create
    assert [one.get("hostname") for one in only["endpoints"]] == ["a", None]
    assert only["metadata"]["labels"]["service.kubernetes.io/headless"] == "" and only["ports"] is None


def test_headless_services_need_no_ports_but_those_that_they_name() -> None:
    def subsets(ports: list[Obj]) -> list[Obj]:
        made = plan_endpoints(service(clusterIP="None", ports=ports), [pod("a", "10.0.0.1")], None)
        assert made is not None
        return made.get("subsets") or []

    assert [one["addresses"][0]["ip"] for one in subsets([])] == ["10.0.0.1"]
    assert subsets([{"name": "x", "port": 1, "targetPort": "nobody-has-it", "protocol": "TCP"}]) == []


@pytest.mark.parametrize(
    ("distribution", "hints"),
    [
        (None, None),
        ("PreferClose", {"forZones": [{"name": "z"}]}),
        ("PreferSameZone", {"forZones": [{"name": "z"}]}),
        ("PreferSameNode", {"forZones": [{"name": "z"}], "forNodes": [{"name": "n"}]}),
    ],
)
def test_hints(distribution: str | None, hints: Obj | None) -> None:
    wanted = service(trafficDistribution=distribution)
    step = plan_service(wanted, [pod("a", nodeName="n")], {"n": "z"}, []).slices
    assert step.create[0]["endpoints"][0].get("hints") == hints


def test_endpoints_group_by_ports_and_readiness() -> None:
    pods = [pod("a", "10.0.0.2"), pod("b", "10.0.0.1", ready=False), pod("c", "10.0.0.3", port=9090)]
    made = plan_endpoints(service(), pods, None)
    assert made is not None
    found = {
        subset["ports"][0]["port"]: (
            [one["ip"] for one in subset.get("addresses", [])],
            [one["ip"] for one in subset.get("notReadyAddresses", [])],
        )
        for subset in made["subsets"]
    }
    assert found == {8080: (["10.0.0.2"], ["10.0.0.1"]), 9090: (["10.0.0.3"], [])}
    assert plan_endpoints(service(), pods, made) is None
    assert plan_endpoints(service(), pods[:1], made) is not None


@pytest.mark.parametrize(
    ("labels", "selector", "expected"),
    [
        ({}, None, True),
        ({}, {"a": "b"}, False),
        ({"endpointslice.kubernetes.io/skip-mirror": "true"}, None, False),
    ],
)
def test_what_is_mirrored(labels: dict[str, str], selector: dict[str, str] | None, expected: bool) -> None:
    endpoints = {"metadata": {"name": "e", "labels": labels}}
    assert is_mirrored(endpoints, {"spec": {"selector": selector}}) == expected
    assert not is_mirrored(endpoints, None)
