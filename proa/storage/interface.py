"""The store's contract: an ordered log of revisions over keys, as etcd's.

`resourceVersion` is the log's revision. Every write gets the next one; it is visible to reads and watches only once
it is durable. One contract suite (tests/contract/test_store.py) runs against every implementation.

A key is `table/…`: the part before the first slash names the table, and every prefix contains that slash. Entries and
events are shared between all readers; an entry's `memo` is for what readers derive from its value (what selectors look
at, for example): whoever finds it empty may fill it. So is its `form`, for readers who show it in a form of their own.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Value:
    """An encoded object with a gap where its own revision goes: `head` + revision + `tail`.

    The API server encodes an object once; the store fills in the revision at commit and keeps the whole.
    Values that hold no revision have an empty tail and `stamped` false.
    """

    head: bytes
    tail: bytes = b""
    stamped: bool = True

    @property
    def gap(self) -> int:
        """Where the revision goes, or 0 if nowhere."""
        return len(self.head) if self.stamped else 0

    def at(self, revision: int) -> bytes:
        """Returns the bytes as stored and served."""
        return self.head + b"%d" % revision + self.tail if self.stamped else self.head


class Entry:
    """A key's value at one revision. `revision` is that of its last write, `create_revision` of its creation.

    `gap` is where the revision stands in `value` (0: nowhere).
    """

    __slots__ = ("create_revision", "form", "gap", "key", "memo", "revision", "value")

    def __init__(self, key: str, value: bytes, revision: int, create_revision: int, gap: int = 0) -> None:
        self.key = key
        self.value = value
        self.revision = revision
        self.create_revision = create_revision
        self.gap = gap
        self.memo: Any = None
        self.form: Any = None

    def restamped(self, revision: int) -> Entry:
        """Returns the same value with another revision in its gap: what a deletion shows."""
        value = self.value
        if self.gap:
            end = self.gap + len(str(self.revision))
            value = b"%b%d%b" % (value[: self.gap], revision, value[end:])
        return Entry(self.key, value, revision, self.create_revision, self.gap)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Entry) and self._identity() == other._identity()

    def __hash__(self) -> int:
        return hash((self.key, self.revision))

    def __repr__(self) -> str:
        return f"Entry({self.key!r}, {self.value!r}, revision={self.revision}, create_revision={self.create_revision})"

    def _identity(self) -> tuple[str, bytes, int, int]:
        return self.key, self.value, self.revision, self.create_revision


@dataclass(frozen=True, slots=True)
class Page:
    """Part of a listing in key order, all of it at one `revision`. `remaining` counts what lies behind it."""

    entries: Sequence[Entry]
    revision: int
    remaining: int = 0


class Event:
    """A write as watchers see it: `entry` is the new state (of a deletion: the last value, its revision that of the
    deletion), `previous` the state before (None for a creation)."""

    __slots__ = ("deleted", "entry", "previous")

    def __init__(self, entry: Entry, previous: Entry | None, deleted: bool) -> None:
        self.entry = entry
        self.previous = previous
        self.deleted = deleted

    @property
    def revision(self) -> int:
        return self.entry.revision

    def __repr__(self) -> str:
        return f"Event({'delete' if self.deleted else 'put'} {self.entry!r})"


class Conflict(Exception):
    """A write's expectation did not hold; `current` is the key's entry now, None if there is none."""

    def __init__(self, current: Entry | None) -> None:
        super().__init__("the key is not at the expected revision")
        self.current = current


class Compacted(Exception):
    """The revision asked for is older than the oldest retained one (`oldest`)."""

    def __init__(self, oldest: int) -> None:
        super().__init__(f"the requested revision has been compacted; the oldest is {oldest}")
        self.oldest = oldest


class StoreFull(Exception):
    """No space is left; the write was not done (507)."""


class StoreFailed(Exception):
    """The log could not be written or the store is closed; the write was not done (503)."""


class Watch(Protocol):
    """A reader of events: `async for batch in watch`, or `next` with a timeout."""

    @property
    def revision(self) -> int:
        """Every event up to this revision was handed out: what a bookmark may say."""
        ...

    async def next(self, timeout_seconds: float | None = None) -> Sequence[Event]:
        """Returns the next batch, or an empty one after the timeout; raises Compacted."""
        ...

    def __aiter__(self) -> AsyncIterator[Sequence[Event]]: ...

    async def __anext__(self) -> Sequence[Event]: ...


class Store(Protocol):
    """All methods are coroutine-safe; reads without a revision see every write acknowledged before."""

    @property
    def revision(self) -> int:
        """The newest durable revision."""
        ...

    @property
    def compacted(self) -> int:
        """The oldest revision that can still be read, and watched from."""
        ...

    async def start(self) -> None: ...

    async def close(self) -> None: ...

    def current(self, key: str) -> Entry | None:
        """Returns the entry now; never waits."""
        ...

    async def get(self, key: str, *, revision: int | None = None) -> Entry | None:
        """Returns the entry, now or at a retained revision; raises Compacted."""
        ...

    async def list(self, prefix: str, *, after: str = "", limit: int = 0, revision: int | None = None) -> Page:
        """Returns the entries whose keys begin with `prefix` and are greater than `after`; 0 means no limit.

        Raises Compacted; the revision must not be newer than the store's.
        """
        ...

    def count(self, prefix: str) -> int:
        """Returns how many entries there are now."""
        ...

    def currents(self, prefix: str) -> Sequence[Entry]:
        """Returns all entries now, in key order; never waits."""
        ...

    def changes(self, prefix: str) -> int:
        """Returns the number of changes in the prefix's table so far; it only grows."""
        ...

    def counter(self, prefix: str) -> Callable[[], int]:
        """Returns what tells the same as `changes`, for who asks at every write; only once the store has started."""
        ...

    def changed(self, prefix: str, since: int) -> Sequence[Event] | None:
        """Returns the changes in the prefix's table after the first `since`; None if they are no longer in memory."""
        ...

    def counts(self) -> Mapping[str, int]:
        """Returns how many entries each table has now."""
        ...

    async def write(
        self, key: str, value: Value | None, *, expected: int | None, committed: Callable[[int], None] | None = None
    ) -> Entry:
        """Sets a key (or deletes it: None) if its revision is `expected` (0: it must not exist; None: whatever it is).

        Returns the new entry (of a deletion: the deleted value at the deletion's revision) once it is durable.
        `committed` is called with its revision when it is durable and just before anybody can see it. Deleting a key
        that does not exist is a Conflict. Raises Conflict, StoreFull, StoreFailed.
        """
        ...

    def watch(self, prefix: str, *, after: int) -> Watch:
        """Hands out every event with a revision greater than `after`, in order, in batches of one revision or more.

        `next` raises Compacted (at once or when the reader falls behind what is retained).
        """
        ...

    async def compact(self, revision: int) -> None:
        """Forgets what was overwritten or deleted before `revision`."""
        ...
