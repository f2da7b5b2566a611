"""How the start of a simulated container goes: pulls that take time or fail, and what is told of it (pure).

Words, reasons and back-off (10 s doubling to 5 min) are those of the real kubelet (`proa.kubelet.images`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from proa.kubelet.podspec import ContainerSpec
from proa.kubelet.simulated.life import FOREVER, Life, seconds_of
from proa.kubelet.simulated.outages import Outage, later
from proa.meta.objects import Obj

BACKOFF_SECONDS_FIRST = 10.0
BACKOFF_SECONDS_MAX = 300.0
_BACKOFF_SHOWN_AFTER_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Told:
    """An event: when, about which container (empty: the pod), and what it says."""

    at: float
    container: str
    type: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Wait:
    """From `at` on the container waits for this reason."""

    at: float
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Start:
    """The container runs from `at` on (FOREVER: as far as is known, never); until then it `waits`."""

    at: float
    waits: Sequence[Wait] = ()
    told: Sequence[Told] = ()


def start(
    pod: Obj, spec: ContainerSpec, life: Life, asked: float, now: float, outages: Sequence[Outage], *, pulls: bool
) -> Start:
    """Returns how a start goes that the kubelet asked for at `asked`, as far as it can be known at `now`. `pulls`: the
    image is not there yet."""
    if life.stuck_reason:
        return Start(FOREVER, [Wait(asked, life.stuck_reason, "")])
    name, image = spec.name, spec.spec.get("image") or ""
    waits: list[Wait] = []
    told: list[Told] = []
    at = asked
    if pulls and life.pulls:
        at = _pull(pod, spec, life, asked, now, outages, waits, told)
        if at > now:
            return Start(at, waits, told)
    else:
        text = f'Container image "{image}" already present on machine and can be accessed by the pod'
        told.append(Told(at, name, "Normal", "Pulled", text))
    if life.start_error:
        waits.append(Wait(at, "CreateContainerError", life.start_error))
        told.append(Told(at, name, "Warning", "Failed", f"Error: {life.start_error}"))
        return Start(FOREVER, waits, told)
    started = later(outages, at, seconds_of(life.start_seconds, life, pod, "start", name))
    told.append(Told(started, name, "Normal", "Created", "Container created"))
    told.append(Told(started, name, "Normal", "Started", "Container started"))
    return Start(started, waits, told)


def _pull(
    pod: Obj,
    spec: ContainerSpec,
    life: Life,
    asked: float,
    now: float,
    outages: Sequence[Outage],
    waits: list[Wait],
    told: list[Told],
) -> float:
    """Tries until the image is there, or `now` is over; returns when it is there, or when something changes next."""
    name, image = spec.name, spec.spec.get("image") or ""
    at, attempt = asked, 0
    while True:
        pull = life.pull(attempt)
        seconds = seconds_of(pull.seconds, life, pod, "pull", name, attempt)
        ended = later(outages, at, seconds)
        told.append(Told(at, name, "Normal", "Pulling", f'Pulling image "{image}"'))
        if not pull.error:
            took = f"{seconds:.3g}s"
            text = f'Successfully pulled image "{image}" in {took} ({took} including waiting). Image size: 0 bytes.'
            told.append(Told(ended, name, "Normal", "Pulled", text))
            return ended
        backed_off = later(outages, ended, _BACKOFF_SHOWN_AFTER_SECONDS)
        message = f'Back-off pulling image "{image}"'
        waits.append(Wait(ended, "ErrImagePull", pull.error))
        waits.append(Wait(backed_off, "ImagePullBackOff", f"{message}: ErrImagePull: {pull.error}"))
        told += [
            Told(ended, name, "Warning", "Failed", f'Failed to pull image "{image}": {pull.error}'),
            Told(ended, name, "Warning", "Failed", "Error: ErrImagePull"),
            Told(backed_off, name, "Normal", "BackOff", message),
            Told(backed_off, name, "Warning", "Failed", "Error: ImagePullBackOff"),
        ]
        if ended > now:
            return FOREVER
        delay = min(BACKOFF_SECONDS_MAX, BACKOFF_SECONDS_FIRST * 2.0 ** min(attempt, 16))
        at, attempt = later(outages, ended, delay), attempt + 1
        if at > now:
            # Only whether it goes on then is known.
            waits.append(Wait(at, "ImagePullBackOff", f"{message}: ErrImagePull: {pull.error}"))
            return FOREVER
