"""The same as `plan.py` for the pods that just run, which are nearly all of 50,000: without asking the kubelet (pure).

A test holds both against each other; what is in any way special goes the long way.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from proa.kubelet.podspec import containers_of, qos_class
from proa.kubelet.simulated.life import FOREVER, Life
from proa.kubelet.simulated.outages import Outage
from proa.kubelet.simulated.recall import RUNTIME, container_id, seconds
from proa.kubelet.simulated.starting import Told
from proa.kubelet.status import add_resources
from proa.meta.objects import Obj, metadata
from proa.util.clock import rfc3339

_SPECIAL = ("initContainers", "ephemeralContainers", "readinessGates", "activeDeadlineSeconds")


def just_runs(pod: Obj, life: Life, outages: Sequence[Outage]) -> bool:
    """Tells whether nothing but start and end can happen to the pod."""
    return not (
        outages
        or life.pulls
        or life.start_seconds
        or life.start_error
        or life.stuck_reason
        or life.ready_seconds
        or life.run_seconds != FOREVER
        or life.runs
        or life.stop_seconds
        or life.evict_seconds != FOREVER
        or life.containers
    ) and not any(pod["spec"].get(key) for key in _SPECIAL)


def is_settled(pod: Obj) -> bool:
    """Tells whether a pod that just runs does so, and says so."""
    status, meta = pod.get("status") or {}, metadata(pod)
    if status.get("phase") != "Running" or "deletionTimestamp" in meta:
        return False
    generation = meta.get("generation")
    if generation and status.get("observedGeneration") != generation:
        return False
    for one in status.get("conditions") or ():
        if one["status"] != "True" and one["type"] in ("Ready", "ContainersReady"):
            return False
    images = {one["name"]: one.get("image") or "" for one in pod["spec"]["containers"]}
    return all(
        one.get("ready") and "running" in one["state"] and one["image"] == images.get(one["name"])
        for one in status.get("containerStatuses") or ()
    )


def is_new(pod: Obj) -> bool:
    """Tells whether the node has not yet begun with the pod."""
    status = pod.get("status") or {}
    return "startTime" not in status and "deletionTimestamp" not in metadata(pod) and _scheduled(status) is not None


def may_go(pod: Obj) -> bool:
    """Tells whether the pod is deleted and nobody waits to see how it ends."""
    meta = metadata(pod)
    return "deletionTimestamp" in meta and not meta.get("finalizers")


def _scheduled(status: Obj) -> Obj | None:
    return next((one for one in status.get("conditions") or () if one["type"] == "PodScheduled"), None)


def started(pod: Obj, pod_ip: str, host_ip: str, now: datetime) -> tuple[Obj, list[Told]]:
    """Returns the status of a new pod that starts, and what its kubelet tells."""
    before, spec, generation = pod["status"], pod["spec"], metadata(pod).get("generation")
    scheduled = _scheduled(before)
    assert scheduled is not None
    stamp, began = rfc3339(now), scheduled["lastTransitionTime"]
    at, told = seconds(began), []
    statuses = []
    for container in containers_of(pod):
        name, image = container.name, container.spec.get("image") or ""
        one: Obj = {
            "name": name,
            "lastState": {},
            "ready": True,
            "restartCount": 0,
            "image": image,
            "imageID": "",
            "containerID": f"{RUNTIME}://{container_id(pod, name, '0', 0, 0)}",
            "state": {"running": {"startedAt": began}},
            "started": True,
        }
        add_resources(one, container, None)
        one.pop("volumeMounts", None)
        statuses.append(one)
        present = f'Container image "{image}" already present on machine and can be accessed by the pod'
        told.append(Told(at, name, "Normal", "Pulled", present))
        told.append(Told(at, name, "Normal", "Created", "Container created"))
        told.append(Told(at, name, "Normal", "Started", "Container started"))
    known = {one["type"]: one for one in before.get("conditions") or ()}
    conditions = []
    for kind in ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady"):
        condition: Obj = {"type": kind}
        if generation:
            condition["observedGeneration"] = generation
        condition["status"] = "True"
        condition["lastProbeTime"] = None
        condition["lastTransitionTime"] = stamp
        conditions.append(condition)
        known.pop(kind, None)
    address = host_ip if spec.get("hostNetwork") else pod_ip
    status: Obj = {
        "containerStatuses": statuses,
        "phase": "Running",
        "startTime": began,
        "qosClass": before.get("qosClass") or qos_class(pod),
        "hostIP": host_ip,
        "hostIPs": [{"ip": host_ip}],
        "podIP": address,
        "podIPs": [{"ip": address}],
    }
    if generation:
        status["observedGeneration"] = generation
    status["conditions"] = [*conditions, scheduled, *(one for kind, one in known.items() if kind != "PodScheduled")]
    return status, told


def killing(pod: Obj, at: float) -> list[Told]:
    """Returns what a kubelet tells when it stops a pod's containers."""
    return [
        Told(at, one["name"], "Normal", "Killing", f"Stopping container {one['name']}")
        for one in (pod.get("status") or {}).get("containerStatuses") or ()
        if "running" in one["state"]
    ]
