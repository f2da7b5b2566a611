"""Simulated nodes as objects, and what outages do to time on them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from proa.kubelet.simulated.life import FOREVER
from proa.kubelet.simulated.nodes import (
    FAULTS,
    Group,
    NodeTemplate,
    check_fault,
    conditions,
    fault_of,
    lease,
    new_node,
    node_info,
    resources,
    statuses,
    transitions,
)
from proa.kubelet.simulated.outages import FAIL, HANG, PARTITION, Outage, awake, later, learned
from proa.util.clock import rfc3339

NOW = datetime(2026, 1, 1, tzinfo=UTC)
EARLIER = NOW - timedelta(hours=1)


def node(**template: Any) -> dict[str, Any]:
    return new_node("n-4", 4, NodeTemplate(**template), "100.64.0.5", "100.80.4.0/24", NOW)


def test_a_node_as_it_registers() -> None:
    made = node(zones=["a", "b", "c"], region="r", labels={"tier": "x"}, annotations={"a": "b"}, cpu="4")
    labels, status = made["metadata"]["labels"], made["status"]
    assert labels["topology.kubernetes.io/zone"] == "b" and labels["topology.kubernetes.io/region"] == "r"
    assert (labels["kubernetes.io/hostname"], labels["proa.dev/simulated"], labels["tier"]) == ("n-4", "true", "x")
    assert made["metadata"]["annotations"] == {"proa.dev/simulated": "true", "a": "b"}
    assert made["spec"] == {"podCIDR": "100.80.4.0/24", "podCIDRs": ["100.80.4.0/24"]}
    assert [one["address"] for one in status["addresses"]] == ["100.64.0.5", "n-4"]
    assert status["capacity"] == status["allocatable"] and status["capacity"]["cpu"] == "4"
    assert {one["type"]: one["status"] for one in status["conditions"]} == statuses("")


def test_a_plain_node_has_no_zone_and_no_taints() -> None:
    made = node()
    assert not any("topology" in key for key in made["metadata"]["labels"]) and "taints" not in made["spec"]


@pytest.mark.parametrize(
    ("reserved", "allocatable"),
    [
        ({}, {"cpu": "4", "memory": "8Gi", "pods": "110"}),
        ({"cpu": "250m"}, {"cpu": "3750m", "memory": "8Gi"}),
        ({"memory": "1536Mi"}, {"cpu": "4", "memory": f"{6656 << 10}Ki"}),
        ({"pods": "10", "example.com/gpu": "1"}, {"pods": "100", "example.com/gpu": "1"}),
        ({"ephemeral-storage": "500Gi"}, {"ephemeral-storage": "0"}),
    ],
)
def test_what_is_reserved_is_not_allocatable(reserved: dict[str, str], allocatable: dict[str, str]) -> None:
    template = NodeTemplate(cpu="4", memory="8Gi", resources={"example.com/gpu": "2"}, reserved=reserved)
    _, found = resources(template)
    assert {key: found[key] for key in allocatable} == allocatable


def test_nobody_can_reserve_more_than_there_is() -> None:
    with pytest.raises(ValueError, match=r"2 of example\.com/gpu"):
        resources(NodeTemplate(reserved={"example.com/gpu": "2"}))


def test_machines_differ_and_boots_do() -> None:
    infos = [node_info("a"), node_info("b"), node_info("a", 1)]
    assert infos[0] == node_info("a")
    assert len({one["bootID"] for one in infos}) == 3
    assert infos[0]["machineID"] == infos[2]["machineID"] != infos[1]["machineID"]


def test_names_count_within_a_kind() -> None:
    assert list(Group(NodeTemplate(name_prefix="gpu"), 3).names()) == ["gpu-0", "gpu-1", "gpu-2"]


@pytest.mark.parametrize(
    ("fault", "changed"),
    [
        ("", {}),
        ("not-ready", {"Ready": "False"}),
        ("memory-pressure", {"MemoryPressure": "True"}),
        ("disk-pressure", {"DiskPressure": "True"}),
        ("pid-pressure", {"PIDPressure": "True"}),
        ("partition", {}),
    ],
)
def test_what_a_node_reports(fault: str, changed: dict[str, str]) -> None:
    shown = {one["type"]: one["status"] for one in conditions(fault, (), NOW)}
    healthy = {"MemoryPressure": "False", "DiskPressure": "False", "PIDPressure": "False", "Ready": "True"}
    assert shown == statuses(fault) == {**healthy, **changed}


def test_a_condition_keeps_the_time_of_its_change() -> None:
    before = conditions("", (), EARLIER)
    after = {one["type"]: one for one in conditions("disk-pressure", before, NOW)}
    assert after["Ready"]["lastTransitionTime"] == rfc3339(EARLIER)
    assert after["Ready"]["lastHeartbeatTime"] == after["DiskPressure"]["lastTransitionTime"] == rfc3339(NOW)


def test_what_changes_is_told() -> None:
    healthy = conditions("", (), NOW)
    assert transitions(healthy, healthy) == []
    assert transitions(healthy, conditions("not-ready", healthy, NOW)) == ["NodeNotReady"]
    unknown = [{**one, "status": "Unknown"} for one in healthy]
    assert transitions(unknown, healthy)[-1] == "NodeReady" and len(transitions((), healthy)) == 4


def test_faults_have_names() -> None:
    for fault in ("", *FAULTS):
        check_fault(fault)
    with pytest.raises(ValueError, match="'melt' is no fault; there are: fail, hang, partition, not-ready, "):
        check_fault("melt")
    assert fault_of({"metadata": {"annotations": {"proa.dev/fault": "hang"}}}) == "hang"
    assert fault_of({"metadata": {}}) == ""


def test_a_lease_belongs_to_its_node() -> None:
    made = lease("n", "u", "kube-node-lease", 40, "now")
    assert made["metadata"]["ownerReferences"][0]["uid"] == "u" and made["spec"]["leaseDurationSeconds"] == 40
    assert "ownerReferences" not in lease("n", "", "kube-node-lease", 40, "now")["metadata"]


# ---------------------------------------------------------------- outages

HUNG, CUT, OFF = Outage(HANG, 100, 200), Outage(PARTITION, 100, 200), Outage(FAIL, 100, 200)


@pytest.mark.parametrize(
    ("outages", "at", "woken", "heard"),
    [
        ((), 150, 150, 150),
        ((HUNG,), 99, 99, 99),
        ((HUNG,), 100, 200, 200),
        ((HUNG,), 199, 200, 200),
        ((HUNG,), 200, 200, 200),
        ((OFF,), 150, 200, 200),
        ((CUT,), 150, 150, 200),
        ((HUNG, Outage(FAIL, 200, 300)), 150, 300, 300),
        ((CUT, Outage(HANG, 250, 300)), 260, 300, 300),
        ((Outage(HANG, 100),), 150, FOREVER, FOREVER),
    ],
)
def test_when_something_can_happen(outages: tuple[Outage, ...], at: float, woken: float, heard: float) -> None:
    assert (awake(outages, at), learned(outages, at)) == (woken, heard)


@pytest.mark.parametrize(
    ("outages", "at", "span", "due"),
    [
        ((), 50, 100, 150),
        ((HUNG,), 50, 20, 70),
        ((HUNG,), 50, 100, 250),
        ((HUNG,), 150, 10, 210),
        ((HUNG,), 300, 10, 310),
        ((CUT,), 50, 100, 150),
        ((OFF,), 50, 100, 200),
        ((HUNG, Outage(HANG, 220, 230)), 50, 100, 260),
        ((HUNG,), 50, FOREVER, FOREVER),
    ],
)
def test_how_long_something_takes(outages: tuple[Outage, ...], at: float, span: float, due: float) -> None:
    assert later(outages, at, span) == due
