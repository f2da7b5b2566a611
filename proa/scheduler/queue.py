"""Who waits for what: the scheduler's queue. Pure; the current time in seconds is an argument.

As upstream: an active heap (higher priority first, then the longer waiting), a back-off heap (1 s doubling to 10 s) and
the pods that nothing but an event can help. A happening wakes those whose rejecting plugins said that it may help;
after five minutes a pod is tried again whatever happened.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from proa.scheduler.framework import Happening
from proa.scheduler.pod import PodInfo

BACKOFF_SECONDS_MIN = 1.0
BACKOFF_SECONDS_MAX = 10.0
STUCK_SECONDS_MAX = 300.0


@dataclass(slots=True)
class Waiting:
    """A pod in the queue. `rejected_by` names the plugins of its last failure; `gate` says why it may not be tried."""

    pod: PodInfo
    since: float
    attempts: int = 0
    failed_at: float = 0.0
    rejected_by: frozenset[str] = frozenset()
    gate: str = ""
    place: str = ""  # active, backoff, stuck, gated, or empty while it is being scheduled

    @property
    def ready_at(self) -> float:
        """When its back-off ends."""
        if not self.attempts:
            return 0.0
        return self.failed_at + min(BACKOFF_SECONDS_MIN * 2.0 ** min(self.attempts - 1, 16), BACKOFF_SECONDS_MAX)


@dataclass(slots=True)
class Queue:
    """`wakes` maps a plugin's name to the happenings that may help a pod it rejected."""

    wakes: Mapping[str, Happening]
    waiting: dict[str, Waiting] = field(default_factory=dict)
    _active: list[tuple[int, float, int, str]] = field(default_factory=list)
    _backoff: list[tuple[float, int, str]] = field(default_factory=list)
    _stuck: dict[str, Waiting] = field(default_factory=dict)
    _stuck_until: list[tuple[float, int, str]] = field(default_factory=list)
    _number: int = 0
    # Happenings while a pod is being scheduled: they may undo the rejection that is about to be reported.
    _since_popped: dict[str, Happening] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.waiting)

    def add(self, pod: PodInfo, now: float, gate: str = "") -> None:
        """Adds a new pod, or takes over the new form of one that waits; a non-empty `gate` holds it back."""
        entry = self.waiting.get(pod.key)
        if entry is None or entry.pod.uid != pod.uid:
            entry = self.waiting[pod.key] = Waiting(pod, now)
            self._since_popped.pop(pod.key, None)
        entry.pod = pod
        was_gated = entry.place == "gated"
        entry.gate = gate
        if gate:
            entry.place = "gated"
            self._stuck.pop(pod.key, None)
        elif was_gated or (not entry.place and pod.key not in self._since_popped):
            self._activate(entry)
        elif entry.place == "stuck":
            self._wake(entry, Happening.POD_UPDATE, now)

    def remove(self, key: str) -> None:
        """Forgets a pod: it is gone or has its node."""
        self.waiting.pop(key, None)
        self._stuck.pop(key, None)
        self._since_popped.pop(key, None)

    def pop(self, now: float) -> PodInfo | None:
        """Returns the next pod to schedule, or None."""
        self._flush(now)
        while self._active:
            key = heapq.heappop(self._active)[3]
            entry = self.waiting.get(key)
            if entry is not None and entry.place == "active":
                entry.place = ""
                self._since_popped[key] = Happening(0)
                return entry.pod
        return None

    def failed(self, key: str, rejected_by: Iterable[str], now: float, *, retry: bool = False) -> None:
        """Puts a popped pod back: to wait for an event, or with `retry` (an error, no rejection) to back off."""
        entry = self.waiting.get(key)
        happened = self._since_popped.pop(key, Happening(0))
        if entry is None or entry.gate:
            return
        entry.attempts += 1
        entry.failed_at = now
        entry.rejected_by = frozenset(rejected_by)
        if retry or self._helps(entry, happened):
            self._back_off(entry)
        else:
            entry.place = "stuck"
            self._stuck[key] = entry
            self._number += 1
            heapq.heappush(self._stuck_until, (now + STUCK_SECONDS_MAX, self._number, key))

    def happened(self, what: Happening, now: float) -> None:
        """Wakes the pods that a happening may help."""
        for key in self._since_popped:
            self._since_popped[key] |= what
        for entry in list(self._stuck.values()):
            self._wake(entry, what, now)

    def next_at(self) -> float | None:
        """Returns when something will be due by itself, or None."""
        return min((heap[0][0] for heap in (self._backoff, self._stuck_until) if heap), default=None)

    def _helps(self, entry: Waiting, what: Happening) -> bool:
        if not entry.rejected_by:
            return True
        return any(self.wakes.get(name, Happening.ANY) & what for name in entry.rejected_by)

    def _wake(self, entry: Waiting, what: Happening, now: float) -> None:
        if self._helps(entry, what):
            if entry.ready_at <= now:
                self._activate(entry)
            else:
                self._back_off(entry)

    def _activate(self, entry: Waiting) -> None:
        entry.place = "active"
        self._stuck.pop(entry.pod.key, None)
        self._number += 1
        heapq.heappush(self._active, (-entry.pod.priority, entry.since, self._number, entry.pod.key))

    def _back_off(self, entry: Waiting) -> None:
        entry.place = "backoff"
        self._stuck.pop(entry.pod.key, None)
        self._number += 1
        heapq.heappush(self._backoff, (entry.ready_at, self._number, entry.pod.key))

    def _flush(self, now: float) -> None:
        while self._backoff and self._backoff[0][0] <= now:
            entry = self.waiting.get(heapq.heappop(self._backoff)[2])
            if entry is not None and entry.place == "backoff":
                self._activate(entry)
        while self._stuck_until and self._stuck_until[0][0] <= now:
            entry = self._stuck.get(heapq.heappop(self._stuck_until)[2])
            if entry is not None and entry.failed_at + STUCK_SECONDS_MAX <= now:
                self._activate(entry)
