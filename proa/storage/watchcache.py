"""The state of a store in memory: every current entry, and a window of recent events to resume from and to undo.

Reads and watches are served from here alone, so that GET, LIST and watch never touch a disk; a listing at an older
revision is the current one with the window's newer events undone. What lies behind the window is the log's business
(`logstore`). An event is one object for all its watchers, so what they derive from it is made once.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left, bisect_right, insort
from collections import deque
from collections.abc import Iterable, Sequence

from proa.storage.interface import Entry, Event, Page

_WOKEN_AT_ONCE = 256


def table_of(key: str) -> str:
    """Returns the table that a key or prefix belongs to."""
    return key[: key.index("/")]


def prefix_end(prefix: str) -> str:
    """Returns the least key that is greater than every key with this prefix."""
    return prefix[:-1] + chr(ord(prefix[-1]) + 1)


def _wake(waiters: list[asyncio.Future[bool]]) -> None:
    """Wakes who waits, some at a time: thousands at once would keep everything else waiting for the event loop."""
    for waiter in waiters[:_WOKEN_AT_ONCE]:
        if not waiter.done():
            waiter.set_result(True)
    rest = waiters[_WOKEN_AT_ONCE:]
    if rest:
        rest[0].get_loop().call_soon(_wake, rest)


class Table:
    """One table's entries in key order, and the window of its events.

    Invariant: `events` holds every event of this table with a revision greater than `floor`, in order.
    `dropped` counts events that left the window: the absolute position of `events[0]`.
    """

    __slots__ = ("dropped", "entries", "events", "floor", "keys", "waiters")

    def __init__(self, floor: int) -> None:
        self.entries: dict[str, Entry] = {}
        self.keys: list[str] = []
        self.events: deque[Event] = deque()
        self.dropped = 0
        self.floor = floor
        self.waiters: set[asyncio.Future[bool]] = set()

    def apply(self, event: Event) -> None:
        key = event.entry.key
        if event.deleted:
            del self.entries[key]
            del self.keys[bisect_left(self.keys, key)]
        else:
            if key not in self.entries:
                insort(self.keys, key)
            self.entries[key] = event.entry
        self.events.append(event)

    def drop_oldest(self) -> None:
        self.floor = self.events.popleft().revision
        self.dropped += 1

    def since(self, position: int) -> list[Event]:
        """Returns the events from an absolute position on; their number is small beside the window's, as a rule."""
        count = self.dropped + len(self.events) - position
        if count <= 0:
            return []
        if count >= len(self.events):
            return list(self.events)
        newest_first = reversed(self.events)
        found = [next(newest_first) for _ in range(count)]
        found.reverse()
        return found

    @property
    def position(self) -> int:
        """The absolute position of the next event."""
        return self.dropped + len(self.events)

    def position_after(self, revision: int) -> int:
        """Returns the absolute position of the first event newer than a revision that is not below the floor."""
        position = self.dropped + len(self.events)
        for event in reversed(self.events):
            if event.revision <= revision:
                break
            position -= 1
        return position

    def keys_between(self, start: str, end: str) -> Sequence[str]:
        return self.keys[bisect_left(self.keys, start) : bisect_left(self.keys, end)]

    def undone(self, revision: int) -> dict[str, Entry | None]:
        """Returns what the keys that changed since a revision held then; needs revision >= floor."""
        then: dict[str, Entry | None] = {}
        for event in reversed(self.events):
            if event.revision <= revision:
                break
            then[event.entry.key] = event.previous
        return then


class WatchCache:
    """All tables, at one revision. Invariant: only `apply` moves `revision`, and never back."""

    def __init__(self, window_bytes_max: int) -> None:
        self.revision = 1
        self.compacted = 1
        self.tables: dict[str, Table] = {}
        self._window_bytes_max = window_bytes_max
        self._window_bytes = 0
        self._order: deque[tuple[Table, int, int]] = deque()  # (table, bytes, revision) of each event in a window

    def load(self, entries: Iterable[Entry], revision: int, compacted: int) -> None:
        """Takes over a log's current entries (in key order) and its revision."""
        self.revision = revision
        self.compacted = compacted
        for entry in entries:
            table = self.table(entry.key)
            table.entries[entry.key] = entry
            table.keys.append(entry.key)

    def table(self, key: str) -> Table:
        name = table_of(key)
        table = self.tables.get(name)
        if table is None:
            table = self.tables[name] = Table(floor=self.revision)
        return table

    def get(self, key: str) -> Entry | None:
        return self.table(key).entries.get(key)

    def page(self, prefix: str, after: str, limit: int, revision: int) -> Page | None:
        """Returns part of a listing as it was at a revision, or None if the window does not reach back to it."""
        table = self.table(prefix)
        if revision < table.floor:
            return None
        end = prefix_end(prefix)
        start = max(prefix, after + "\0") if after else prefix
        then = table.undone(revision) if revision < self.revision else {}
        if not then:
            first, behind = bisect_left(table.keys, start), bisect_left(table.keys, end)
            last = min(first + limit, behind) if limit else behind
            entries = table.entries
            return Page([entries[key] for key in table.keys[first:last]], revision, max(behind - last, 0))
        found = {key: table.entries[key] for key in table.keys_between(start, end) if key not in then}
        found.update((key, entry) for key, entry in then.items() if entry is not None and start <= key < end)
        keys = sorted(found)
        shown = keys[:limit] if limit else keys
        return Page([found[key] for key in shown], revision, len(keys) - len(shown))

    def apply(self, events: Sequence[Event], revision: int) -> None:
        """Makes durable events visible, all at once, and wakes who waits for them."""
        touched = {}
        for event in events:
            table = self.table(event.entry.key)
            table.apply(event)
            size = len(event.entry.value)
            self._order.append((table, size, event.revision))
            self._window_bytes += size
            touched[id(table)] = table
        self.revision = revision
        while self._window_bytes > self._window_bytes_max and len(self._order) > 1:
            self._drop_oldest()
        for table in touched.values():
            waiters, table.waiters = table.waiters, set()
            if waiters:
                _wake(list(waiters))

    def compact(self, revision: int) -> None:
        """Forgets the events up to a revision."""
        self.compacted = max(self.compacted, min(revision, self.revision))
        while self._order and self._order[0][2] <= self.compacted:
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        table, size, _ = self._order.popleft()
        self._window_bytes -= size
        table.drop_oldest()

    def keys_count(self, prefix: str) -> int:
        keys = self.table(prefix).keys
        return bisect_left(keys, prefix_end(prefix)) - bisect_right(keys, prefix)
