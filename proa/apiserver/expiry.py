"""Events go an hour after they were last written, as with upstream's `--event-ttl`; their watchers see them deleted.

When an event was last written its revision tells: the store's revision is noted from time to time, and what is not
newer than the note of an hour ago is over. Only of events that are older than this server's notes the times in
themselves count.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

from proa.apiserver.encoding import decode
from proa.meta.objects import Obj, metadata
from proa.storage.interface import Conflict, Entry, Store, StoreFailed, StoreFull
from proa.util.clock import Clock, parse_rfc3339

log = logging.getLogger(__name__)

PREFIX = "events/"
# How exact the end of an event is. Upstream's is as exact as a lease that it shares with others: a minute.
_STEP_SECONDS = 120.0
_AT_ONCE = 250


class Notes:
    """Which revision the store had when; pure."""

    def __init__(self, revision: int) -> None:
        self.first = revision
        self._notes: deque[tuple[datetime, int]] = deque()

    def add(self, now: datetime, revision: int) -> None:
        self._notes.append((now, revision))

    def before(self, then: datetime) -> int:
        """Returns the newest revision that was noted at `then` or earlier, 0 if none was; forgets those before it."""
        while len(self._notes) > 1 and self._notes[1][0] <= then:
            self._notes.popleft()
        return self._notes[0][1] if self._notes and self._notes[0][0] <= then else 0


def last_seen(event: Obj) -> datetime:
    """Returns the newest time that an event names: of its series, its count, or its creation."""
    stamps = [event.get("lastTimestamp"), (event.get("series") or {}).get("lastObservedTime"), event.get("eventTime")]
    return max(parse_rfc3339(one) for one in (*stamps, metadata(event)["creationTimestamp"]) if one)


def _parts(entries: Sequence[Entry]) -> Iterator[Sequence[Entry]]:
    """Gives the entries in parts that take the event loop for a few milliseconds."""
    for first in range(0, len(entries), _AT_ONCE):
        yield entries[first : first + _AT_ONCE]


class EventExpiry:
    """Deletes the events of `store` that nobody has written for `seconds`."""

    def __init__(self, store: Store, clock: Clock, seconds: float) -> None:
        self._store = store
        self._clock = clock
        self._ttl = timedelta(seconds=seconds)
        self._inherited: dict[tuple[str, int], datetime] = {}  # last seen, of events from before this server's notes

    async def run(self) -> None:
        """Runs until it is cancelled."""
        notes = Notes(self._store.revision)
        while True:
            notes.add(self._clock.now(), self._store.revision)
            await asyncio.sleep(_STEP_SECONDS)
            try:
                await self._round(notes)
            except (StoreFull, StoreFailed) as error:
                log.warning("old events stay: %s", error)

    async def _round(self, notes: Notes) -> None:
        then = self._clock.now() - self._ttl
        over = notes.before(then)
        events = self._store.currents(PREFIX)
        expired = [one for one in events if one.revision <= over]
        inherited = [one for one in events if over < one.revision <= notes.first]
        if not inherited:
            self._inherited.clear()
        for part in _parts(inherited):
            expired += [one for one in part if self._last_seen(one) <= then]
            await asyncio.sleep(0)
        for part in _parts(expired):
            await asyncio.gather(*(self._delete(one) for one in part))

    def _last_seen(self, entry: Entry) -> datetime:
        key = (entry.key, entry.revision)
        seen = self._inherited.get(key)
        if seen is None:
            seen = self._inherited[key] = last_seen(decode(entry.value))
        return seen

    async def _delete(self, entry: Entry) -> None:
        try:
            await self._store.write(entry.key, None, expected=entry.revision)
        except Conflict:
            pass  # written anew, or gone
