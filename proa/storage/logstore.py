"""A store over a durable log: serialises writes per key, groups commits, and serves every read from memory.

The rules that make the guarantees hold, whatever the log is:
- A key has at most one write under way; the next one waits and then judges the durable state. So nobody is told of,
  or refused because of, a write that may still fail.
- At most one group of writes is with the log; all that arrive meanwhile form the next group and share its cost.
- A group becomes visible in one step, after it is durable, and before any of its writers continues.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from proa.storage.interface import Compacted, Conflict, Entry, Event, Page, StoreFailed, Value
from proa.storage.watchcache import WatchCache

if TYPE_CHECKING:
    from proa.storage.encryption import EncryptedLog

RETENTION_SECONDS = 300.0
_MARKS_PER_RETENTION = 5

Committed = Callable[[int], None] | None


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a log holds when it is opened: current entries in key order, newest and oldest retained revision."""

    entries: Iterable[Entry]
    revision: int
    compacted: int


class Log(Protocol):
    """Where events last. Every method may run for long in a thread of the log's own."""

    async def open(self) -> Loaded: ...

    async def close(self) -> None: ...

    async def append(self, events: Sequence[Event]) -> None:
        """Returns once all events are durable; none is if it raises StoreFull or StoreFailed."""
        ...

    async def page(self, prefix: str, after: str, limit: int, revision: int) -> Page:
        """Returns part of a listing at a retained revision."""
        ...

    async def events(self, prefix: str, after: int, upto: int) -> Sequence[Event]:
        """Returns the first few events (none only if there are none) with after < revision <= upto, in order."""
        ...

    async def compact(self, revision: int) -> None: ...


class _Write:
    __slots__ = ("committed", "done", "key", "previous", "value")

    def __init__(self, key: str, value: Value | None, previous: Entry | None, committed: Committed) -> None:
        self.key = key
        self.value = value
        self.previous = previous
        self.committed = committed
        self.done: asyncio.Future[Entry] = asyncio.get_running_loop().create_future()

    def event(self, revision: int) -> Event:
        previous = self.previous
        if self.value is None:
            assert previous is not None
            entry = previous.restamped(revision)
        else:
            created = previous.create_revision if previous else revision
            entry = Entry(self.key, self.value.at(revision), revision, created, self.value.gap)
        return Event(entry, previous, self.value is None)


class LogStore:
    """The store; `log` None keeps everything in memory only. See `proa.storage.interface.Store` for the methods."""

    def __init__(self, log: Log | None, *, window_bytes_max: int, retention_seconds: float = RETENTION_SECONDS) -> None:
        self._log = log
        self.encrypted: EncryptedLog | None = None  # the part of it that encrypts, if one does
        self._cache = WatchCache(window_bytes_max)
        self._retention_seconds = retention_seconds
        self._pending: dict[str, _Write] = {}
        self._queue: list[_Write] = []
        self._committer: asyncio.Task[None] | None = None
        self._compactor: asyncio.Task[None] | None = None
        self._closed = True

    @property
    def revision(self) -> int:
        return self._cache.revision

    @property
    def compacted(self) -> int:
        return self._cache.compacted

    async def start(self) -> None:
        if self._log is not None:
            loaded = await self._log.open()
            self._cache.load(loaded.entries, loaded.revision, loaded.compacted)
        self._closed = False
        if self._retention_seconds:
            self._compactor = asyncio.create_task(self._compact_by_age(), name="store compaction")

    async def close(self) -> None:
        """Ends after the writes under way; every later write fails."""
        self._closed = True
        if self._compactor is not None:
            self._compactor.cancel()
            await asyncio.gather(self._compactor, return_exceptions=True)
        if self._committer is not None:
            await self._committer
        if self._log is not None:
            await self._log.close()

    def current(self, key: str) -> Entry | None:
        return self._cache.get(key)

    async def get(self, key: str, *, revision: int | None = None) -> Entry | None:
        if revision is None or revision >= self._cache.revision:
            return self._cache.get(key)
        page = await self.list(key, limit=1, revision=revision)
        return page.entries[0] if page.entries and page.entries[0].key == key else None

    async def list(self, prefix: str, *, after: str = "", limit: int = 0, revision: int | None = None) -> Page:
        if revision is not None and revision < self._cache.compacted:
            raise Compacted(self._cache.compacted)
        at = self._cache.revision if revision is None else min(revision, self._cache.revision)
        page = self._cache.page(prefix, after, limit, at)
        if page is not None:
            return page
        if self._log is None:
            raise Compacted(self._cache.compacted)
        return await self._log.page(prefix, after, limit, at)

    def count(self, prefix: str) -> int:
        return self._cache.keys_count(prefix)

    def counts(self) -> dict[str, int]:
        return {name: len(table.keys) for name, table in self._cache.tables.items()}

    def currents(self, prefix: str) -> Sequence[Entry]:
        page = self._cache.page(prefix, "", 0, self._cache.revision)
        assert page is not None  # the window always reaches back to now
        return page.entries

    def changes(self, prefix: str) -> int:
        return self._cache.table(prefix).position

    def counter(self, prefix: str) -> Callable[[], int]:
        table = self._cache.table(prefix)
        return lambda: table.dropped + len(table.events)

    def changed(self, prefix: str, since: int) -> Sequence[Event] | None:
        table = self._cache.table(prefix)
        return table.since(since) if since >= table.dropped else None

    async def write(self, key: str, value: Value | None, *, expected: int | None, committed: Committed = None) -> Entry:
        while (earlier := self._pending.get(key)) is not None:
            await asyncio.wait([earlier.done])
        if self._closed:
            raise StoreFailed("the store is closed")
        current = self._cache.get(key)
        missing = current is None and value is None
        if missing or (expected is not None and (current.revision if current else 0) != expected):
            raise Conflict(current)
        write = _Write(key, value, current, committed)
        if self._log is None:
            event = write.event(self._cache.revision + 1)
            self._publish([write], [event])
            return event.entry
        self._pending[key] = write
        self._queue.append(write)
        if self._committer is None:
            self._committer = asyncio.create_task(self._commit(self._log), name="store commits")
        return await asyncio.shield(write.done)

    async def _commit(self, log: Log) -> None:
        """Commits group after group until none waits."""
        while self._queue:
            group, self._queue = self._queue, []
            first = self._cache.revision + 1
            events = [write.event(revision) for revision, write in enumerate(group, first)]
            failure: Exception | None = None
            try:
                await log.append(events)
            except Exception as error:
                failure = error
            else:
                self._publish(group, events)
            for write, event in zip(group, events, strict=True):
                del self._pending[write.key]
                if failure is None:
                    write.done.set_result(event.entry)
                else:
                    write.done.set_exception(failure)
                    write.done.exception()  # its writer may be gone; that is no reason for a warning
        self._committer = None

    def _publish(self, group: Sequence[_Write], events: Sequence[Event]) -> None:
        for write, event in zip(group, events, strict=True):
            if write.committed is not None:
                write.committed(event.revision)
        self._cache.apply(events, events[-1].revision)

    def watch(self, prefix: str, *, after: int) -> LogWatch:
        return LogWatch(self._cache, self._log, prefix, after)

    async def compact(self, revision: int) -> None:
        self._cache.compact(revision)
        if self._log is not None:
            await self._log.compact(self._cache.compacted)

    async def _compact_by_age(self) -> None:
        marks: deque[int] = deque(maxlen=_MARKS_PER_RETENTION)
        while True:
            await asyncio.sleep(self._retention_seconds / _MARKS_PER_RETENTION)
            if len(marks) == marks.maxlen and marks[0] > self._cache.compacted:
                await self.compact(marks[0])
            marks.append(self._cache.revision)


