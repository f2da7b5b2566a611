"""Records events as client-go's newer recorder (tools/events) does: with a time, an action, and series.

The first occurrence is written. The second makes a series of it; those after that are only counted, and the count is
written when the series has gone quiet, or every half hour. Occurrences are the same if type, reason, action, the
reporter and what they are about (and related to) are the same; the text may differ, the first one stays.

The stored form of an event is core v1's, so that is what is sent: nothing has to be converted for one event a pod.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime, timedelta

from proa.client.events import Recorder, reference_to
from proa.client.interface import Client
from proa.client.resources import EVENTS
from proa.meta.errors import StatusError
from proa.meta.objects import Obj
from proa.util.clock import Clock, rfc3339_micro

QUIET_SECONDS = 360.0
REFRESH_SECONDS = 1800.0
NOTE_LENGTH_MAX = 1024
_TRIES_MAX = 12
_RETRY_SECONDS = 10.0
_CACHE_SIZE = 4096

_Key = tuple[object, ...]


@dataclass(slots=True)
class _Series:
    event: Obj
    seen_at: datetime
    count: int = 1
    written_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Write:
    """An event to create, or with `series` a series to note on an event that is there (or was)."""

    event: Obj
    series: Obj | None = None


class SeriesLog:
    """Decides what is written of what happens. Pure but for its memory."""

    def __init__(self, controller: str, instance: str) -> None:
        self._reporter = {"reportingComponent": controller, "reportingInstance": instance}
        self._known: dict[_Key, _Series] = {}
        self._named_at = 0

    def __len__(self) -> int:
        return len(self._known)

    def occurrence(
        self,
        about: Obj,
        type: str,
        reason: str,
        action: str,
        note: str,
        *,
        now: datetime,
        related: Obj | None = None,
        once: bool = False,
    ) -> Write | None:
        """Returns what to write, if anything. `about` and `related` are references; what happens `once` is not kept."""
        key = (type, reason, action, *about.items(), *(related or {}).items())
        known = None if once else self._known.get(key)
        if known is None:
            event = self._event(about, type, reason, action, note, now, related)
            if not once:
                if len(self._known) >= _CACHE_SIZE:
                    del self._known[next(iter(self._known))]
                self._known[key] = _Series(event, now)
            return Write(event)
        known.count += 1
        known.seen_at = now
        if known.written_at is not None:
            return None
        known.written_at = now
        return Write(known.event, _series(known))

    def due(self, now: datetime) -> list[Write]:
        """Returns what is to be written of series that went quiet or were not written for long; forgets the quiet."""
        writes = []
        for key, known in list(self._known.items()):
            quiet = now - known.seen_at >= timedelta(seconds=QUIET_SECONDS)
            if quiet:
                del self._known[key]
            if known.written_at is None:
                continue
            if quiet or now - known.written_at >= timedelta(seconds=REFRESH_SECONDS):
                known.written_at = now
                writes.append(Write(known.event, _series(known)))
        return writes

    def _event(
        self, about: Obj, type: str, reason: str, action: str, note: str, now: datetime, related: Obj | None
    ) -> Obj:
        # Named after the moment, in nanoseconds; two within one get different names.
        self._named_at = max(self._named_at + 1, int(now.timestamp() * 1e6) * 1000)
        # Events about cluster-scoped objects live in the default namespace.
        event: Obj = {
            "kind": "Event",
            "apiVersion": "v1",
            "metadata": {
                "name": f"{about.get('name', '')}.{self._named_at:x}",
                "namespace": about.get("namespace") or "default",
            },
            "involvedObject": about,
            "reason": reason,
            "message": truncated(note),
            "source": {},
            "firstTimestamp": None,
            "lastTimestamp": None,
            "type": type,
            "eventTime": rfc3339_micro(now),
            "action": action,
            **self._reporter,
        }
        if related is not None:
            event["related"] = related
        return event


def _series(known: _Series) -> Obj:
    return {"count": known.count, "lastObservedTime": rfc3339_micro(known.seen_at)}


def truncated(note: str) -> str:
    """Shortens a text to what an event may hold."""
    return note if len(note) <= NOTE_LENGTH_MAX else note[: NOTE_LENGTH_MAX - 4] + " ..."


class SeriesRecorder(Recorder[Write]):
    """Writes events as one controller. `event` may be called from any coroutine's code; it never blocks or fails."""

    def __init__(self, client: Client, clock: Clock, controller: str, host: str) -> None:
        super().__init__()
        self._client = client
        self._clock = clock
        self._log = SeriesLog(controller, f"{controller}-{host}")
        self._timer: asyncio.TimerHandle | None = None

    def event(
        self,
        obj: Obj,
        type: str,
        reason: str,
        action: str,
        note: str,
        *,
        related: Obj | None = None,
        once: bool = False,
    ) -> None:
        """Records that something happened to `obj`, `related` to another object; `type` is Normal or Warning.

        What can happen only `once` to this state of the object is not remembered to be counted.
        """
        write = self._log.occurrence(
            reference_to(obj),
            type,
            reason,
            action,
            note,
            now=self._clock.now(),
            related=None if related is None else reference_to(related),
            once=once,
        )
        if write is not None:
            self._put(write)
        if len(self._log) and self._timer is None:
            self._arm()

    def _arm(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(QUIET_SECONDS, self._look_again)

    def _look_again(self) -> None:
        self._timer = None
        for write in self._log.due(self._clock.now()):
            self._put(write)
        if len(self._log):
            self._arm()

    async def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        await super().stop()

    def _name(self, item: Write) -> str:
        name: str = item.event["metadata"]["name"]
        return name

    async def _write(self, item: Write) -> None:
        for attempt in range(_TRIES_MAX):
            try:
                await self._attempt(item)
            except (OSError, EOFError):
                if attempt == _TRIES_MAX - 1:
                    raise
                await asyncio.sleep(_RETRY_SECONDS)
            else:
                return

    async def _attempt(self, item: Write) -> None:
        meta, event = item.event["metadata"], item.event
        if item.series is not None:
            try:
                await self._client.patch(EVENTS, meta["name"], {"series": item.series}, meta["namespace"])
                return
            except StatusError as error:
                if error.code != 404:
                    raise
            event = {**event, "series": item.series}
        await self._client.create(EVENTS, event, meta["namespace"])
