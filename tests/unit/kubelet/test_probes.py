"""Probes: thresholds, order, what they do to a container's health."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from proa.kubelet.handlers import Outcome
from proa.kubelet.probes import ContainerProbes, ProbeState, advance, told
from proa.meta.objects import Obj
from proa.util.virtualtime import run_virtual


@pytest.mark.parametrize(
    ("first", "outcomes", "passing"),
    [
        (False, [True], True),
        (True, [False, False], True),
        (True, [False, False, False], False),
        (True, [False, False, True, False, False], True),
        (False, [False, True], True),
    ],
)
def test_thresholds(first: bool, outcomes: list[bool], passing: bool) -> None:
    state = ProbeState(first)
    for ok in outcomes:
        state = advance(state, ok, 1, 3)
    assert state.passing is passing


def watch(
    container: Obj, script: dict[str, list[bool]], seconds: float, **given: Any
) -> list[tuple[float, bool, bool, str]]:
    """Runs probes with outcomes scripted by path (the last repeats); returns (second, started, ready, failed)."""

    async def run() -> list[tuple[float, bool, bool, str]]:
        loop = asyncio.get_running_loop()
        begun, seen = loop.time(), []

        async def attempt(probe: Obj) -> Outcome:
            outcomes = script[probe["httpGet"]["path"]]
            return Outcome(outcomes.pop(0) if len(outcomes) > 1 else outcomes[0])

        def changed() -> None:
            health = probes.health
            seen.append((round(loop.time() - begun), health.started, health.ready, health.failed))

        probes = ContainerProbes(container, attempt, changed, lambda kind, outcome: None, age_seconds=0.0, **given)
        await asyncio.sleep(seconds)
        probes.stop()
        return seen

    return run_virtual(run())


def probe(path: str, **more: Any) -> Obj:
    return {"httpGet": {"path": path, "port": 80}, "periodSeconds": 10, **more}


def test_a_container_becomes_ready_and_unready() -> None:
    container = {"readinessProbe": probe("r", initialDelaySeconds=5, failureThreshold=2)}
    seen = watch(container, {"r": [False, True, False, False, True]}, 60)
    assert seen == [(15, True, True, ""), (35, True, False, ""), (45, True, True, "")]


def test_liveness_fails_once_for_all() -> None:
    container = {"livenessProbe": probe("l", terminationGracePeriodSeconds=3)}
    assert watch(container, {"l": [True, False]}, 120) == [(30, True, True, "liveness")]


def test_startup_comes_first() -> None:
    container = {"startupProbe": probe("s", periodSeconds=1), "livenessProbe": probe("l"), "readinessProbe": probe("r")}
    seen = watch(container, {"s": [False, False, True], "l": [True], "r": [True]}, 30)
    assert seen == [(2, True, False, ""), (2, True, True, "")]
    assert watch(container, {"s": [False], "l": [True], "r": [True]}, 30) == [(2, False, False, "startup")]


def test_a_new_agent_goes_on_with_what_was_reported() -> None:
    container = {"readinessProbe": probe("r"), "startupProbe": probe("s")}
    assert watch(container, {"s": [False], "r": [True]}, 60, started=True, ready=True) == []


@pytest.mark.parametrize("kind", ["liveness", "readiness", "startup"])
def test_a_probe_that_cannot_be_carried_out_says_nothing(kind: str) -> None:
    """Three tries each time, an event, and no threshold comes nearer."""

    async def run() -> tuple[int, list[str], bool, str]:
        tries = 0
        said = []

        async def attempt(probe: Obj) -> Outcome:
            nonlocal tries
            tries += 1
            return Outcome(False, "no such command", errored=True)

        container = {f"{kind}Probe": probe("x", failureThreshold=1)}
        probes = ContainerProbes(
            container, attempt, lambda: None, lambda kind, outcome: said.append(told(kind, outcome)), age_seconds=0.0
        )
        await asyncio.sleep(35)
        probes.stop()
        return tries, said, probes.health.ready and probes.health.started, probes.health.failed

    tries, said, good, failed = run_virtual(run())
    assert (tries, len(said), failed) == (12, 4, "")
    assert set(said) == {f"{kind.capitalize()} probe errored and resulted in unknown state: no such command"}
    assert good is (kind == "liveness")
