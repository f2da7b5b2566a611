"""Pods that wait for permission, on the engine alone: time is an argument."""

from __future__ import annotations

import pytest

from proa.scheduler.durations import duration, seconds_of
from proa.scheduler.engine import Bind, Engine, Refuse
from proa.scheduler.framework import Plugin, Profile, Refused, Wait
from proa.scheduler.plugins import DEFAULT_WEIGHTS, default_plugins
from proa.scheduler.pod import PodInfo
from proa.scheduler.waiting import Verdict, WaitingPod
from tests.unit.scheduler.cases import node, pod


class Held(Plugin):
    name = "Held"

    def __init__(self, answer: str | Wait = Wait(10)) -> None:
        self.answer = answer
        self.unreserved: list[str] = []

    def permit(self, pod: PodInfo, node: str) -> str | Wait:
        return self.answer

    def unreserve(self, pod: PodInfo, node: str, columns: object) -> None:
        self.unreserved.append(pod.key)


def engine(*plugins: Plugin) -> Engine:
    made = Engine([Profile("default-scheduler", (*default_plugins(), *plugins), DEFAULT_WEIGHTS)])
    made.node(None, node("n", cpu="2"), 0)
    return made


def decide(of: Engine, name: str = "p", now: float = 0, **more: object) -> Bind | Refuse:
    of.pod(None, pod(name, **more), now)  # type: ignore[arg-type]
    popped = of.pop(now)
    assert popped is not None and popped.key == f"default/{name}"
    return of.decide(popped, ())


def held(decision: Bind | Refuse) -> WaitingPod:
    assert isinstance(decision, Bind) and decision.waiting is not None
    return decision.waiting


def test_a_waiting_pod_takes_its_room_and_is_known_to_the_handle() -> None:
    plugin = Held()
    of = engine(plugin)
    waiting = held(decide(of, cpu="2"))
    assert waiting.pending_plugins == ("Held",) and waiting.node == "n"
    assert plugin.handle.waiting_pods() == (waiting,) and plugin.handle.waiting_pod("uid-p") is waiting
    other = decide(of, "q", cpu="1")
    assert isinstance(other, Refuse) and "Insufficient cpu" in other.message


def test_all_plugins_must_allow_and_the_first_rejection_counts() -> None:
    second = Held()
    second.name = "Second"
    waiting = held(decide(engine(Held(), second)))
    told = []
    waiting.when_decided(lambda: told.append(waiting.verdict))
    waiting.allow("Held")
    assert waiting.verdict is None and waiting.pending_plugins == ("Second",)
    waiting.allow("Second")
    waiting.reject("Held", "too late")
    assert told == [Verdict(True)] and waiting.verdict == Verdict(True)


def test_the_shortest_time_ends_the_waiting() -> None:
    short = Held(Wait(3))
    short.name = "Short"
    waiting = held(decide(engine(Held(Wait(5000)), short)))
    assert waiting.late(2.9) is None and waiting.seconds_left_at_start == 3
    assert waiting.late(3) == Verdict(False, "Short", "rejected due to timeout after waiting 3s at plugin Short")
    long = held(decide(engine(Held(Wait(5000)))))
    assert long.late(899) is None and long.late(900) is not None


def test_a_rejected_pod_says_so_and_frees_its_room() -> None:
    plugin = Held("no, thanks")
    of = engine(plugin)
    refusal = decide(of, cpu="2")
    assert isinstance(refusal, Refuse) and not refusal.is_error
    assert refusal.message == "0/1 nodes are available: 1 no, thanks." and refusal.plugins == {"Held"}
    assert plugin.unreserved == ["default/p"]
    plugin.answer = ""
    assert isinstance(decide(of, "q", cpu="2"), Bind)


def test_a_pod_that_goes_away_is_rejected_and_unreserved() -> None:
    plugin = Held()
    of = engine(plugin)
    waiting = held(decide(of, cpu="2"))
    of.pod(waiting.pod.obj, None, 1)
    assert waiting.verdict == Verdict(False, "", "removed") and plugin.unreserved == ["default/p"]
    of.handle.release("uid-p")
    assert isinstance(decide(of, "q", now=1, cpu="2"), Bind)


def test_the_failure_of_one_wakes_those_that_lacked_its_room_but_not_itself() -> None:
    plugin = Held()
    of = engine(plugin)
    waiting = held(decide(of, cpu="2"))
    plugin.answer = ""
    other = decide(of, "q", cpu="2")
    assert isinstance(other, Refuse)
    of.failed("default/q", other.plugins, 1)
    waiting.reject("Held", "why not")
    of.unbind(waiting.pod, 2, None, ("Held",))
    assert of.columns.where == {}
    popped = of.pop(2)
    assert popped is not None and popped.key == "default/q", "it was woken by the room"
    assert of.pop(30) is None, "the other one waits for something else to happen"


def test_an_error_in_reserve_is_told_as_such() -> None:
    class Broken(Plugin):
        name = "Broken"

        def reserve(self, pod: PodInfo, node: str, columns: object) -> str:
            raise Refused("no connection")

    refusal = decide(engine(Broken()))
    assert isinstance(refusal, Refuse) and refusal.is_error
    assert refusal.message == 'running Reserve plugin "Broken": no connection'


def test_a_plugin_may_sort_the_queue() -> None:
    class Shortest(Plugin):
        name = "Shortest"

        def queue_key(self, pod: PodInfo, since: float) -> object:
            return len(pod.key)

    of = engine(Shortest())
    for name in ("middle", "longest-one", "a"):
        of.pod(None, pod(name), 0)
    popped = [of.pop(0) for _ in range(3)]
    assert [one.key for one in popped if one] == ["default/a", "default/middle", "default/longest-one"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.25, "250ms"), (3, "3s"), (60, "1m0s"), (90.5, "1m30.5s"), (900, "15m0s"), (3600, "1h0m0s")],
)
def test_durations_as_go_writes_them(seconds: float, text: str) -> None:
    assert duration(seconds) == text
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "5", "1x", "s", "-1s"])
def test_what_is_no_duration(text: str) -> None:
    assert seconds_of(text) is None


def test_pods_whose_node_is_not_known_count_once_it_is() -> None:
    of = engine()
    of.pod(None, pod("x", cpu="3", on="later"), 0)
    of.pod(None, pod("gone", cpu="1", on="later"), 0)
    of.pod(pod("gone", cpu="1", on="later"), None, 0)
    of.node(None, node("later", cpu="4"), 0)
    row = of.columns.row_of["later"]
    assert of.columns.requested[row, 0] == 3000
    # A node that is deleted and registers again still has its pods.
    of.node(node("later", cpu="4"), None, 1)
    assert "default/x" not in of.columns.where
    of.node(None, node("later", cpu="4"), 2)
    assert of.columns.requested[of.columns.row_of["later"], 0] == 3000
    decision = decide(of, cpu="3")
    assert isinstance(decision, Refuse)


def test_a_pod_being_bound_counts_when_its_node_comes_back() -> None:
    of = engine()
    decision = decide(of, cpu="1")
    assert isinstance(decision, Bind)
    of.node(node("n", cpu="2"), None, 1)
    of.node(None, node("n", cpu="2"), 1)
    assert of.columns.requested[of.columns.row_of["n"], 0] == 1000
    of.unbind(decision.pod, 2)
    assert of.columns.requested[of.columns.row_of["n"], 0] == 0
