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


@pytest.fixture
def gangs() -> Iterator[Cluster]:
    with Cluster(
        nodes=2, template=NodeTemplate(cpu="2", memory="4Gi"), scheduler_plugins=[EXAMPLE / "gang.py"]
    ) as running:
        yield running


def of_gang(name: str, cpu: str = "1") -> Obj:
    made = pod(name, cpu=cpu)
    made["metadata"]["labels"], made["metadata"]["annotations"] = {"gang": "g"}, {"gang-size": "3"}
    return made


def test_a_gang_runs_when_all_of_it_has_a_place(gangs: Cluster) -> None:
    for name in ("a", "b"):
        gangs.create(of_gang(name))
    gangs.wait(lambda: all(gangs.get("pods", name)["status"].get("nominatedNodeName") for name in ("a", "b")))
    assert not any("nodeName" in gangs.get("pods", name)["spec"] for name in ("a", "b"))
    gangs.create(pod("alone"))
    gangs.wait(lambda: is_running(gangs, "alone"))
    gangs.create(of_gang("c"))
    gangs.wait(lambda: all(is_running(gangs, name) for name in "abc"))
    assert not any("nominatedNodeName" in gangs.get("pods", name)["status"] for name in "abc")


def test_a_gang_without_room_gives_its_places_back(gangs: Cluster) -> None:
    for name in ("a", "b"):
        gangs.create(of_gang(name, cpu="1500m"))
    gangs.wait(lambda: gangs.get("pods", "b")["status"].get("nominatedNodeName"))
    gangs.create(pod("plain", cpu="1"))
    gangs.wait(lambda: scheduled_condition(gangs, "plain").get("reason") == "Unschedulable")
    late = "0/1 nodes are available: 1 rejected due to timeout after waiting 1m0s at plugin Gang."
    gangs.wait(lambda: late in event_messages(gangs, "FailedScheduling"), 120)
    gangs.wait(lambda: any(' of gang "g" gave up.' in text for text in event_messages(gangs, "FailedScheduling")))
    gangs.wait(lambda: is_running(gangs, "plain"))
    # It is tried again when there is more room, and waits again.
    gangs.delete("pods", "plain")
    gangs.wait(lambda: gangs.get("pods", "a")["status"].get("nominatedNodeName"))


def test_a_preempted_pod_that_waits_is_not_deleted(gangs: Cluster) -> None:
    gangs.create(
        {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": "high"}, "value": 1000}
    )
    for name in ("a", "b"):
        gangs.create(of_gang(name, cpu="2"))
    gangs.wait(lambda: gangs.get("pods", "b")["status"].get("nominatedNodeName"))
    uid = gangs.get("pods", "a")["metadata"]["uid"], gangs.get("pods", "b")["metadata"]["uid"]
    gangs.create(pod("urgent", cpu="2", priorityClassName="high"))
    gangs.wait(lambda: is_running(gangs, "urgent"))
    assert (gangs.get("pods", "a")["metadata"]["uid"], gangs.get("pods", "b")["metadata"]["uid"]) == uid
    gangs.wait(lambda: event_messages(gangs, "Preempted"))
    assert "0/1 nodes are available: 1 preempted." in event_messages(gangs, "FailedScheduling")


def test_a_plugin_may_bind_itself_after_steps_of_its_own(tmp_path: Path) -> None:
    file = tmp_path / "own.py"
    file.write_text(OWN_BINDER)
    config = tmp_path / "config.yaml"
    config.write_text(
        "apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration\nprofiles:\n- plugins:\n"
        "    multiPoint: {enabled: [{name: Own}]}\n"
        "    bind: {enabled: [{name: Own}], disabled: [{name: DefaultBinder}]}\n"
    )
    with Cluster(nodes=1, scheduler_config=config, scheduler_plugins=[file]) as running:
        running.create(pod("p"))
        running.wait(lambda: is_running(running, "p"))
        conditions = {one["type"]: one for one in running.get("pods", "p")["status"]["conditions"]}
        node = running.simulated.names[0]
        assert conditions["example.com/Going"]["message"] == node
        assert conditions["example.com/Gone"]["message"] == f"was going to {node}"
        assert running.get("pods", "p")["metadata"]["annotations"]["bound-by"] == "Own"
        running.create(pod("refused", nodeSelector={"never": "there"}))
        with_error = pod("broken")
        with_error["metadata"]["labels"] = {"broken": "yes"}
        running.create(with_error)
        running.wait(lambda: scheduled_condition(running, "broken").get("reason") == "SchedulerError")
        assert scheduled_condition(running, "broken")["message"] == 'running PreBind plugin "Own": it is broken'


OWN_BINDER = """
from proa.client.resources import PODS
from proa.meta.objects import name_of
from proa.scheduler.framework import Change, Plugin, Refused


def condition(type, message):
    return lambda _: {"status": {"conditions": [{"type": type, "status": "True", "message": message}]}}


def refuse(_):
    raise Refused("it is broken")


class Own(Plugin):
    name = "Own"

    def pre_bind(self, pod, node, columns):
        where = (PODS, pod.namespace, name_of(pod.obj))
        if pod.labels.get("broken"):
            yield Change(*where, refuse)
        seen = yield Change(*where, condition("example.com/Going", node), "status", "patch")
        [going] = [one for one in seen["status"]["conditions"] if one["type"] == "example.com/Going"]
        text = f"was going to {going['message']}"
        yield Change(*where, condition("example.com/Gone", text), "status", "patch")

    def bind(self, pod, node, columns):
        binding = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": name_of(pod.obj), "uid": pod.uid, "annotations": {"bound-by": self.name}},
            "target": {"apiVersion": "v1", "kind": "Node", "name": node},
        }
        return [Change(PODS, pod.namespace, name_of(pod.obj), lambda _: binding, "binding", "create")]
"""
