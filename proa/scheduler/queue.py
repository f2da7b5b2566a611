"""Who waits for what: the scheduler's queue. Pure; the current time in seconds is an argument.

As upstream: an active heap (higher priority first, then the longer waiting, unless a plugin sorts), back-off heaps (1 s
doubling to 10 s, cut short for pods that were rejected when nobody else waits) and the pods that nothing but an event
can help. An event wakes those whose rejecting plugins said that it may help (by
kind, then by looking at it: upstream's queueing hints); after five minutes a pod is tried again whatever happened.
Stuck pods stand in groups by who rejected them, so that an event that helps nobody costs nothing per pod.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from proa.scheduler.framework import Event, Happening
from proa.scheduler.pod import PodInfo

BACKOFF_SECONDS_MIN = 1.0
BACKOFF_SECONDS_MAX = 10.0
STUCK_SECONDS_MAX = 300.0
# Events during a cycle are kept to be looked at again when the pod fails; more than these count as "anything".
EVENTS_KEPT_MAX = 64

# (plugin's name, pod, event) -> whether the event may help a pod that the plugin rejected.
Hint = Callable[[str, PodInfo, Event], bool]


@dataclass(slots=True)
class Waiting:
    """A pod in the queue. `rejected_by` names the plugins of its last failure; `gate` says why it may not be tried."""

    pod: PodInfo
    since: float
    attempts: int = 0
    first_tried_at: float = -1.0  # when its first attempt began
    failed_at: float = 0.0
    rejected_by: frozenset[str] = frozenset()
    gate: str = ""
    place: str = ""  # active, backoff, erred (the same after an error), stuck, gated; empty while it is being scheduled
    ready_at: float = 0.0  # when its back-off ends


@dataclass(slots=True)
class Queue:
    """`wakes` maps a plugin's name to the happenings that may help a pod it rejected; `hint` looks closer."""

    wakes: Mapping[str, Happening]
    hint: Hint = lambda name, pod, event: True
    sort_key: Callable[[PodInfo, float], Any] = lambda pod, since: (-pod.priority, since)
    backoff_seconds_min: float = BACKOFF_SECONDS_MIN
    backoff_seconds_max: float = BACKOFF_SECONDS_MAX
    waiting: dict[str, Waiting] = field(default_factory=dict)
    _active: list[tuple[Any, int, str]] = field(default_factory=list)
    _backoff: list[tuple[float, int, str]] = field(default_factory=list)
    _erred: list[tuple[float, int, str]] = field(default_factory=list)  # as _backoff, after an error
    _stuck: dict[frozenset[str], dict[str, Waiting]] = field(default_factory=dict)
    _stuck_until: list[tuple[float, int, str]] = field(default_factory=list)
    _number: int = 0
    # Events while a pod is being scheduled: they may undo the rejection that is about to be reported.
    _since_popped: dict[str, list[Event]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.waiting)

    def add(self, pod: PodInfo, now: float, gate: str = "") -> None:
        """Adds a new pod, or takes over the new form of one that waits; a non-empty `gate` holds it back."""
        entry = self.waiting.get(pod.key)
        if entry is None or entry.pod.uid != pod.uid:
            self.remove(pod.key)
            entry = self.waiting[pod.key] = Waiting(pod, now)
        entry.pod = pod
        was_gated = entry.place == "gated"
        entry.gate = gate
        if gate:
            self._unstick(entry)
            entry.place = "gated"
        elif was_gated or (not entry.place and pod.key not in self._since_popped):
            self._activate(entry)
        elif entry.place == "stuck":
            self._wake(entry, Event(Happening.POD_UPDATE, pod=pod), now)

    def remove(self, key: str) -> None:
        """Forgets a pod: it is gone or has its node."""
        entry = self.waiting.pop(key, None)
        if entry is not None:
            self._unstick(entry)
        self._since_popped.pop(key, None)

    def pop(self, now: float) -> PodInfo | None:
        """Returns the next pod to schedule, or None."""
        self._flush(now)
        while True:
            while self._active:
                key = heapq.heappop(self._active)[2]
                entry = self.waiting.get(key)
                if entry is not None and entry.place == "active":
                    entry.place = ""
                    if entry.first_tried_at < 0:
                        entry.first_tried_at = now
                    self._since_popped[key] = []
                    return entry.pod
            # With nothing else to do, pods that were woken need not sit their time out.
            if not self._next_backing_off():
                return None

    def failed(self, key: str, rejected_by: Iterable[str], now: float, *, retry: bool = False) -> None:
        """Puts a popped pod back: to wait for an event, or with `retry` (an error, no rejection) to back off."""
        entry = self.waiting.get(key)
        events = self._since_popped.pop(key, [])
        if entry is None or entry.gate:
            return
        entry.attempts += 1
        entry.failed_at = entry.since = now
        seconds = min(self.backoff_seconds_min * 2.0 ** min(entry.attempts - 1, 16), self.backoff_seconds_max)
        entry.ready_at = now + seconds
        entry.rejected_by = frozenset(rejected_by)
        if retry or not entry.rejected_by:
            self._back_off(entry, "erred")
        elif any(self._helps(entry, event) for event in events):
            self._back_off(entry)
        else:
            entry.place = "stuck"
            self._stuck.setdefault(entry.rejected_by, {})[key] = entry
            self._number += 1
            heapq.heappush(self._stuck_until, (now + STUCK_SECONDS_MAX, self._number, key))

    def activate(self, key: str) -> None:
        """Lets a pod that waits be tried at once."""
        entry = self.waiting.get(key)
        if entry is not None and entry.place in ("stuck", "backoff", "erred"):
            self._activate(entry)

    def happened(self, event: Event, now: float, *, but: str = "") -> None:
        """Wakes the pods that an event may help, `but` one that caused it."""
        for key, seen in self._since_popped.items():
            if key == but:
                continue
            if len(seen) < EVENTS_KEPT_MAX:
                seen.append(event)
            elif len(seen) == EVENTS_KEPT_MAX:
                seen.append(Event(Happening.ANY))
        for rejected_by, group in list(self._stuck.items()):
            if self._concerns(rejected_by, event.what):
                for entry in list(group.values()):
                    if entry.pod.key != but:
                        self._wake(entry, event, now)

    def recheck_gates(self, gate: Callable[[PodInfo], str], names: Callable[[PodInfo], bool], now: float) -> None:
        """Asks again about the gates of the gated pods that `names` selects."""
        for entry in [one for one in self.waiting.values() if one.place == "gated" and names(one.pod)]:
            self.add(entry.pod, now, gate(entry.pod))

    def next_at(self) -> float | None:
        """Returns when something will be due by itself, or None."""
        return min((heap[0][0] for heap in (self._backoff, self._erred, self._stuck_until) if heap), default=None)

    def _concerns(self, rejected_by: Iterable[str], what: Happening) -> bool:
        return any(self.wakes.get(name, Happening.ANY) & what for name in rejected_by)

    def _helps(self, entry: Waiting, event: Event) -> bool:
        return any(
            self.wakes.get(name, Happening.ANY) & event.what and self.hint(name, entry.pod, event)
            for name in entry.rejected_by
        )

    def _wake(self, entry: Waiting, event: Event, now: float) -> None:
        if self._helps(entry, event):
            if entry.ready_at <= now:
                self._activate(entry)
            else:
                self._back_off(entry)

    def _unstick(self, entry: Waiting) -> None:
        group = self._stuck.get(entry.rejected_by)
        if group is not None and group.pop(entry.pod.key, None) is not None and not group:
            del self._stuck[entry.rejected_by]

    def _activate(self, entry: Waiting) -> None:
        self._unstick(entry)
        entry.place = "active"
        self._number += 1
        heapq.heappush(self._active, (self.sort_key(entry.pod, entry.since), self._number, entry.pod.key))

    def _back_off(self, entry: Waiting, place: str = "backoff") -> None:
        self._unstick(entry)
        entry.place = place
        self._number += 1
        heap = self._backoff if place == "backoff" else self._erred
        heapq.heappush(heap, (entry.ready_at, self._number, entry.pod.key))

    def _next_backing_off(self) -> bool:
        """Lets the first pod that backs off be tried; tells whether there is one."""
        while self._backoff:
            if self._end_back_off(heapq.heappop(self._backoff), "backoff"):
                return True
        return False

    def _end_back_off(self, item: tuple[float, int, str], place: str) -> bool:
        entry = self.waiting.get(item[2])
        if entry is None or entry.place != place or entry.ready_at != item[0]:
            return False  # it was woken since, or backs off again
        self._activate(entry)
        return True

    def _flush(self, now: float) -> None:
        for heap, place in ((self._backoff, "backoff"), (self._erred, "erred")):
            while heap and heap[0][0] <= now:
                self._end_back_off(heapq.heappop(heap), place)
        while self._stuck_until and self._stuck_until[0][0] <= now:
            entry = self.waiting.get(heapq.heappop(self._stuck_until)[2])
            if entry is not None and entry.place == "stuck" and entry.failed_at + STUCK_SECONDS_MAX <= now:
                self._activate(entry)
