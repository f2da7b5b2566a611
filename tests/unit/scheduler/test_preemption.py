"""Which pods leave so that a more important one fits."""

from __future__ import annotations

from proa.meta.objects import Obj
from proa.scheduler.cycle import Unplaced, schedule
from proa.scheduler.plugins import default_profile
from proa.scheduler.pod import parse_pod
from proa.scheduler.preemption import Preemption, preempt
from tests.unit.scheduler.cases import cluster, node, pod


def decide(nodes: list[Obj], placed: list[Obj], wanted: Obj, budgets: list[Obj] = []) -> Preemption | str:  # noqa: B006
    columns = cluster(nodes, placed)
    before = columns.requested.copy()
    info = parse_pod(wanted)
    failed = schedule(info, columns, default_profile(), 0)
    assert isinstance(failed, Unplaced)
    result = preempt(info, columns, default_profile(), failed, budgets, 0)
    assert (columns.requested == before).all(), "a dry run leaves no trace"
    return result


def victims(result: Preemption | str) -> list[str]:
    assert isinstance(result, Preemption), result
    return [one.key.split("/")[1] for one in result.victims]


def test_only_as_many_as_needed_leave() -> None:
    placed = [pod(f"p{i}", cpu="1", on="a", priority=i) for i in range(4)]
    assert victims(decide([node("a")], placed, pod("big", cpu="2", priority=100))) == ["p1", "p0"]


def test_equal_priority_stays() -> None:
    result = decide([node("a", cpu="1")], [pod("p", cpu="1", on="a", priority=5)], pod("q", cpu="1", priority=5))
    assert result == "0/1 nodes are available: 1 No preemption victims found for incoming pod."


def test_the_node_with_the_least_important_victims_is_chosen() -> None:
    placed = [pod("x", cpu="4", on="a", priority=50), pod("y", cpu="4", on="b", priority=10)]
    result = decide([node("a"), node("b")], placed, pod("big", cpu="4", priority=100))
    assert isinstance(result, Preemption) and result.node == "b"


def test_budgets_are_spared_when_there_is_a_choice() -> None:
    placed = [pod("x", cpu="4", on="a", labels={"app": "db"}), pod("y", cpu="4", on="b", priority=10)]
    budget = {
        "metadata": {"namespace": "default", "name": "b"},
        "spec": {"selector": {"matchLabels": {"app": "db"}}},
        "status": {"disruptionsAllowed": 0},
    }
    result = decide([node("a"), node("b")], placed, pod("big", cpu="4", priority=100), [budget])
    assert isinstance(result, Preemption) and result.node == "b" and result.violations == 0


def test_never_policy_and_hopeless_nodes() -> None:
    placed = [pod("x", cpu="4", on="a")]
    never = pod("big", cpu="4", priority=100, preemptionPolicy="Never")
    assert decide([node("a")], placed, never) == "not eligible due to preemptionPolicy=Never."
    hopeless = decide([node("a")], placed, pod("big", cpu="8", priority=100))
    assert hopeless == "0/1 nodes are available: 1 Preemption is not helpful for scheduling."


def test_what_still_lacks_without_the_less_important_pods_is_told() -> None:
    placed = [
        pod("x", cpu="3", on="a", priority=200),
        pod("y", cpu="1", on="a"),
        pod("z", cpu="4", on="b", priority=200),
    ]
    result = decide([node("a"), node("b")], placed, pod("big", cpu="2", priority=100))
    assert result == ("0/2 nodes are available: 1 Insufficient cpu, 1 No preemption victims found for incoming pod.")


def test_so_are_other_reasons() -> None:
    port = {"ports": [{"containerPort": 80, "hostPort": 80}]}
    placed = [pod("x", on="a", priority=200, container=port), pod("y", on="a")]
    result = decide([node("a")], placed, pod("big", priority=100, container=port))
    assert result == "0/1 nodes are available: 1 node(s) didn't have free ports for the requested pod ports."


def test_a_pod_waits_for_its_victims_where_they_help() -> None:
    leaving = pod("x", cpu="4", on="a")
    leaving["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    leaving["status"]["conditions"] = [
        {"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler"}
    ]
    wanted = pod("big", cpu="4", priority=100)
    wanted["status"]["nominatedNodeName"] = "a"
    assert decide([node("a")], [leaving], wanted) == "not eligible due to a terminating pod on the nominated node."
    other = [leaving, pod("y", cpu="4", on="b")]
    result = decide([node("a", unschedulable=True), node("b")], other, wanted)
    assert isinstance(result, Preemption) and result.node == "b", "the nominated node is of no use any more"
