"""Scoring strategies of NodeResourcesFit, and what its arguments leave out."""

from __future__ import annotations

import numpy as np
import pytest

from proa.meta.objects import Obj
from proa.scheduler.columns import Columns
from proa.scheduler.plugins.resources import NodeResourcesBalancedAllocation, NodeResourcesFit
from proa.scheduler.pod import parse_again, parse_pod
from tests.unit.scheduler.cases import cluster, node, pod


def two_nodes() -> Columns:
    return cluster([node("empty"), node("half")], [pod("x", cpu="2", memory="4Gi", on="half")])


def scores(plugin: NodeResourcesFit | NodeResourcesBalancedAllocation, columns: Columns, **wanted: str) -> list[int]:
    found = plugin.score(parse_pod(pod("p", **wanted)), columns, np.flatnonzero(columns.alive))  # type: ignore[arg-type]
    assert found is not None
    by_name = dict(zip([columns.names[row] for row in np.flatnonzero(columns.alive)], map(int, found), strict=True))
    return [by_name["empty"], by_name["half"]]


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [("LeastAllocated", [75, 25]), ("MostAllocated", [25, 75])],
)
def test_strategies(strategy: str, expected: list[int]) -> None:
    assert scores(NodeResourcesFit(strategy), two_nodes(), cpu="1", memory="2Gi") == expected


def test_requested_to_capacity_follows_the_shape() -> None:
    packing = NodeResourcesFit("RequestedToCapacityRatio", shape=[(0, 0), (100, 10)])
    assert scores(packing, two_nodes(), cpu="1", memory="2Gi") == [25, 75]
    bent = NodeResourcesFit("RequestedToCapacityRatio", shape=[(0, 10), (50, 0), (100, 10)])
    assert scores(bent, two_nodes(), cpu="1", memory="2Gi") == [50, 50]
    weighted = NodeResourcesFit("RequestedToCapacityRatio", [("cpu", 3), ("memory", 1)], [(0, 0), (100, 10)])
    assert scores(weighted, two_nodes(), cpu="2", memory="2Gi") == [44, 94]


def test_weights_of_resources() -> None:
    assert scores(NodeResourcesFit(resources=[("cpu", 3), ("memory", 1)]), two_nodes(), cpu="2") == [61, 11]


def test_balance_looks_at_the_resources_of_its_arguments() -> None:
    plugin = NodeResourcesBalancedAllocation()
    assert scores(plugin, two_nodes(), cpu="2") == [75, 75]
    assert plugin.score(parse_pod(pod("p")), two_nodes(), np.array([0])) is None


def test_ignored_resources_are_not_checked() -> None:
    columns = cluster([node("a")])
    wanted = parse_pod(pod("p", container={"resources": {"requests": {"example.com/gpu": "1", "other.com/x": "1"}}}))
    rows = np.flatnonzero(columns.alive)
    assert len(NodeResourcesFit().filter(wanted, columns, rows)) == 2
    assert len(NodeResourcesFit(ignored=["example.com/gpu"]).filter(wanted, columns, rows)) == 1
    assert not NodeResourcesFit(ignored_groups=["example.com", "other.com"]).filter(wanted, columns, rows)


def resized(wanted: str, real: str, allocated: str, *, infeasible: bool = False) -> Obj:
    made = pod("p", cpu=wanted, memory="1Gi", on="n")
    have = {"requests": {"cpu": real, "memory": "1Gi"}}
    made["status"]["containerStatuses"] = [
        {"name": "c", "resources": have, "allocatedResources": {"cpu": allocated, "memory": "1Gi"}}
    ]
    if infeasible:
        made["status"]["conditions"] = [{"type": "PodResizePending", "status": "True", "reason": "Infeasible"}]
    return made


@pytest.mark.parametrize(
    ("made", "cpu"),
    [
        (resized("1", "1", "1"), 1000),
        (resized("2", "1", "1"), 2000),
        (resized("1", "2", "2"), 2000),
        (resized("1", "1", "3"), 3000),
        (resized("3", "1", "2"), 3000),
        (resized("8", "1", "2", infeasible=True), 2000),
    ],
)
def test_a_pod_that_is_resized_counts_with_the_largest_of_all_it_may_have(made: Obj, cpu: int) -> None:
    info = parse_pod(made)
    assert info.requests == {"cpu": cpu, "memory": 1024**3}
    assert info.scored_cpu_milli == cpu


def test_a_resize_is_seen_when_the_status_alone_changes() -> None:
    grown = resized("2", "1", "1")
    before = parse_pod(grown)
    assert before.requests["cpu"] == 2000
    refused = parse_again({**grown, "status": resized("2", "1", "1", infeasible=True)["status"]}, before)
    assert refused.requests["cpu"] == 1000
    shrinking = parse_pod(resized("1", "2", "2"))
    assert parse_again({**shrinking.obj, "status": resized("1", "1", "1")["status"]}, shrinking).requests["cpu"] == 1000


def test_pod_level_requests_are_held_too() -> None:
    made = pod("p", on="n", resources={"requests": {"cpu": "1"}})
    made["status"] = {"allocatedResources": {"cpu": "2"}, "resources": {"requests": {"cpu": "1500m"}}}
    info = parse_pod(made)
    assert info.requests == {"cpu": 2000}
    assert (info.scored_cpu_milli, info.scored_memory_bytes) == (2000, 200 * 1024**2)


def test_sidecars_without_requests_count_in_scores() -> None:
    bare: Obj = {"name": "s", "image": "i"}
    made = pod("p", initContainers=[{**bare, "restartPolicy": "Always"}, {**bare, "name": "i"}])
    assert parse_pod(made).scored_cpu_milli == 200
