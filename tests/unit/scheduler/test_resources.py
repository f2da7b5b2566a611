"""Scoring strategies of NodeResourcesFit, and what its arguments leave out."""

from __future__ import annotations

import numpy as np
import pytest

from proa.scheduler.columns import Columns
from proa.scheduler.plugins.resources import NodeResourcesBalancedAllocation, NodeResourcesFit
from proa.scheduler.pod import parse_pod
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
