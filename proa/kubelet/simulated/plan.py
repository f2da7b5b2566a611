"""What a simulated kubelet does with a pod next: a pure function of the pod, its life and the time.

Everything is read off the pod's own status, so a restarted simulator goes on where the last one was.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from proa.apis.pod_resources import is_sidecar, qos_class
from proa.meta.objects import Obj, labels_of, metadata, namespace_of
from proa.util.clock import parse_rfc3339, rfc3339

FOREVER = float("inf")
CRASH_BACKOFF_SECONDS_MIN = 10.0
CRASH_BACKOFF_SECONDS_MAX = 300.0
KILLED = 137  # what a container exits with whose pod is deleted


@dataclass(frozen=True, slots=True, kw_only=True)
class Life:
    """How pods that match live. Times are seconds: from binding to running, from running to ready, how long their
    containers run (FOREVER: until deleted) and with which code they exit, and how long they take to stop. `usage` is
    what a pod is said to use, by resource (`cpu`, `memory`) as quantities; by default what it requests.

    A pod's labels may change, and with them its life: one that is not ready yet in its new life falls back.
    """

    labels: Mapping[str, str] = field(default_factory=dict)
    namespace: str = ""
    start_seconds: float = 0.0
    ready_seconds: float = 0.0
    run_seconds: float = FOREVER
    exit_code: int = 0
    stop_seconds: float = 0.0
    usage: Mapping[str, str] = field(default_factory=dict)
    # Set: the containers never start, but wait with this reason, such as ImagePullBackOff.
    stuck_reason: str = ""

    def matches(self, pod: Obj) -> bool:
        labels = labels_of(pod)
        return (not self.namespace or self.namespace == namespace_of(pod)) and all(
            labels.get(key) == value for key, value in self.labels.items()
        )


@dataclass(frozen=True, slots=True)
class Step:
    """Write `status` (None: leave it), or remove the pod for good; look again in `after_seconds` (None: only when it
    changes)."""

    status: Obj | None = None
    remove: bool = False
    after_seconds: float | None = None


def plan(pod: Obj, life: Life, pod_ip: str, host_ip: str, now: datetime) -> Step:
    """Returns the next step for a pod that is bound to a simulated node."""
    status: Obj = pod.get("status") or {}
    if metadata(pod).get("deletionTimestamp"):
        return _stop(pod, life, now)
    if status.get("phase") in ("Succeeded", "Failed"):
        return Step()
    running = _running_since(status)
    if running is None:
        return _start(pod, life, pod_ip, host_ip, now)
    return _run(pod, life, running, now)


def usage_annotations(life: Life) -> dict[str, str]:
    """Returns the annotations that tell the API server what a pod uses."""
    return {f"proa.dev/usage-{resource}": quantity for resource, quantity in life.usage.items()}


def _stop(pod: Obj, life: Life, now: datetime) -> Step:
    deleted = parse_rfc3339(metadata(pod)["deletionTimestamp"])
    asked = deleted - timedelta(seconds=metadata(pod).get("deletionGracePeriodSeconds") or 0)
    due = min(deleted, asked + timedelta(seconds=life.stop_seconds))
    if now < due:
        return Step(after_seconds=(due - now).total_seconds())
    status: Obj = pod.get("status") or {}
    since = _running_since(status)
    if not metadata(pod).get("finalizers") or since is None or status.get("phase") in ("Succeeded", "Failed"):
        return Step(remove=True)
    # Whoever holds the pod back wants to know how it ended.
    terminated = {"exitCode": KILLED, "reason": "Error", "startedAt": rfc3339(since), "finishedAt": rfc3339(now)}
    addresses = status.get("podIP") or "", status.get("hostIP") or ""
    restarts = max(one.get("restartCount") or 0 for one in status["containerStatuses"])
    ended = _status(pod, *addresses, {"terminated": terminated}, ready=False, now=now, restarts=restarts)
    return Step({**ended, "phase": "Failed"})


def _running_since(status: Obj) -> datetime | None:
    """Returns when the containers that run (or wait to run again) last started, None if they never did."""
    started = [
        state["startedAt"]
        for container in status.get("containerStatuses") or ()
        for state in (container["state"].get("running") or (container.get("lastState") or {}).get("terminated") or {},)
        if "startedAt" in state
    ]
    return parse_rfc3339(max(started)) if started else None


def _start(pod: Obj, life: Life, pod_ip: str, host_ip: str, now: datetime) -> Step:
    status: Obj = pod.get("status") or {}
    bound = _condition(status, "PodScheduled").get("lastTransitionTime")
    due = (parse_rfc3339(bound) if bound else now) + timedelta(seconds=life.start_seconds)
    if life.stuck_reason:
        waiting = {"waiting": {"reason": life.stuck_reason}}
        changed = _status(pod, pod_ip, host_ip, waiting, ready=False, now=now)
        return Step(changed) if _differs(status, changed) else Step()
    if now < due:
        return Step(after_seconds=(due - now).total_seconds())
    ready = life.ready_seconds <= 0
    running = {"running": {"startedAt": rfc3339(now)}}
    after = None if life.run_seconds == FOREVER else life.run_seconds
    if not ready:
        after = min(life.ready_seconds, life.run_seconds)
    return Step(_status(pod, pod_ip, host_ip, running, ready=ready, now=now), after_seconds=after)


def _run(pod: Obj, life: Life, since: datetime, now: datetime) -> Step:
    status: Obj = pod["status"]
    pod_ip, host_ip = status.get("podIP") or "", status.get("hostIP") or ""
    age = (now - since).total_seconds()
    restarts = max(one.get("restartCount") or 0 for one in status["containerStatuses"])
    if any("waiting" in one["state"] for one in status["containerStatuses"]):
        return _restart(pod, life, since, restarts, now)
    if age >= life.run_seconds:
        return _exit(pod, life, since, restarts, now)
    running = {"running": {"startedAt": rfc3339(since)}}
    changed = _status(pod, pod_ip, host_ip, running, ready=age >= life.ready_seconds, now=now, restarts=restarts)
    due = [one - age for one in (life.ready_seconds, life.run_seconds) if age < one < FOREVER]
    known = {one["type"]: one["status"] for one in status.get("conditions") or ()}
    same = all(known.get(one["type"]) == one["status"] for one in changed["conditions"])
    return Step(None if same else changed, after_seconds=min(due, default=None))


def _exit(pod: Obj, life: Life, since: datetime, restarts: int, now: datetime) -> Step:
    status: Obj = pod["status"]
    policy = pod["spec"].get("restartPolicy") or "Always"
    terminated = {
        "exitCode": life.exit_code,
        "reason": "Error" if life.exit_code else "Completed",
        "startedAt": rfc3339(since),
        "finishedAt": rfc3339(now),
    }
    pod_ip, host_ip = status.get("podIP") or "", status.get("hostIP") or ""
    if policy == "Always" or (policy == "OnFailure" and life.exit_code):
        waiting = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off restarting failed container"}}
        last = {"terminated": terminated}
        changed = _status(pod, pod_ip, host_ip, waiting, ready=False, now=now, restarts=restarts, last=last)
        return Step({**changed, "phase": "Running"}, after_seconds=_backoff(restarts))
    changed = _status(pod, pod_ip, host_ip, {"terminated": terminated}, ready=False, now=now, restarts=restarts)
    phase = "Failed" if life.exit_code else "Succeeded"
    return Step({**changed, "phase": phase})


def _restart(pod: Obj, life: Life, since: datetime, restarts: int, now: datetime) -> Step:
    status: Obj = pod["status"]
    last = status["containerStatuses"][0].get("lastState") or {}
    finished = parse_rfc3339(last["terminated"]["finishedAt"])
    wait = _backoff(restarts) - (now - finished).total_seconds()
    if wait > 0:
        return Step(after_seconds=wait)
    running = {"running": {"startedAt": rfc3339(now)}}
    changed = _status(
        pod,
        status.get("podIP") or "",
        status.get("hostIP") or "",
        running,
        ready=life.ready_seconds <= 0,
        now=now,
        restarts=restarts + 1,
        last=last,
    )
    return Step(changed, after_seconds=min(life.run_seconds, life.ready_seconds or FOREVER))


def _backoff(restarts: int) -> float:
    if restarts == 0:
        return 0.0
    return min(CRASH_BACKOFF_SECONDS_MIN * 2.0 ** min(restarts - 1, 16), CRASH_BACKOFF_SECONDS_MAX)


def _condition(status: Obj, kind: str) -> Obj:
    return next((one for one in status.get("conditions") or () if one.get("type") == kind), {})


def _differs(status: Obj, changed: Obj) -> bool:
    return any(status.get(key) != value for key, value in changed.items() if key != "conditions")


def _status(
    pod: Obj,
    pod_ip: str,
    host_ip: str,
    state: Obj,
    *,
    ready: bool,
    now: datetime,
    restarts: int = 0,
    last: Obj | None = None,
) -> Obj:
    """Builds the status of a pod whose main containers are all in one state."""
    spec, old = pod["spec"], pod.get("status") or {}
    if spec.get("hostNetwork"):
        pod_ip = host_ip
    started = "running" in state
    gates = all(
        _condition(old, gate["conditionType"]).get("status") == "True" for gate in spec.get("readinessGates") or ()
    )
    begun = started or "terminated" in state
    conditions = [
        _renewed(old, "PodReadyToStartContainers", True, now),
        _renewed(old, "Initialized", begun, now),
        _renewed(old, "Ready", ready and gates, now, "" if ready and gates else _unready_reason(state, ready)),
        _renewed(old, "ContainersReady", ready, now, "" if ready else _unready_reason(state, ready)),
    ]
    known = {one["type"] for one in conditions}
    conditions += [one for one in old.get("conditions") or () if one["type"] not in known]
    statuses = [_container(one, state, ready, restarts, last, pod) for one in spec["containers"]]
    done = {"terminated": {"exitCode": 0, "reason": "Completed", "startedAt": rfc3339(now), "finishedAt": rfc3339(now)}}
    init = [
        _container(one, state if is_sidecar(one) else done, True, 0, None, pod)
        for one in spec.get("initContainers") or ()
    ]
    status = {
        "phase": "Running" if started else old.get("phase") or "Pending",
        "hostIP": host_ip,
        "hostIPs": [{"ip": host_ip}],
        "podIP": pod_ip,
        "podIPs": [{"ip": pod_ip}],
        "qosClass": old.get("qosClass") or qos_class(pod),
        "startTime": old.get("startTime") or rfc3339(now),
        "conditions": conditions,
        "containerStatuses": statuses,
    }
    if init and begun:
        status["initContainerStatuses"] = init
    return status


def _unready_reason(state: Obj, ready: bool) -> str:
    if "terminated" in state:
        return "PodCompleted" if not state["terminated"]["exitCode"] else "PodFailed"
    return "ReadinessGatesNotReady" if ready else "ContainersNotReady"


def _renewed(old: Obj, kind: str, good: bool, now: datetime, reason: str = "") -> Obj:
    known, value = _condition(old, kind), "True" if good else "False"
    same = known.get("status") == value
    condition: Obj = {
        "type": kind,
        "status": value,
        "lastProbeTime": None,
        "lastTransitionTime": known["lastTransitionTime"] if same else rfc3339(now),
    }
    if reason:
        condition["reason"] = reason
    return condition


def _container(container: Obj, state: Obj, ready: bool, restarts: int, last: Obj | None, pod: Obj) -> Obj:
    running = "running" in state
    status: Obj = {
        "name": container["name"],
        "image": container.get("image") or "",
        "imageID": "",
        "ready": ready and running,
        "started": running,
        "restartCount": restarts,
        "state": state,
        "lastState": last or {},
    }
    if "waiting" not in state or last:
        status["containerID"] = f"simulated://{metadata(pod).get('uid')}/{container['name']}/{restarts}"
    return status
