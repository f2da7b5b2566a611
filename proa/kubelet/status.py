"""A pod's status from what the runtime shows: phase, conditions, container statuses. Pure.

Follows upstream's kubelet: `getPhase`, the pod conditions (PodReadyToStartContainers, Initialized, ContainersReady,
Ready with readiness gates), and the reasons a user reads in `kubectl get pods`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from proa.apis.podspec.features import restarts_all
from proa.kubelet.cri.types import CREATED, EXITED, RUNNING, Container
from proa.kubelet.eviction import EVICTED
from proa.kubelet.plan import NANO, Health, Memory, Observed, Plan, restart_count, round_of
from proa.kubelet.podspec import (
    EPHEMERAL,
    INIT,
    MAIN,
    SIDECAR,
    ContainerSpec,
    by_kind,
    containers_of,
    host_network,
    is_terminal,
    qos_class,
    restart_policy,
)
from proa.meta.objects import Obj, copy_object, metadata
from proa.util.clock import rfc3339

OWNED_CONDITIONS = (
    "PodReadyToStartContainers",
    "Initialized",
    "Ready",
    "ContainersReady",
    "PodScheduled",
    "AllContainersRestarting",
)
RESIZE_CONDITIONS = ("PodResizePending", "PodResizeInProgress")


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What a status needs beside the pod: the node's addresses, the runtime's name, messages that containers left.

    `messages` are termination messages by container id; `starting` the containers whose start (with its postStart hook)
    is under way. `resources` is what running containers have, by container id; `resize` the conditions of a resize, and
    `resize_pending` says that the node has not (yet) set aside what the pod now asks for.
    """

    host_ips: tuple[str, ...] = ()
    runtime_name: str = "containerd"
    messages: Mapping[str, str] = field(default_factory=dict)
    starting: frozenset[str] = frozenset()
    resources: Mapping[str, Obj] = field(default_factory=dict)
    resize: Sequence[Obj] = ()
    resize_pending: bool = False


def pod_status(pod: Obj, observed: Observed, plan: Plan, memory: Memory, around: Surroundings, now: datetime) -> Obj:
    """Returns the status to report; `pod["status"]` is what was reported before. Terminal phases are never left."""
    before = pod.get("status") or {}
    status: Obj = {}
    groups = {
        "initContainerStatuses": by_kind(pod, INIT, SIDECAR),
        "containerStatuses": by_kind(pod, MAIN),
        "ephemeralContainerStatuses": by_kind(pod, EPHEMERAL),
    }
    initialized = _has_initialized(pod, observed, memory)
    for key, containers in groups.items():
        known = {one["name"]: one for one in before.get(key) or []}
        made = [
            _container_status(pod, one, observed, plan, memory, around, known.get(one.name), initialized)
            for one in containers
        ]
        if made:
            status[key] = made
    phase = before["phase"] if is_terminal(pod) else _phase(pod, status, plan, _being_replaced(pod, observed, memory))
    verdict = plan.verdict
    if not is_terminal(pod) and verdict and plan.gone:
        phase = "Failed"
        status["reason"], status["message"] = verdict
    elif is_terminal(pod) or (before.get("reason") and not plan.terminating):
        for key in ("reason", "message"):
            if before.get(key):
                status[key] = before[key]
    status["phase"] = phase
    status["startTime"] = before.get("startTime") or rfc3339(now)
    status["qosClass"] = before.get("qosClass") or qos_class(pod)
    if around.host_ips:
        status["hostIP"] = around.host_ips[0]
        status["hostIPs"] = [{"ip": one} for one in around.host_ips]
    addresses = _addresses(pod, observed, around)
    if addresses:
        status["podIP"] = addresses[0]
        status["podIPs"] = [{"ip": one} for one in addresses]
    elif is_terminal(pod) or plan.terminating:
        status.update({key: before[key] for key in ("podIP", "podIPs") if before.get(key)})
    generation = metadata(pod).get("generation")
    if generation:
        status["observedGeneration"] = generation
    status["conditions"] = _conditions(pod, status, observed, around, initialized, now)
    return status


def _addresses(pod: Obj, observed: Observed, around: Surroundings) -> tuple[str, ...]:
    sandbox = observed.ready_sandbox
    if sandbox is None:
        return ()
    return around.host_ips if host_network(pod) else sandbox.addresses


# ---------------------------------------------------------------- phase


