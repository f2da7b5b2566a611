"""All containers of a pod restarted together when one ends as its rule says (KEP-5532)."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from proa.kubelet.cri.types import EXITED, Container
from proa.kubelet.plan import KillContainer, Memory, Observed, StartContainer, in_round, plan
from proa.kubelet.podspec import ROUND
from proa.kubelet.status import Surroundings, pod_status

from .shapes import NOW, container, observed, pod

RULE = {"action": "RestartAllContainers", "exitCodes": {"operator": "In", "values": [42]}}
WATCHER = {"name": "watcher", "restartPolicy": "Always", "restartPolicyRules": [RULE]}
POD = pod("main", initContainers=[{"name": "setup"}, WATCHER], restartPolicy="Never")
DONE = container("setup", EXITED)
TRIGGER = container("watcher", EXITED, exit_code=42)


def later(one: Container, **more: Any) -> Container:
    """The container of the next round."""
    annotations = {**one.annotations, ROUND: "1"}
    return replace(one, id=f"{one.id}-again", created_at=one.created_at + 1, annotations=annotations, **more)


def seen(*containers: Container) -> Observed:
    found = observed(*containers)
    newest_first = {
        name: tuple(sorted(history, key=lambda one: -one.created_at)) for name, history in found.containers.items()
    }
    return in_round(POD, replace(found, containers=newest_first))


def actions(of: Observed) -> list[Any]:
    return list(plan(POD, of, Memory(), NOW).actions)


def shown(of: Observed) -> Any:
    decided = plan(POD, of, Memory(), NOW)
    return pod_status(POD, of, decided, Memory(), Surroundings(), datetime.fromtimestamp(NOW, UTC))


def restarting(status: Any) -> tuple[str, str]:
    (found,) = [one for one in status["conditions"] if one["type"] == "AllContainersRestarting"]
    return found["status"], found.get("reason", "")


def test_first_all_are_ended_at_once() -> None:
    of = seen(DONE, TRIGGER, container("main"))
    (kill,) = actions(of)
    assert isinstance(kill, KillContainer) and (kill.name, kill.abrupt, kill.until) == ("main", True, NOW)
    status = shown(of)
    assert restarting(status) == ("True", "RestartAllContainersStarted")
    assert status["phase"] == "Running"


@pytest.mark.parametrize("code", [0, 137])
def test_then_they_begin_anew_in_order(code: int) -> None:
    """The first init container runs again, although it had succeeded and the pod's policy is never to restart."""
    of = seen(DONE, TRIGGER, container("main", EXITED, exit_code=code))
    assert actions(of) == [StartContainer("setup", 1, 1, round=1)]
    status = shown(of)
    assert restarting(status) == ("False", "")
    assert status["phase"] == "Running"
    (main,) = status["containerStatuses"]
    assert main["state"] == {"waiting": {"reason": "PodInitializing"}}
    assert main["lastState"]["terminated"]["exitCode"] == code


def test_a_new_round_forgets_the_old_ones_trigger() -> None:
    old = (DONE, TRIGGER, container("main", EXITED, exit_code=137))
    setup = later(DONE)
    assert [one.name for one in actions(seen(*old, setup))] == ["watcher"]
    watcher = later(TRIGGER, state="running", exit_code=0, finished_at=0)
    assert [one.name for one in actions(seen(*old, setup, watcher))] == ["main"]
    main = later(old[2], state="running", exit_code=0, finished_at=0)
    assert actions(seen(*old, setup, watcher, main)) == []
    assert seen(*old, setup, watcher, main).round == 1


def test_other_ends_are_as_ever() -> None:
    of = seen(DONE, container("watcher"), container("main", EXITED))
    assert of.round == 0 and not of.restarting
    assert plan(POD, of, Memory(), NOW).terminating
