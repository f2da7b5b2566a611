"""A pod's row in tables: readiness, status in a word, restarts. Follows upstream's printPod."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from proa.apis.pod_resources import is_sidecar
from proa.apis.tables import age, or_none, since
from proa.meta.objects import Obj, is_deleted, name_of

_ENDED = {
    "Succeeded": ("Succeeded", "The pod has completed successfully."),
    "Failed": ("Failed", "The pod failed."),
}


def pod_row_conditions(pod: Obj) -> list[Obj]:
    """Returns the row's condition Completed of a pod that has ended."""
    found = _ENDED.get((pod.get("status") or {}).get("phase") or "")
    if found is None:
        return []
    return [{"type": "Completed", "status": "True", "reason": found[0], "message": found[1]}]


@dataclass(slots=True)
class _Tally:
    """Restarts, and when the last of them was."""

    restarts: int = 0
    last: str = ""

    def add(self, status: Obj) -> None:
        self.restarts += status.get("restartCount") or 0
        finished = ((status.get("lastState") or {}).get("terminated") or {}).get("finishedAt") or ""
        self.last = max(self.last, finished)

    def text(self, now: datetime) -> str:
        return f"{self.restarts} ({since(self.last, now)} ago)" if self.restarts and self.last else str(self.restarts)


def pod_cells(pod: Obj, now: datetime) -> list[Any]:
    spec, status = pod.get("spec") or {}, pod.get("status") or {}
    ready, reason, tally = _progress(pod, spec, status)
    sidecars = sum(1 for one in spec.get("initContainers") or [] if is_sidecar(one))
    total = len(spec.get("containers") or []) + sidecars
    if is_deleted(pod):
        if status.get("reason") == "NodeLost":
            reason = "Unknown"
        elif status.get("phase") not in _ENDED:
            reason = "Terminating"
    ips = status.get("podIPs") or []
    return [
        name_of(pod),
        f"{ready}/{total}",
        reason,
        tally.text(now),
        age(pod, now),
        or_none(ips[0].get("ip") if ips else ""),
        or_none(spec.get("nodeName")),
        or_none(status.get("nominatedNodeName")),
        _gates(spec, status),
    ]


def _progress(pod: Obj, spec: Obj, status: Obj) -> tuple[int, str, _Tally]:
    """Returns the number of ready containers, the status' word and the restarts."""
    reason = status.get("reason") or status.get("phase") or ""
    conditions = {one.get("type"): one for one in status.get("conditions") or []}
    if (conditions.get("PodScheduled") or {}).get("reason") == "SchedulingGated":
        reason = "SchedulingGated"
    ready, all_init, sidecars_only, word = _init_progress(spec, status)
    if word and (conditions.get("Initialized") or {}).get("status") != "True":
        return ready, word, all_init
    running = False
    for one in reversed(status.get("containerStatuses") or []):
        sidecars_only.add(one)
        state = one.get("state") or {}
        waiting, terminated = state.get("waiting") or {}, state.get("terminated")
        if waiting.get("reason"):
            reason = waiting["reason"]
        elif terminated is not None:
            reason = _ended(terminated)
        elif one.get("ready") and state.get("running") is not None:
            running = True
            ready += 1
    if reason == "Completed" and running:
        is_ready = (conditions.get("Ready") or {}).get("status") == "True"
        reason = "Running" if is_ready else "NotReady"
    return ready, word if word and not status.get("containerStatuses") else reason, sidecars_only


def _init_progress(spec: Obj, status: Obj) -> tuple[int, _Tally, _Tally, str]:
    """Returns ready sidecars, restarts of all init containers seen and of sidecars, and the word while initializing."""
    containers = {one.get("name"): one for one in spec.get("initContainers") or []}
    everything, sidecars = _Tally(), _Tally()
    ready = 0
    for index, one in enumerate(status.get("initContainerStatuses") or []):
        sidecar = is_sidecar(containers.get(one.get("name")) or {})
        everything.add(one)
        if sidecar:
            sidecars.add(one)
        state = one.get("state") or {}
        terminated, waiting = state.get("terminated"), state.get("waiting") or {}
        if terminated is not None and not terminated.get("exitCode"):
            continue
        if sidecar and one.get("started"):
            ready += 1 if one.get("ready") else 0
            continue
        if terminated is not None:
            return ready, everything, sidecars, f"Init:{_ended(terminated)}"
        if waiting.get("reason") and waiting["reason"] != "PodInitializing":
            return ready, everything, sidecars, f"Init:{waiting['reason']}"
        return ready, everything, sidecars, f"Init:{index}/{len(containers)}"
    return ready, everything, sidecars, ""


def _ended(terminated: Obj) -> str:
    if terminated.get("reason"):
        return str(terminated["reason"])
    signal = terminated.get("signal")
    return f"Signal:{signal}" if signal else f"ExitCode:{terminated.get('exitCode') or 0}"


def _gates(spec: Obj, status: Obj) -> str:
    gates: Iterable[Obj] = spec.get("readinessGates") or []
    true = {one.get("type") for one in status.get("conditions") or [] if one.get("status") == "True"}
    kinds = [gate.get("conditionType") for gate in gates]
    if not kinds:
        return "<none>"
    return f"{sum(1 for kind in kinds if kind in true)}/{len(kinds)}"
