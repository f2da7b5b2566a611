"""Who is tried when."""

from __future__ import annotations

from proa.scheduler.framework import Event, Happening
from proa.scheduler.pod import PodInfo, parse_pod
from proa.scheduler.queue import STUCK_SECONDS_MAX, Queue
from tests.unit.scheduler.cases import pod

WAKES = {"Fit": Happening.POD_DELETE | Happening.NODE_ADD, "Taints": Happening.NODE_TAINT}


def info(name: str, priority: int = 0) -> PodInfo:
    return parse_pod(pod(name, priority=priority))


def popped(queue: Queue, now: float) -> str | None:
    found = queue.pop(now)
    return found.key.split("/")[1] if found else None


def test_priority_then_age() -> None:
    queue = Queue(WAKES)
    for number, (name, priority) in enumerate([("old", 0), ("new", 0), ("urgent", 9)]):
        queue.add(info(name, priority), float(number))
    assert [popped(queue, 5) for _ in range(4)] == ["urgent", "old", "new", None]


def test_a_rejected_pod_wakes_only_for_what_may_help() -> None:
    queue = Queue(WAKES)
    queue.add(info("p"), 0)
    assert popped(queue, 0) == "p"
    queue.failed("default/p", {"Fit"}, 0)
    queue.happened(Event(Happening.NODE_TAINT), 1)
    assert popped(queue, 1) is None
    queue.happened(Event(Happening.POD_DELETE), 0.5)
    assert queue.next_at() == 1.0
    queue.add(info("q"), 0.5)
    assert popped(queue, 0.5) == "q", "the other one is still backing off"
    assert popped(queue, 0.5) == "p", "but need not with nobody else there"


def test_after_an_error_the_back_off_is_sat_out() -> None:
    queue = Queue(WAKES)
    queue.add(info("p"), 0)
    popped(queue, 0)
    queue.failed("default/p", (), 0, retry=True)
    assert popped(queue, 0.9) is None
    assert popped(queue, 1.0) == "p"


def test_a_pod_woken_twice_is_tried_once() -> None:
    queue = Queue(WAKES)
    queue.add(info("p"), 0)
    popped(queue, 0)
    queue.failed("default/p", {"Fit"}, 0)
    queue.happened(Event(Happening.POD_DELETE), 0.5)
    assert popped(queue, 0.6) == "p"
    queue.failed("default/p", (), 0.6, retry=True)
    assert popped(queue, 1.5) is None, "what is left of the first back-off is void"
    assert popped(queue, 2.6) == "p"


def test_events_do_not_wake_the_pod_that_caused_them() -> None:
    queue = Queue(WAKES)
    queue.add(info("p"), 0)
    popped(queue, 0)
    queue.failed("default/p", {"Fit"}, 0)
    queue.happened(Event(Happening.POD_DELETE), 5, but="default/p")
    assert popped(queue, 20) is None


def test_what_happens_during_a_cycle_is_not_missed() -> None:
    queue = Queue(WAKES)
    queue.add(info("p"), 0)
    popped(queue, 0)
    queue.happened(Event(Happening.NODE_ADD), 0)
    queue.failed("default/p", {"Fit"}, 0)
    assert popped(queue, 1.0) == "p"


def test_back_off_doubles_up_to_ten_seconds() -> None:
    queue, now, waits = Queue(WAKES), 0.0, []
    queue.add(info("p"), now)
    for _ in range(6):
        assert popped(queue, now) == "p"
        queue.failed("default/p", (), now, retry=True)
        due = queue.next_at()
        assert due is not None
        waits.append(due - now)
        now = due
    assert waits == [1, 2, 4, 8, 10, 10]


def test_a_stuck_pod_is_tried_again_after_five_minutes() -> None:
    queue = Queue(WAKES)
    queue.add(info("p"), 0)
    popped(queue, 0)
    queue.failed("default/p", {"Fit"}, 0)
    assert popped(queue, STUCK_SECONDS_MAX - 1) is None
    assert popped(queue, STUCK_SECONDS_MAX) == "p"


def test_gated_pods_wait_for_their_gates() -> None:
    queue = Queue(WAKES)
    queue.add(info("p"), 0, gate="waiting")
    queue.happened(Event(Happening.ANY), 1)
    assert popped(queue, 1) is None
    queue.add(info("p"), 2)
    assert popped(queue, 2) == "p"


def test_removed_pods_do_not_come_back() -> None:
    queue = Queue(WAKES)
    queue.add(info("p"), 0)
    queue.remove("default/p")
    assert popped(queue, 0) is None and len(queue) == 0