class LogWatch:
    """A reader's place in the log: in the cache's window as a rule, behind it when it starts late or reads slowly."""

    __slots__ = ("_cache", "_log", "_place", "_prefix", "_table", "_whole", "revision")

    def __init__(self, cache: WatchCache, log: Log | None, prefix: str, after: int) -> None:
        self._cache = cache
        self._log = log
        self._prefix = prefix
        self._table = cache.table(prefix)
        self._whole = prefix.index("/") == len(prefix) - 1
        self._place = -1  # absolute position in the table's window, once in it
        self.revision = after

    def __aiter__(self) -> AsyncIterator[Sequence[Event]]:
        return self

    async def __anext__(self) -> Sequence[Event]:
        return await self.next()

    async def next(self, timeout_seconds: float | None = None) -> Sequence[Event]:
        loop = asyncio.get_running_loop()
        deadline = None if timeout_seconds is None else loop.time() + timeout_seconds
        table = self._table
        expired = False
        while True:
            if self._place < table.dropped and not self._enter_window():
                batch = await self._behind()
            else:
                batch = table.since(self._place)
                self._place += len(batch)
                self.revision = max(self.revision, self._cache.revision)
            if not self._whole:
                batch = [event for event in batch if event.entry.key.startswith(self._prefix)]
            if batch or expired:
                return batch
            if self._place == table.dropped + len(table.events):
                expired = not await self._wait(loop, deadline)

    def _enter_window(self) -> bool:
        """Finds the place in the window; False if it does not reach back far enough."""
        if self.revision < max(self._table.floor, self._cache.compacted):
            return False
        self._place = self._table.position_after(self.revision)
        return True

    async def _behind(self) -> Sequence[Event]:
        if self.revision < self._cache.compacted or self._log is None:
            raise Compacted(self._cache.compacted)
        floor = self._table.floor
        events = await self._log.events(self._prefix, self.revision, floor)
        if self.revision < self._cache.compacted and not events:
            raise Compacted(self._cache.compacted)
        self.revision = events[-1].revision if events else floor
        return events

    async def _wait(self, loop: asyncio.AbstractEventLoop, deadline: float | None) -> bool:
        """Waits for the table's next event; False after the deadline, in the loop's time."""
        waiter: asyncio.Future[bool] = loop.create_future()
        timer = None if deadline is None else loop.call_at(deadline, _expire, waiter)
        self._table.waiters.add(waiter)
        try:
            return await waiter
        finally:
            self._table.waiters.discard(waiter)
            if timer is not None:
                timer.cancel()


def _expire(waiter: asyncio.Future[bool]) -> None:
    if not waiter.done():
        waiter.set_result(False)