def _has_initialized(pod: Obj, observed: Observed, memory: Memory) -> bool:
    if any(observed.current(one.name) for one in by_kind(pod, MAIN)):
        return True
    for container in by_kind(pod, INIT, SIDECAR):
        latest = observed.current(container.name)
        if container.kind == INIT and not (latest and latest.state == EXITED and latest.exit_code == 0):
            return False
        if container.kind == SIDECAR:
            health = memory.health.get(latest.id) if latest else None
            if not (latest and latest.running and (health or Health()).started):
                return False
    return True


def _being_replaced(pod: Obj, observed: Observed, memory: Memory) -> frozenset[str]:
    """The containers that were ended for others to take their place, by name: the pod goes on running."""
    latest = {one.name: observed.latest(one.name) for one in by_kind(pod, INIT, MAIN)}
    return frozenset(name for name, one in latest.items() if one and _makes_way(one, observed, memory))


def _makes_way(container: Container, observed: Observed, memory: Memory) -> bool:
    return container.id in memory.replaced or observed.restarting or round_of(container) < observed.round


def _phase(pod: Obj, status: Obj, plan: Plan, replaced: frozenset[str]) -> str:
    policy = restart_policy(pod)
    pending, failed, sidecars_running = 0, 0, 0
    sidecars = {one.name for one in by_kind(pod, SIDECAR)}
    for one in status.get("initContainerStatuses") or []:
        state, last = one["state"], one.get("lastState") or {}
        if one["name"] in sidecars:
            sidecars_running += "running" in state
            started = "terminated" in state or ("running" in state and one.get("started"))
            pending += not (started or "terminated" in last)
        elif one["name"] in replaced and not plan.terminating:
            pending += 1
        elif "terminated" in state:
            failed += state["terminated"]["exitCode"] != 0
        elif "waiting" in state and "terminated" in last:
            failed += last["terminated"]["exitCode"] != 0
        else:
            pending += 1
    if failed and policy == "Never":
        return "Failed"
    running = waiting = stopped = succeeded = 0
    for one in status.get("containerStatuses") or []:
        state, last = one["state"], one.get("lastState") or {}
        if one["name"] in replaced and not plan.terminating:
            running += 1
            continue
        running += "running" in state
        if "terminated" in state:
            stopped += 1
            succeeded += state["terminated"]["exitCode"] == 0
        elif "waiting" in state:
            if "terminated" in last:
                stopped += 1
            else:
                waiting += 1
    if (pending or failed) and not (running or stopped):
        if plan.gone:
            return "Failed"
        return "Pending"
    if waiting:
        return "Failed" if plan.gone else "Pending"
    if running:
        return "Running"
    if not stopped:
        return "Failed" if plan.gone else "Pending"
    if plan.terminating and (sidecars_running or not plan.gone):
        return "Running"
    if plan.gone or policy != "Always":
        if stopped == succeeded:
            return "Succeeded"
        if plan.gone or policy == "Never":
            return "Failed"
    return "Running"


# ---------------------------------------------------------------- containers


def _time(nanoseconds: int) -> str:
    return rfc3339(datetime.fromtimestamp(nanoseconds / NANO, UTC))


def _container_id(container: Container, around: Surroundings) -> str:
    return f"{around.runtime_name}://{container.id}"


def _terminated(container: Container, around: Surroundings) -> Obj:
    state: Obj = {
        "exitCode": container.exit_code,
        "reason": container.reason or ("Completed" if not container.exit_code else "Error"),
    }
    message = around.messages.get(container.id) or (container.message if container.reason == "StartError" else "")
    if message:
        state["message"] = message
    if container.started_at:
        state["startedAt"] = _time(container.started_at)
    else:
        state["startedAt"] = None
    state["finishedAt"] = _time(container.finished_at) if container.finished_at else None
    state["containerID"] = _container_id(container, around)
    return state


def _lost(before: Obj | None) -> Obj | None:
    """A container that ran once and is no longer known to the runtime: its end was not seen."""
    if before is None:
        return None
    state = before.get("state") or {}
    if "terminated" in state:
        return dict(state)
    if "running" in state:
        reason = "ContainerStatusUnknown"
        message = "The container could not be located when the pod was terminated"
        return {
            "terminated": {
                "exitCode": 137,
                "reason": reason,
                "message": message,
                "startedAt": None,
                "finishedAt": None,
            }
        }
    return None


