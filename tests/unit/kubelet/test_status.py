"""The status that a pod shows: phase, conditions, container states."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from proa.kubelet.cri.types import EXITED
from proa.kubelet.plan import Health, Memory, Observed, plan
from proa.kubelet.report import status_patch
from proa.kubelet.status import Surroundings, pod_status

from .shapes import NOW, SANDBOX, container, observed, pod
from .test_plan import deleted

AROUND = Surroundings(host_ips=("192.168.1.2",))


def status(of: dict[str, Any], seen: Observed, memory: Memory | None = None, around: Surroundings = AROUND) -> Any:
    memory = memory or Memory()
    return pod_status(of, seen, plan(of, seen, memory, NOW), memory, around, datetime.fromtimestamp(NOW, UTC))


def condition(shown: Any, kind: str) -> tuple[str, str]:
    found = next(one for one in shown["conditions"] if one["type"] == kind)
    return found["status"], found.get("reason", "")


def ended(code: int = 0, name: str = "a", **more: Any) -> Any:
    return container(name, EXITED, exit_code=code, **more)


STOPPED = replace(SANDBOX, ready=False)


@pytest.mark.parametrize(
    ("policy", "containers", "phase"),
    [
        ("Always", [], "Pending"),
        ("Always", [container("a")], "Running"),
        ("Always", [ended(1)], "Running"),
        ("OnFailure", [ended(1)], "Running"),
        ("Never", [ended(1)], "Failed"),
        ("Never", [ended(0)], "Succeeded"),
        ("OnFailure", [ended(0)], "Succeeded"),
    ],
)
def test_phase(policy: str, containers: list[Any], phase: str) -> None:
    over = bool(containers) and containers[0].state == EXITED and phase in ("Failed", "Succeeded")
    seen = observed(*containers, sandbox=STOPPED if over else SANDBOX)
    assert status(pod("a", restartPolicy=policy), seen)["phase"] == phase


@pytest.mark.parametrize("policy", ["Always", "OnFailure", "Never"])
@pytest.mark.parametrize("code", [0, 137])
def test_a_pod_runs_while_a_container_is_replaced(policy: str, code: int) -> None:
    gone = ended(code)
    memory = Memory(replaced=frozenset({gone.id}))
    shown = status(pod("a", restartPolicy=policy), observed(gone), memory)
    assert shown["phase"] == "Running"
    (a,) = shown["containerStatuses"]
    assert a["state"] == {"waiting": {"reason": "ContainerCreating"}}
    assert a["lastState"]["terminated"]["exitCode"] == code


def test_phase_while_initializing() -> None:
    of = pod("a", initContainers=[{"name": "one"}])
    shown = status(of, observed(container("one")))
    assert shown["phase"] == "Pending"
    assert shown["containerStatuses"][0]["state"] == {"waiting": {"reason": "PodInitializing"}}
    assert condition(shown, "Initialized") == ("False", "ContainersNotInitialized")


@pytest.mark.parametrize(("code", "phase"), [(0, "Succeeded"), (137, "Failed")])
def test_a_deleted_pod_ends_in_a_final_phase(code: int, phase: str) -> None:
    of = pod("a", meta=deleted())
    assert status(of, observed(ended(code)))["phase"] == "Running"  # the sandbox is still there
    assert status(of, observed(ended(code), sandbox=STOPPED))["phase"] == phase


def test_a_final_phase_stays() -> None:
    of = pod("a")
    of["status"] = {"phase": "Failed", "reason": "Evicted", "message": "low on memory"}
    shown = status(of, observed(sandbox=STOPPED))
    assert (shown["phase"], shown["reason"]) == ("Failed", "Evicted")


def test_a_ready_pod() -> None:
    shown = status(pod("a", meta={"generation": 3}), observed(container("a")))
    for kind in ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"):
        assert condition(shown, kind)[0] == "True"
    assert shown["podIP"] == "10.0.0.5"
    assert shown["hostIPs"] == [{"ip": "192.168.1.2"}]
    assert shown["observedGeneration"] == 3
    (one,) = shown["containerStatuses"]
    assert (one["ready"], one["started"], one["restartCount"]) == (True, True, 0)
    assert one["containerID"] == "containerd://a-0"


def test_a_failing_readiness_probe_makes_the_pod_unready() -> None:
    memory = Memory(health={"a-0": Health(ready=False)})
    shown = status(pod("a"), observed(container("a")), memory)
    assert shown["phase"] == "Running"
    assert condition(shown, "Ready") == ("False", "ContainersNotReady")
    assert shown["conditions"][2]["message"] == "containers with unready status: [a]"


def test_readiness_gates_count() -> None:
    of = pod("a", readinessGates=[{"conditionType": "example.com/x"}])
    assert condition(status(of, observed(container("a"))), "Ready") == ("False", "ReadinessGatesNotReady")
    of["status"] = {"conditions": [{"type": "example.com/x", "status": "True"}]}
    shown = status(of, observed(container("a")))
    assert condition(shown, "Ready")[0] == "True"
    assert condition(shown, "example.com/x")[0] == "True"


def test_a_condition_keeps_the_time_of_its_last_change() -> None:
    of = pod("a")
    of["status"] = {"conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2020-01-01T00:00:00Z"}]}
    shown = status(of, observed(container("a")))
    assert next(one for one in shown["conditions"] if one["type"] == "Ready")["lastTransitionTime"].startswith("2020")


def test_a_crashing_container_waits_with_its_last_end_shown() -> None:
    around = replace(AROUND, messages={"a-1": "no disk"})
    (one,) = status(pod("a"), observed(ended(1, count=1, step=1)), around=around)["containerStatuses"]
    assert one["state"]["waiting"]["reason"] == "CrashLoopBackOff"
    assert one["lastState"]["terminated"]["exitCode"] == 1
    assert one["lastState"]["terminated"]["message"] == "no disk"
    assert one["restartCount"] == 1


def test_a_restarted_container_shows_its_last_end() -> None:
    (one,) = status(pod("a"), observed(ended(2), container("a", count=1)))["containerStatuses"]
    assert "running" in one["state"]
    assert one["lastState"]["terminated"]["reason"] == "Error"
    assert one["restartCount"] == 1


def test_a_rejected_pod_fails_with_the_reason() -> None:
    shown = status(pod("a"), Observed(), Memory(rejected=("OutOfcpu", "Pod was rejected: …")))
    assert (shown["phase"], shown["reason"]) == ("Failed", "OutOfcpu")


def test_the_patch_leaves_conditions_of_others_alone() -> None:
    of = pod("a")
    of["status"] = {"reason": "Old", "conditions": [{"type": "example.com/x", "status": "True"}]}
    patch = status_patch(of, {**status(pod("a"), observed(container("a")))}, None)
    assert patch["metadata"] == {"uid": "u"}
    assert patch["status"]["reason"] is None
    assert patch["status"]["podIPs"] == [{"$patch": "replace"}, {"ip": "10.0.0.5"}]
    assert "example.com/x" not in {one["type"] for one in patch["status"]["conditions"]}
    assert all("reason" in one for one in patch["status"]["conditions"])
