"""Profiles from a file, users' plugins and extenders, on a whole cluster in virtual time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from proa.client.interface import MERGE_PATCH
from proa.meta.objects import Obj
from proa.testing import Cluster, NodeTemplate
from tests.controllers.test_scheduling import event_messages, is_running, pod, scheduled_condition

EXAMPLE = Path(__file__).parents[2] / "examples" / "scheduler"


@pytest.fixture
def racks() -> Iterator[Cluster]:
    """Six nodes, two each in racks a and b, the first of which is quiet."""
    with Cluster(
        nodes=6,
        template=NodeTemplate(cpu="4", memory="4Gi"),
        scheduler_config=EXAMPLE / "config.yaml",
        scheduler_plugins=[EXAMPLE / "spread_by_rack.py"],
    ) as running:
        for name, rack in zip(running.simulated.names, "aabb", strict=False):
            running.patch("nodes", name, {"metadata": {"labels": {"rack": rack}}}, patch_type=MERGE_PATCH)
        quiet = {"metadata": {"labels": {"noise": "low"}}}
        running.patch("nodes", running.simulated.names[0], quiet, patch_type=MERGE_PATCH)
        running.settle()
        yield running


def of_team(name: str) -> Obj:
    made = pod(name, cpu="100m", schedulerName="rack-aware")
    made["metadata"]["labels"] = {"team": "blue"}
    return made


def test_the_example_fills_racks_up_to_the_quota(racks: Cluster) -> None:
    for number in range(4):
        racks.create(of_team(f"p{number}"))
    racks.wait(lambda: all(is_running(racks, f"p{number}") for number in range(4)))
    names = racks.simulated.names
    where = Counter(racks.get("pods", f"p{number}")["spec"]["nodeName"] for number in range(4))
    assert where[names[0]] == 2, "quiet nodes are preferred"
    assert where[names[2]] + where[names[3]] == 2 and 2 in (where[names[2]], where[names[3]]), "pods are packed"
    racks.create(of_team("late"))
    racks.wait(lambda: scheduled_condition(racks, "late").get("reason") == "Unschedulable")
    assert scheduled_condition(racks, "late")["message"].startswith(
        "0/6 nodes are available: 2 node(s) were without rack, 4 node(s) were in a rack that is full for team blue."
    )
    racks.delete("pods", "p0")
    racks.wait(lambda: is_running(racks, "late"))
    scheduled = [one for one in racks.list("events") if one["reason"] == "Scheduled"]
    assert {one["reportingComponent"] for one in scheduled} == {"rack-aware"}


def test_other_profiles_are_as_ever(racks: Cluster) -> None:
    racks.create(pod("plain"))
    racks.wait(lambda: is_running(racks, "plain"))
    assert event_messages(racks, "Scheduled")