def _container_status(
    pod: Obj,
    container: ContainerSpec,
    observed: Observed,
    plan: Plan,
    memory: Memory,
    around: Surroundings,
    before: Obj | None,
    initialized: bool,
) -> Obj:
    name = container.name
    history = observed.containers.get(name, ())
    latest = history[0] if history else None
    status: Obj = {
        "name": name,
        "lastState": {},
        "ready": False,
        "restartCount": 0,
        "image": container.spec.get("image") or "",
        "imageID": "",
    }
    waiting = plan.waiting.get(name)
    default = "ContainerCreating" if initialized or not by_kind(pod, INIT, SIDECAR) else "PodInitializing"
    if latest is None or latest.state == CREATED:
        gone_state = _lost(before) if latest is None else None
        if gone_state and (plan.terminating or is_terminal(pod)):
            status["state"] = gone_state
            for key in ("restartCount", "imageID", "containerID", "image"):
                if before and key in before:
                    status[key] = before[key]
        else:
            status["state"] = {"waiting": _waiting(waiting or (default, ""))}
            if gone_state:
                status["lastState"] = gone_state
                status["restartCount"] = (before or {}).get("restartCount", 0)
        status["started"] = False
    else:
        status["image"] = _image_name(container.spec.get("image") or "", latest)
        status["imageID"] = latest.image_ref
        status["containerID"] = _container_id(latest, around)
        status["restartCount"] = restart_count(latest)
        earlier = history[1] if len(history) > 1 else None
        if latest.state == EXITED and _makes_way(latest, observed, memory):
            # The API lets nothing follow an end that the restart policy has no restart for.
            waiting = waiting or (default, "")
        _set_state(status, container, latest, earlier, waiting, plan, around)
        health = memory.health.get(latest.id) or Health()
        running = latest.state == RUNNING and "running" in status["state"]
        status["started"] = running and health.started and name not in around.starting
        if container.kind == INIT:
            status["ready"] = latest.state == EXITED and latest.exit_code == 0
        else:
            status["ready"] = bool(status["started"]) and health.ready and container.kind != EPHEMERAL
        if latest.user is not None and running:
            status["user"] = {"linux": _linux_user(latest.user)}
    add_resources(status, container, around.resources.get(latest.id) if latest else None)
    return status


def _set_state(
    status: Obj,
    container: ContainerSpec,
    latest: Container,
    earlier: Container | None,
    waiting: tuple[str, str] | None,
    plan: Plan,
    around: Surroundings,
) -> None:
    if latest.state == EXITED:
        state = {"terminated": _terminated(latest, around)}
        if waiting and not plan.terminating:
            status["state"], status["lastState"] = {"waiting": _waiting(waiting)}, state
            return
        status["state"] = state
    elif latest.state == RUNNING:
        status["state"] = {"running": {"startedAt": _time(latest.started_at)}}
    else:
        status["state"] = {"waiting": _waiting(("ContainerStatusUnknown", ""))}
    if earlier is not None and earlier.state == EXITED:
        status["lastState"] = {"terminated": _terminated(earlier, around)}


def _waiting(why: tuple[str, str]) -> Obj:
    reason, message = why
    return {"reason": reason, "message": message} if message else {"reason": reason}


def _linux_user(user: Mapping[str, Any]) -> Obj:
    return {key: user[key] for key in ("uid", "gid", "supplementalGroups") if key in user}


def _image_name(wanted: str, latest: Container) -> str:
    return latest.image if latest.image and not latest.image.startswith("sha256:") else wanted


def add_resources(status: Obj, container: ContainerSpec, actual: Obj | None) -> None:
    """Shows what the node has set aside for the container and, if it runs, what it really has."""
    resources = (container.spec.get("resources") or {}) if actual is None else actual
    if resources.get("requests"):
        status["allocatedResources"] = copy_object(resources["requests"])
    if container.kind != EPHEMERAL:
        status["resources"] = copy_object({key: resources[key] for key in ("limits", "requests") if resources.get(key)})
    mounts = []
    for mount in container.spec.get("volumeMounts") or []:
        one = {"name": mount["name"], "mountPath": mount["mountPath"]}
        if mount.get("readOnly"):
            one["readOnly"] = True
            one["recursiveReadOnly"] = "Disabled"
        mounts.append(one)
    if mounts:
        status["volumeMounts"] = mounts


# ---------------------------------------------------------------- conditions


