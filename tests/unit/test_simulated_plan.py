"""Lives of pods on simulated nodes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from proa.kubelet.simulated.plan import Life, plan
from proa.meta.objects import Obj, copy_object
from proa.util.clock import rfc3339

START = datetime(2026, 1, 1, tzinfo=UTC)


def bound_pod(**spec: object) -> Obj:
    scheduled = {"type": "PodScheduled", "status": "True", "lastTransitionTime": rfc3339(START)}
    return {
        "metadata": {"name": "p", "namespace": "d", "uid": "u"},
        "spec": {"nodeName": "n", "containers": [{"name": "c", "image": "i"}], **spec},
        "status": {"phase": "Pending", "conditions": [scheduled]},
    }


def live(pod: Obj, life: Life, seconds: float) -> list[tuple[float, str, bool, int]]:
    """Lets a pod live so many virtual seconds; returns (when, phase, ready, restarts) of each change of its status."""
    pod, now, seen = copy_object(pod), START, []
    for _ in range(100):
        step = plan(pod, life, "10.0.0.1", "10.0.0.2", now)
        if step.remove:
            seen.append(((now - START).total_seconds(), "gone", False, 0))
            break
        if step.status is not None:
            pod["status"] = {**pod["status"], **step.status}
            container = pod["status"]["containerStatuses"][0]
            at = (now - START).total_seconds()
            seen.append((at, pod["status"]["phase"], container["ready"], container["restartCount"]))
        if step.after_seconds is None or now + timedelta(seconds=step.after_seconds) > START + timedelta(
            seconds=seconds
        ):
            break
        now += timedelta(seconds=step.after_seconds)
    return seen


@pytest.mark.parametrize(
    ("life", "policy", "seen"),
    [
        (Life(), "Always", [(0, "Running", True, 0)]),
        (Life(start_seconds=5, ready_seconds=3), "Always", [(5, "Running", False, 0), (8, "Running", True, 0)]),
        (Life(run_seconds=10), "Never", [(0, "Running", True, 0), (10, "Succeeded", False, 0)]),
        (Life(run_seconds=10, exit_code=3), "Never", [(0, "Running", True, 0), (10, "Failed", False, 0)]),
        (Life(run_seconds=10), "OnFailure", [(0, "Running", True, 0), (10, "Succeeded", False, 0)]),
        (Life(stuck_reason="ImagePullBackOff"), "Always", [(0, "Pending", False, 0)]),
    ],
)
def test_lives(life: Life, policy: str, seen: list) -> None:
    assert live(bound_pod(restartPolicy=policy), life, 100) == seen


def test_a_crashing_container_backs_off() -> None:
    seen = live(bound_pod(restartPolicy="Always"), Life(run_seconds=1, exit_code=1), 100)
    starts = [at for at, _, ready, _ in seen if ready]
    assert starts == [0, 1, 12, 33, 74]
    assert seen[-1][1] == "Running" and seen[-1][3] == 4


def test_a_deleted_pod_stops_in_time() -> None:
    pod = bound_pod()
    pod["metadata"].update(deletionTimestamp=rfc3339(START + timedelta(seconds=30)), deletionGracePeriodSeconds=30)
    assert live(pod, Life(stop_seconds=2), 100) == [(2, "gone", False, 0)]
    assert live(pod, Life(stop_seconds=99), 100) == [(30, "gone", False, 0)]


def test_readiness_gates_hold_ready_back() -> None:
    pod = bound_pod(readinessGates=[{"conditionType": "example.com/ok"}])
    status = plan(pod, Life(), "1.2.3.4", "1.2.3.5", START).status
    assert status is not None
    conditions = {one["type"]: one["status"] for one in status["conditions"]}
    assert conditions["Ready"] == "False" and conditions["ContainersReady"] == "True"
