"""What there is instead of a kubelet on a simulated node (pure): a log that says what the pod's status says, and a
clear word to everybody who wants to talk to its containers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta

from proa.meta.errors import StatusError, bad_request
from proa.meta.objects import Obj, annotations_of, name_of
from proa.util.clock import parse_rfc3339

SIMULATED = "proa.dev/simulated"
FAULT = "proa.dev/fault"
_SILENT = ("fail", "hang", "partition")


def is_simulated(node: Obj) -> bool:
    return SIMULATED in annotations_of(node)


def is_silent(node: Obj) -> bool:
    """Tells whether the node has a fault with which it answers nothing."""
    return annotations_of(node).get(FAULT) in _SILENT


def refusal(node: Obj, address: str) -> StatusError:
    """Returns why nobody can talk to a simulated node's kubelet."""
    if is_silent(node):
        return StatusError(500, "", f"error dialing backend: dial tcp {address}: i/o timeout")
    text = f"node {name_of(node)} is simulated: its pods run nothing that one could talk to"
    return StatusError(501, "NotImplemented", text)


def container_log(pod: Obj, container: str, options: Mapping[str, str], now: datetime) -> bytes:
    """Returns the log of a container as its status tells it, with the options of pods/log; raises the 400 StatusError
    for a container that has no log.
    """
    lines = list(_lines(pod, container, previous=options.get("previous") == "true"))
    since = None
    if options.get("sinceSeconds"):
        since = now - timedelta(seconds=int(options["sinceSeconds"]))
    elif options.get("sinceTime"):
        since = parse_rfc3339(options["sinceTime"])
    lines = [(at, text) for at, text in lines if since is None or parse_rfc3339(at) >= since]
    if options.get("tailLines"):
        lines = lines[len(lines) - min(len(lines), int(options["tailLines"])) :]
    stamped = options.get("timestamps") == "true"
    whole = "".join(f"{at} {text}\n" if stamped else f"{text}\n" for at, text in lines).encode()
    return whole[: int(options["limitBytes"])] if options.get("limitBytes") else whole


def _lines(pod: Obj, container: str, *, previous: bool) -> Iterator[tuple[str, str]]:
    status = pod.get("status") or {}
    keys = ("containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses")
    known: Obj = next((one for key in keys for one in status.get(key) or () if one["name"] == container), {})
    state, last = known.get("state") or {}, known.get("lastState") or {}
    count = known.get("restartCount") or 0
    shown = last if previous or ("waiting" in state and last) else state
    if previous and not last:
        raise bad_request(f'previous terminated container "{container}" in pod "{name_of(pod)}" not found')
    run = shown.get("running") or shown.get("terminated")
    if not run:
        reason = (state.get("waiting") or {}).get("reason") or "ContainerCreating"
        raise bad_request(f'container "{container}" in pod "{name_of(pod)}" is waiting to start: {reason}')
    number = count if previous and "waiting" not in state else count + 1
    if run.get("startedAt"):
        yield run["startedAt"], f"simulated container {container} of image {known.get('image')} starts, run {number}"
    if run.get("finishedAt"):
        if run.get("message"):
            yield run["finishedAt"], run["message"]
        yield run["finishedAt"], f"simulated container {container} ends with exit code {run.get('exitCode', 0)}"
