"""The store's contract: an ordered log of revisions over keys, as etcd's.

`resourceVersion` is the log's revision. Every write gets the next one; it is visible to reads and watches only once
it is durable. One contract suite (tests/contract/test_store.py) runs against every implementation.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Value:
    """An encoded object with a gap where its own revision goes: `head` + revision + `tail`.

    The API server encodes an object once; the store fills in the revision at commit and keeps the whole.
    Values that hold no revision have an empty tail and `stamped` false.
    """

    head: bytes
    tail: bytes = b""
    stamped: bool = True

    def at(self, revision: int) -> bytes:
        """Returns the bytes as stored and served."""
        return self.head + b"%d" % revision + self.tail if self.stamped else self.head


@dataclass(frozen=True, slots=True)
class Entry:
    """A key's value at one revision. `revision` is that of its last write, `create_revision` of its creation."""

    key: str
    value: bytes
    revision: int
    create_revision: int


@dataclass(frozen=True, slots=True)
class Page:
    """Part of a listing in key order, all of it at one `revision`. `remaining` counts what lies behind it."""

    entries: Sequence[Entry]
    revision: int
    remaining: int = 0


@dataclass(frozen=True, slots=True)
class Event:
    """A write as watchers see it: `entry` is the new state (of a deletion: the last value, its revision that of the
    deletion), `previous` the state before (None for a creation)."""

    type: str  # "put" or "delete"
    entry: Entry
    previous: Entry | None


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


class Store(Protocol):
    """All methods are coroutine-safe; reads without a revision see every write acknowledged before."""

    @property
    def revision(self) -> int:
        """The newest durable revision."""
        ...

    async def start(self) -> None: ...

    async def close(self) -> None: ...

    async def get(self, key: str, *, revision: int | None = None) -> Entry | None:
        """Returns the entry, now or at a retained revision; raises Compacted."""
        ...

    async def list(self, prefix: str, *, after: str = "", limit: int = 0, revision: int | None = None) -> Page:
        """Returns the entries whose keys begin with `prefix` and are greater than `after`; 0 means no limit."""
        ...

    async def write(self, key: str, value: Value | None, *, expected: int | None) -> Entry:
        """Sets a key (or deletes it: None) if its revision is `expected` (0: it must not exist; None: whatever it is).

        Returns the new entry (of a deletion: the deleted value at the deletion's revision) once it is durable.
        Raises Conflict, StoreFull.
        """
        ...

    def watch(self, prefix: str, *, after: int) -> AsyncIterator[Sequence[Event]]:
        """Yields every event with a revision greater than `after`, in order, in batches of one revision or more.

        Raises Compacted (at once or when the reader falls behind what is retained).
        """
        ...

    async def compact(self, revision: int) -> None:
        """Forgets what was overwritten or deleted before `revision`."""
        ...
