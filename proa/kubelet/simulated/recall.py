"""Reads what a simulated node runs of a pod back from the pod's status (pure), so that a simulator needs no memory.

Container ids say what a status does not: `simulated://UID/CONTAINER/SANDBOX.ATTEMPT.STEP`, with the number of the pod's
sandbox, of the container's try and of its place in the back-off.
"""

from __future__ import annotations

from proa.kubelet.cri.types import EXITED, RUNNING, Container, Sandbox
from proa.kubelet.plan import NANO
from proa.kubelet.podspec import BACKOFF_STEP, CONTAINER_HASH
from proa.meta.objects import Obj, name_of, namespace_of, uid_of
from proa.util.clock import parse_rfc3339

RUNTIME = "simulated"
Histories = dict[str, tuple[Container, ...]]
STATUSES = ("initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses")


def seconds(stamp: str) -> float:
    """Returns a time of the API in seconds since the epoch."""
    return parse_rfc3339(stamp).timestamp()


def containers_in(status: Obj) -> Histories:
    """Returns the containers that a pod's status shows, newest first, by name."""
    found: Histories = {}
    for key in STATUSES:
        for one in status.get(key) or ():
            state, last = one.get("state") or {}, one.get("lastState") or {}
            now = state if "running" in state or "terminated" in state else {}
            known = [_container(one, shown) for shown in (now, last) if shown]
            if known:
                found[one["name"]] = tuple(known)
    return found


def _container(status: Obj, shown: Obj) -> Container:
    """`shown` is one state of the container, running or terminated."""
    name, image = status["name"], status.get("image") or ""
    details = shown.get("running") or shown.get("terminated") or {}
    id = (details.get("containerID") or status.get("containerID") or "").removeprefix(f"{RUNTIME}://")
    sandbox, attempt, step = _numbers(id, status)
    started = int(seconds(details["startedAt"]) * NANO) if details.get("startedAt") else 0
    ended = int(seconds(details["finishedAt"]) * NANO) if details.get("finishedAt") else 0
    return Container(
        id=id,
        sandbox_id=str(sandbox),
        name=name,
        attempt=attempt,
        state=RUNNING if "running" in shown else EXITED,
        created_at=started,
        image=image,
        image_ref=status.get("imageID") or "",
        annotations={BACKOFF_STEP: str(step), CONTAINER_HASH: image},
        started_at=started,
        finished_at=ended,
        exit_code=details.get("exitCode") or 0,
        reason=details.get("reason") or "",
        message=details.get("message") or "",
    )


def _numbers(id: str, status: Obj) -> tuple[int, int, int]:
    try:
        sandbox, attempt, step = id.rpartition("/")[2].split(".")
        return int(sandbox), int(attempt), int(step)
    except ValueError:  # not an id of ours: somebody wrote the status by hand
        count = status.get("restartCount") or 0
        return 0, count, count


def container_id(pod: Obj, name: str, sandbox: str, attempt: int, step: int) -> str:
    return f"{uid_of(pod)}/{name}/{sandbox}.{attempt}.{step}"


def sandbox_in(pod: Obj, containers: Histories, address: str) -> Sandbox | None:
    """Returns the pod's sandbox, None if its node has not yet begun with it."""
    begun = (pod.get("status") or {}).get("startTime")
    if not begun:
        return None
    newest = max((int(one.sandbox_id) for some in containers.values() for one in some), default=0)
    created = int(seconds(begun) * NANO)
    if newest:
        inside = (one for some in containers.values() for one in some if one.sandbox_id == str(newest))
        created = min(one.started_at for one in inside)
    return sandbox(pod, newest, created, address)


def sandbox(pod: Obj, attempt: int, created_at: int, address: str) -> Sandbox:
    """Returns a sandbox that is ready; `created_at` is in nanoseconds."""
    return Sandbox(
        id=str(attempt),
        name=name_of(pod),
        namespace=namespace_of(pod),
        uid=uid_of(pod),
        attempt=attempt,
        ready=True,
        created_at=created_at,
        addresses=(address,),
    )
