"""Pods that wait for permission before they are bound, and what plugins may do about them. Pure.

A plugin that returns `Wait` from its `permit` holds the pod, with its node reserved, until every plugin that asked to
wait allows it, one of them rejects it, or the time of one is up. Plugins reach waiting pods through their `handle`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from proa.scheduler.columns import Columns
from proa.scheduler.durations import duration
from proa.scheduler.pod import PodInfo

WAIT_SECONDS_MAX = 900.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """How the waiting ended: allowed, or rejected by a plugin that says why."""

    allowed: bool
    plugin: str = ""
    text: str = ""


class WaitingPod:
    """A pod that one or more plugins hold back; `waits` maps plugins to seconds."""

    def __init__(self, pod: PodInfo, node: str, waits: Mapping[str, float]) -> None:
        self.pod = pod
        self.node = node
        self.verdict: Verdict | None = None
        self._waits = {name: min(seconds, WAIT_SECONDS_MAX) for name, seconds in waits.items()}
        self._decided: Callable[[], None] = lambda: None

    @property
    def pending_plugins(self) -> tuple[str, ...]:
        """The plugins that have not allowed the pod yet."""
        return tuple(self._waits)

    def allow(self, plugin: str) -> None:
        """One of the plugins lets the pod go; with the last one it is bound."""
        self._waits.pop(plugin, None)
        if not self._waits:
            self._decide(Verdict(True))

    def reject(self, plugin: str, text: str) -> None:
        """The pod gives its place up, for a reason."""
        self._decide(Verdict(False, plugin, text))

    def when_decided(self, tell: Callable[[], None]) -> None:
        self._decided = tell

    def late(self, seconds: float) -> Verdict | None:
        """Tells how things stand after waiting so long: the first plugin whose time is up rejects the pod."""
        if self.verdict is None:
            plugin, limit = min(self._waits.items(), key=lambda one: one[1])
            if seconds >= limit:
                self.reject(plugin, f"rejected due to timeout after waiting {duration(limit)} at plugin {plugin}")
        return self.verdict

    @property
    def seconds_left_at_start(self) -> float:
        """The shortest time that a plugin which still waits has asked for."""
        return min(self._waits.values(), default=0.0)

    def _decide(self, verdict: Verdict) -> None:
        if self.verdict is None:
            self.verdict = verdict
            self._decided()


class Handle:
    """What plugins see of the scheduler besides the pod they are asked about."""

    def __init__(self, columns: Columns, activate: Callable[[str], None]) -> None:
        self.columns = columns
        self._activate = activate
        self._waiting: dict[str, WaitingPod] = {}

    def waiting_pods(self) -> tuple[WaitingPod, ...]:
        """All pods that wait for permission."""
        return tuple(self._waiting.values())

    def waiting_pod(self, uid: str) -> WaitingPod | None:
        return self._waiting.get(uid)

    def reject_waiting_pod(self, uid: str) -> bool:
        """Rejects a pod if it waits; tells whether it did."""
        waiting = self._waiting.get(uid)
        if waiting is not None:
            waiting.reject("", "removed")
        return waiting is not None

    def activate(self, keys: Iterable[str]) -> None:
        """Lets pods of the queue (`namespace/name`) be tried at once."""
        for key in keys:
            self._activate(key)

    def hold(self, waiting: WaitingPod) -> None:
        self._waiting[waiting.pod.uid] = waiting

    def release(self, uid: str) -> None:
        self._waiting.pop(uid, None)
