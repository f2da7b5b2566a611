"""What a pod worker decides: starts, restarts, back-off, order, ends."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from proa.kubelet.cri.types import CREATED, EXITED, UNKNOWN, Container
from proa.kubelet.plan import (
    NANO,
    CreateSandbox,
    Health,
    KillContainer,
    Memory,
    Observed,
    Plan,
    Refusal,
    StartContainer,
    StopSandbox,
    backoff_seconds,
    plan,
    restart_step,
)
from proa.kubelet.podspec import CONTAINER_HASH
from proa.util.clock import rfc3339

from .shapes import NOW, SANDBOX, container, observed, pod


def decide(of: dict[str, Any], seen: Observed, memory: Memory | None = None, now: float = NOW, **hashes: str) -> Plan:
    return plan(of, seen, memory or Memory(), now, hashes)


def starts(decided: Plan) -> list[str]:
    return [one.name for one in decided.actions if isinstance(one, StartContainer)]


def kills(decided: Plan) -> list[str]:
    return [one.name for one in decided.actions if isinstance(one, KillContainer)]


def deleted(seconds: int = 30) -> dict[str, Any]:
    return {
        "deletionTimestamp": rfc3339(datetime.fromtimestamp(NOW + seconds, UTC)),
        "deletionGracePeriodSeconds": seconds,
    }


def test_a_new_pod_gets_a_sandbox_then_its_containers() -> None:
    assert decide(pod("a", "b"), Observed()).actions == (CreateSandbox(0),)
    assert starts(decide(pod("a", "b"), observed())) == ["a", "b"]
    assert decide(pod("a"), observed(container("a"))).actions == ()


def test_containers_wait_for_the_volumes_and_the_sandbox_for_none_that_was_refused() -> None:
    making = Memory(volumes_ready=False)
    assert decide(pod("a"), Observed(), making).actions == (CreateSandbox(0),)
    assert decide(pod("a"), observed(), making).actions == ()
    refused = Memory(volumes_ready=False, volumes_refused=True)
    assert decide(pod("a"), Observed(), refused).actions == ()


def test_init_containers_run_one_after_the_other() -> None:
    of = pod("a", initContainers=[{"name": "one"}, {"name": "two"}])
    done = container("one", EXITED)
    assert starts(decide(of, observed())) == ["one"]
    assert starts(decide(of, observed(container("one")))) == []
    assert starts(decide(of, observed(done))) == ["two"]
    assert starts(decide(of, observed(done, container("two", EXITED)))) == ["a"]


def test_a_sidecar_must_have_started_before_what_follows() -> None:
    of = pod("a", initContainers=[{"name": "side", "restartPolicy": "Always", "startupProbe": {}}, {"name": "two"}])
    running = container("side")
    waiting = Memory(health={running.id: Health(started=False, ready=False)})
    assert starts(decide(of, observed(running), waiting)) == []
    assert starts(decide(of, observed(running))) == ["two"]
    ended = container("side", EXITED)
    assert starts(decide(of, observed(ended, container("two", EXITED), container("a")))) == ["side"]


@pytest.mark.parametrize(
    ("policy", "code", "restarted"),
    [("Always", 0, True), ("Always", 1, True), ("OnFailure", 0, False), ("OnFailure", 1, True), ("Never", 1, False)],
)
def test_restart_policies(policy: str, code: int, restarted: bool) -> None:
    ended = container("a", EXITED, exit_code=code)
    decided = decide(pod("a", "b", restartPolicy=policy), observed(ended, container("b")))
    assert starts(decided) == (["a"] if restarted else [])


def test_a_rule_of_a_container_restarts_it_by_exit_code() -> None:
    rules = [{"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}]
    of = pod({"name": "a", "restartPolicy": "Never", "restartPolicyRules": rules}, "b", restartPolicy="Never")
    for code, restarted in ((42, ["a"]), (1, [])):
        assert starts(decide(of, observed(container("a", EXITED, exit_code=code), container("b")))) == restarted


def test_backoff_doubles_to_five_minutes() -> None:
    assert [backoff_seconds(step) for step in range(8)] == [0, 10, 20, 40, 80, 160, 300, 300]
    first = container("a", EXITED, exit_code=1)
    assert decide(pod("a"), observed(first)).actions == (StartContainer("a", 1, 1),)
    second = container("a", EXITED, exit_code=1, count=1, step=1)
    decided = decide(pod("a"), observed(second), now=NOW + 4)
    assert decided.actions == ()
    assert decided.wake_at == pytest.approx(NOW + 10)
    reason, message = decided.waiting["a"]
    assert reason == "CrashLoopBackOff"
    assert message == "back-off 10s restarting failed container=a pod=web_default(u)"
    assert decide(pod("a"), observed(second), now=NOW + 10).actions == (StartContainer("a", 2, 2),)


def test_backoff_is_forgotten_after_ten_minutes_of_running() -> None:
    long = container("a", EXITED, step=5, started_at=NOW - 601)
    assert restart_step(long) == (1, 0.0)
    assert restart_step(container("a", EXITED, step=5, started_at=NOW - 599))[0] == 6


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"state": UNKNOWN}, "Container a is in unknown state, try killing it before restart"),
        ({"annotations": {"io.kubernetes.container.hash": "old"}}, "Container a definition changed, will be restarted"),
    ],
)
def test_what_must_be_replaced_is_killed(change: dict[str, Any], message: str) -> None:
    (action,) = decide(pod("a"), observed(replace(container("a"), **change)), a="new").actions
    assert isinstance(action, KillContainer)
    assert action.message == message


def test_a_failed_probe_kills_within_its_own_grace_period() -> None:
    running = container("a")
    memory = Memory(health={running.id: Health(True, True, "liveness", 5)})
    assert decide(pod("a"), observed(running), memory).actions == (
        KillContainer(running.id, "a", "Container a failed liveness probe, will be restarted", NOW + 5),
    )


def test_a_refusal_waits_and_is_shown() -> None:
    memory = Memory(refusals={"a": Refusal("ErrImagePull", "no such image", NOW + 5)})
    decided = decide(pod("a"), observed(), memory)
    assert decided.actions == ()
    assert decided.wake_at == NOW + 5
    assert decided.waiting == {"a": ("ErrImagePull", "no such image")}
    assert starts(decide(pod("a"), observed(), memory, now=NOW + 5)) == ["a"]


def test_a_container_never_started_is_made_again() -> None:
    made = container("a", CREATED, count=2, step=3, started_at=NOW)
    assert decide(pod("a"), observed(made)).actions == (StartContainer("a", 2, 3),)


def test_a_lost_sandbox_is_replaced_once_its_containers_ended() -> None:
    gone = replace(SANDBOX, ready=False)
    assert kills(decide(pod("a"), observed(container("a"), sandbox=gone))) == ["a"]
    ended = container("a", EXITED, exit_code=137)
    assert decide(pod("a"), observed(ended, sandbox=gone)).actions == (CreateSandbox(1),)
    assert decide(pod("a", restartPolicy="Never"), observed(ended, sandbox=gone)).gone


def test_what_had_ended_well_is_not_repeated_in_a_new_sandbox() -> None:
    fresh = replace(SANDBOX, id="s1", attempt=1)
    seen = observed(container("a", EXITED), container("b", EXITED, exit_code=1), sandbox=fresh)
    assert starts(decide(pod("a", "b", restartPolicy="OnFailure"), seen)) == ["b"]


def test_a_deleted_pod_ends_in_order() -> None:
    sidecars = [{"name": "one", "restartPolicy": "Always"}, {"name": "two", "restartPolicy": "Always"}]
    of = pod("a", meta=deleted(), initContainers=sidecars)
    every: list[Container] = [container("a"), container("one"), container("two")]
    assert kills(decide(of, observed(*every))) == ["a"]
    assert kills(decide(of, observed(container("a", EXITED), *every[1:]))) == ["two"]
    last = observed(container("a", EXITED), container("one"), container("two", EXITED))
    assert kills(decide(of, last)) == ["one"]
    ended = [container(name, EXITED) for name in ("a", "one", "two")]
    assert decide(of, observed(*ended)).actions == (StopSandbox("s0"),)
    assert decide(of, observed(*ended, sandbox=replace(SANDBOX, ready=False))).gone


@pytest.mark.parametrize(("asked", "given"), [(30, 30.0), (0, 2.0), (1, 2.0)])
def test_the_grace_period_is_two_seconds_at_least(asked: int, given: float) -> None:
    (action,) = decide(pod("a", meta=deleted(asked)), observed(container("a"))).actions
    assert isinstance(action, KillContainer)
    assert action.until == NOW + given


def test_a_pod_past_its_deadline_fails() -> None:
    of = pod("a", activeDeadlineSeconds=60)
    of["status"] = {"startTime": rfc3339(datetime.fromtimestamp(NOW, UTC))}
    assert decide(of, observed(container("a"))).wake_at == NOW + 60
    over = decide(of, observed(container("a")), now=NOW + 60)
    assert kills(over) == ["a"]
    assert over.verdict
    assert over.verdict[0] == "DeadlineExceeded"


def test_a_finished_pod_ends_its_sidecars_and_sandbox() -> None:
    of = pod("a", restartPolicy="Never", initContainers=[{"name": "side", "restartPolicy": "Always"}])
    assert kills(decide(of, observed(container("a", EXITED), container("side")))) == ["side"]


def test_a_failed_init_container_ends_a_pod_that_never_restarts() -> None:
    of = pod("a", restartPolicy="Never", initContainers=[{"name": "one"}])
    assert decide(of, observed(container("one", EXITED, exit_code=1))).terminating
    again = pod("a", initContainers=[{"name": "one"}])
    assert starts(decide(again, observed(container("one", EXITED, exit_code=1)))) == ["one"]


def test_ephemeral_containers_start_once() -> None:
    of = pod("a", ephemeralContainers=[{"name": "debug"}])
    assert starts(decide(of, observed(container("a")))) == ["debug"]
    assert starts(decide(of, observed(container("a"), container("debug", EXITED)))) == []


def test_a_rejected_pod_is_gone_at_once() -> None:
    decided = decide(pod("a"), Observed(), Memory(rejected=("OutOfcpu", "too little")))
    assert decided.gone
    assert decided.verdict == ("OutOfcpu", "too little")


@pytest.mark.parametrize("policy", ["Always", "OnFailure", "Never"])
def test_a_changed_container_is_replaced_whatever_the_policy(policy: str) -> None:
    of = pod("a", restartPolicy=policy)
    running = container("a", annotations={CONTAINER_HASH: "old"})
    (kill,) = decide(of, observed(running), a="new").actions
    assert isinstance(kill, KillContainer) and kill.replace
    ended = replace(running, state=EXITED, finished_at=int(NOW * NANO))
    decided = decide(of, observed(ended), Memory(replaced=frozenset({ended.id})), a="new")
    assert starts(decided) == ["a"] and not decided.terminating


def test_what_ended_by_itself_is_not_started_again_for_a_change() -> None:
    of = pod("a", restartPolicy="Never")
    ended = container("a", EXITED, annotations={CONTAINER_HASH: "old"})
    assert decide(of, observed(ended), a="new").terminating


def test_a_new_image_does_not_wait() -> None:
    of = pod("a")
    crashed = container("a", EXITED, count=4, step=4)
    assert starts(decide(of, observed(crashed))) == []
    changed = replace(crashed, annotations={**crashed.annotations, CONTAINER_HASH: "old"})
    (start,) = decide(of, observed(changed), a="new").actions
    assert start == StartContainer("a", 5, 1)