def _conditions(
    pod: Obj, status: Obj, observed: Observed, around: Surroundings, initialized: bool, now: datetime
) -> list[Obj]:
    before = {one["type"]: one for one in (pod.get("status") or {}).get("conditions") or []}
    phase = status["phase"]
    generation = metadata(pod).get("generation")
    terminal = {"Succeeded": "PodCompleted", "Failed": "PodFailed"}.get(phase)
    unready = _named(status.get("containerStatuses"), lambda one: not one["ready"])
    unready = [
        one["name"]
        for one, spec in _with_specs(pod, status, SIDECAR)
        if not one["ready"] and spec.kind == SIDECAR and spec.spec.get("readinessProbe")
    ] + unready
    if terminal:
        containers_ready = _false(terminal, "")
    elif unready:
        containers_ready = _false("ContainersNotReady", f"containers with unready status: [{' '.join(unready)}]")
    else:
        containers_ready = {"status": "True"}
    ready = containers_ready
    if ready["status"] == "True":
        ready = _readiness_gates(pod, before)
    sandbox = observed.ready_sandbox
    network = sandbox is not None and (bool(sandbox.addresses) or host_network(pod))
    wanted = {
        "PodReadyToStartContainers": {"status": "True" if network else "False"},
        "Initialized": _initialized_condition(pod, status, initialized, phase),
        "Ready": ready,
        "ContainersReady": containers_ready,
        "PodScheduled": {"status": "True"},
    }
    if restarts_all(pod.get("spec") or {}):
        wanted["AllContainersRestarting"] = _restarting(observed, terminal)
    conditions = []
    for kind, values in wanted.items():
        old = before.get(kind)
        if kind == "PodScheduled" and old is not None:
            conditions.append(copy_object(old))
            continue
        changed = old is None or old.get("status") != values["status"]
        condition: Obj = {"type": kind}
        if generation:
            condition["observedGeneration"] = generation
        condition.update(
            status=values["status"],
            lastProbeTime=None,
            lastTransitionTime=rfc3339(now) if changed or old is None else old.get("lastTransitionTime"),
        )
        condition.update({key: values[key] for key in ("reason", "message") if values.get(key)})
        conditions.append(condition)
    if status.get("reason") == EVICTED:
        wanted["DisruptionTarget"] = {}
        reason = {"reason": "TerminationByKubelet", "message": status.get("message", "")}
        since = (before.get("DisruptionTarget") or {}).get("lastTransitionTime") or rfc3339(now)
        times = {"lastProbeTime": None, "lastTransitionTime": since}
        conditions.append({"type": "DisruptionTarget", "status": "True", **times, **reason})
    for condition in around.resize:
        old = before.get(condition["type"])
        since = old.get("lastTransitionTime") if old else rfc3339(now)
        conditions.append({**condition, "lastProbeTime": None, "lastTransitionTime": since})
    others = [one for kind, one in before.items() if kind not in wanted and kind not in RESIZE_CONDITIONS]
    return conditions + copy_object(others)  # type: ignore[no-any-return]


def _restarting(observed: Observed, terminal: str | None) -> Obj:
    if observed.restarting and not terminal:
        reason, message = "RestartAllContainersStarted", "container exited with restart policy rule"
        return {"status": "True", "reason": reason, "message": message}
    return _false(terminal or "", "")


def _named(statuses: list[Obj] | None, chosen: Any) -> list[str]:
    return [one["name"] for one in statuses or [] if chosen(one)]


def _with_specs(pod: Obj, status: Obj, *kinds: str) -> Iterable[tuple[Obj, ContainerSpec]]:
    specs = {one.name: one for one in containers_of(pod)}
    for one in status.get("initContainerStatuses") or []:
        spec = specs[one["name"]]
        if spec.kind in kinds:
            yield one, spec


def _false(reason: str, message: str) -> Obj:
    return {"status": "False", "reason": reason, "message": message}


def _initialized_condition(pod: Obj, status: Obj, initialized: bool, phase: str) -> Obj:
    if phase == "Succeeded":
        return {"status": "True", "reason": "PodCompleted"}
    if initialized:
        return {"status": "True"}
    incomplete = [
        one["name"]
        for one, spec in _with_specs(pod, status, INIT, SIDECAR)
        if not (one["ready"] if spec.kind == INIT else one.get("started"))
    ]
    return _false("ContainersNotInitialized", f"containers with incomplete status: [{' '.join(incomplete)}]")


def _readiness_gates(pod: Obj, before: Mapping[str, Obj]) -> Obj:
    missing = []
    for gate in (pod.get("spec") or {}).get("readinessGates") or []:
        kind = gate["conditionType"]
        if kind not in before:
            missing.append(f'corresponding condition of pod readiness gate "{kind}" does not exist.')
        elif before[kind].get("status") != "True":
            missing.append(f'the status of pod readiness gate "{kind}" is not "True", but {before[kind].get("status")}')
    return _false("ReadinessGatesNotReady", ", ".join(missing)) if missing else {"status": "True"}
