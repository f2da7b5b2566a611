"""The store in one SQLite file: the log is one table, written by one thread, with WAL and `synchronous=FULL`.

A group of writes is one transaction, so it costs one fsync. The same thread checkpoints in small steps between groups,
compacts in small transactions and gives freed pages back bit by bit: no step holds up writers for long, and no file
only grows. A second connection, in a thread of its own, reads what memory no longer holds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import apsw

from proa.storage.interface import Entry, Event, Page, StoreFailed, StoreFull
from proa.storage.logstore import RETENTION_SECONDS, Loaded, LogStore
from proa.storage.watchcache import prefix_end
from proa.storage.worker import Worker

if TYPE_CHECKING:
    from proa.storage.encryption import Rule

T = TypeVar("T")

_WINDOW_BYTES_MAX = 8 << 20
_CHECKPOINT_PAGES = 400  # of 4 KiB: at most so many are copied between two groups
_COMPACT_ROWS = 500
_VACUUM_PAGES = 256
_EVENTS_PER_READ = 500
_CHANGE_ROWS = 200
_FORMAT = 1

_SCHEMA = """
CREATE TABLE IF NOT EXISTS log (
    revision INTEGER PRIMARY KEY,
    key TEXT NOT NULL,
    created INTEGER NOT NULL,   -- the key's create revision
    previous INTEGER NOT NULL,  -- the revision this one replaces, or 0
    deleted INTEGER NOT NULL,
    gap INTEGER NOT NULL,
    value BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS log_by_key ON log (key, revision);
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
INSERT OR IGNORE INTO meta VALUES ('compacted', 1), ('revision', 1);
"""
_INSERT = "INSERT INTO log (revision, key, created, previous, deleted, gap, value) VALUES (?, ?, ?, ?, ?, ?, ?)"
_CURRENT = """
SELECT key, value, max(revision), created, gap, deleted FROM log GROUP BY key ORDER BY key
"""
_AT_REVISION = """
SELECT key, value, max(revision), created, gap, deleted FROM log
WHERE key >= ? AND key < ? AND revision <= ? GROUP BY key ORDER BY key
"""
_EVENTS = """
SELECT e.key, e.value, e.revision, e.created, e.gap, e.deleted, p.value, p.revision, p.created, p.gap
FROM log e LEFT JOIN log p ON p.revision = e.previous
WHERE e.revision > ? AND e.revision <= ? AND e.key >= ? AND e.key < ? ORDER BY e.revision LIMIT ?
"""

_NEXT_VALUES = "SELECT revision, key, value FROM log WHERE revision > ? ORDER BY revision LIMIT ?"
_VALUE_STARTS = """
SELECT substr(key, 1, instr(key, '/') - 1), substr(value, 1, ?) AS start, count(*) FROM log GROUP BY 1, start
"""


class SqliteLog:
    """A log (see `logstore.Log`) in the file `path`, whose folder exists."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._writing = Worker("store-writer")
        self._reading = Worker("store-reader")
        self._writer: apsw.Connection | None = None
        self._reader: apsw.Connection | None = None

    async def open(self) -> Loaded:
        return await self._write_thread(self._open)

    async def close(self) -> None:
        def close() -> None:
            for connection in (self._reader, self._writer):
                if connection is not None:
                    connection.close()
            self._reader = self._writer = None

        await self._read_thread(lambda: None)
        await self._write_thread(close)
        self._reading.close()
        self._writing.close()

    async def append(self, events: Sequence[Event]) -> None:
        await self._write_thread(lambda: self._append(events))

    async def page(self, prefix: str, after: str, limit: int, revision: int) -> Page:
        def read() -> Page:
            end = prefix_end(prefix)
            start = max(prefix, after + "\0") if after else prefix
            entries: list[Entry] = []
            remaining = 0
            for key, value, written, created, gap, deleted in self._read(_AT_REVISION, (start, end, revision)):
                if deleted:
                    continue
                if limit and len(entries) == limit:
                    remaining += 1
                else:
                    entries.append(Entry(key, value, written, created, gap))
            return Page(entries, revision, remaining)

        return await self._read_thread(read)

    async def events(self, prefix: str, after: int, upto: int) -> Sequence[Event]:
        def read() -> Sequence[Event]:
            found = self._read(_EVENTS, (after, upto, prefix, prefix_end(prefix), _EVENTS_PER_READ))
            return [_event(*row) for row in found]

        return await self._read_thread(read)

    async def compact(self, revision: int) -> None:
        while await self._write_thread(lambda: self._compact_some(revision)):
            pass
        while await self._write_thread(self._vacuum_some):
            pass

    async def change_values(self, change: Callable[[str, bytes], bytes | None]) -> int:
        changed, after = 0, 0

        def step() -> tuple[int, int] | None:
            return self._change_some(change, after)

        while (done := await self._write_thread(step)) is not None:
            after, count = done
            changed += count
        # Free pages and the write-ahead log may still hold what was replaced, or deleted before.
        while await self._write_thread(lambda: self._vacuum_some(leave=0)):
            pass
        await self._write_thread(self._checkpoint_all)
        return changed

    async def value_starts(self, length: int) -> Sequence[tuple[str, bytes, int]]:
        return await self._read_thread(lambda: self._read(_VALUE_STARTS, (length,)))

    # ------------------------------------------------------------ in the threads

    async def _write_thread(self, job: Callable[[], T]) -> T:
        return await self._writing.run(_translated(job))

    async def _read_thread(self, job: Callable[[], T]) -> T:
        return await self._reading.run(_translated(job))

    def _open(self) -> Loaded:
        writer = self._writer = apsw.Connection(str(self._path))
        writer.set_busy_timeout(5000)
        for pragma in (
            "page_size=4096",
            "auto_vacuum=INCREMENTAL",
            "journal_mode=WAL",
            "synchronous=FULL",
            "wal_autocheckpoint=0",
            f"journal_size_limit={4 << 20}",
            "cache_size=-2048",
            "locking_mode=NORMAL",
            "secure_delete=FAST",  # what is deleted within a page that is written anyway is overwritten
        ):
            _rows(writer, f"PRAGMA {pragma}")
        ((found,),) = _rows(writer, "PRAGMA user_version")
        if found not in (0, _FORMAT):
            raise StoreFailed(f"{self._path} has format {found}; this version reads format {_FORMAT}")
        with _transaction(writer):
            writer.execute(_SCHEMA)
            writer.execute(f"PRAGMA user_version={_FORMAT}")
        self._reader = apsw.Connection(str(self._path), flags=apsw.SQLITE_OPEN_READONLY)
        self._reader.set_busy_timeout(5000)
        meta: dict[str, int] = dict(_rows(writer, "SELECT name, value FROM meta"))
        ((newest,),) = _rows(writer, "SELECT coalesce(max(revision), 1) FROM log")
        entries = [
            Entry(key, value, revision, created, gap)
            for key, value, revision, created, gap, deleted in _rows(writer, _CURRENT)
            if not deleted
        ]
        return Loaded(entries, max(newest, meta["revision"]), meta["compacted"])

    def _append(self, events: Sequence[Event]) -> None:
        writer = self._opened(self._writer)
        with _transaction(writer):
            writer.executemany(_INSERT, [_row(event) for event in events])
        self._checkpoint_some(writer)

    def _checkpoint_some(self, writer: apsw.Connection) -> None:
        frames, copied = writer.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_NOOP)
        if frames - copied >= _CHECKPOINT_PAGES:
            writer.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)

    def _checkpoint_all(self) -> None:
        self._opened(self._writer).wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)

    def _read(self, query: str, bindings: tuple[Any, ...]) -> list[Any]:
        return _rows(self._opened(self._reader), query, bindings)

    def _compact_some(self, revision: int) -> bool:
        """Compacts up to the next few rows; False when `revision` is reached."""
        writer = self._opened(self._writer)
        ((done,),) = _rows(writer, "SELECT value FROM meta WHERE name = 'compacted'")
        rows = _rows(
            writer,
            "SELECT revision FROM log WHERE revision > ? AND revision <= ? ORDER BY revision LIMIT ?",
            (done, revision, _COMPACT_ROWS),
        )
        reached = rows[-1][0] if len(rows) == _COMPACT_ROWS else revision
        if reached <= done:
            return False
        span = (done, reached)
        with _transaction(writer):
            writer.execute("UPDATE meta SET value = (SELECT max(revision) FROM log) WHERE name = 'revision'")
            writer.execute(
                "DELETE FROM log WHERE revision IN (SELECT previous FROM log WHERE revision > ? AND revision <= ?)",
                span,
            )
            writer.execute("DELETE FROM log WHERE revision > ? AND revision <= ? AND deleted", span)
            writer.execute("UPDATE meta SET value = ? WHERE name = 'compacted'", (reached,))
        self._checkpoint_some(writer)
        return reached < revision

    def _change_some(self, change: Callable[[str, bytes], bytes | None], after: int) -> tuple[int, int] | None:
        """Changes the values of the next few revisions; returns the last and how many it changed, None at the end."""
        writer = self._opened(self._writer)
        rows = _rows(
            writer,
            "SELECT revision, key, value FROM log WHERE revision > ? ORDER BY revision LIMIT ?",
            (after, _CHANGE_ROWS),
        )
        if not rows:
            return None
        changed = [(value, revision) for revision, key, old in rows if (value := change(key, old)) is not None]
        if changed:
            with _transaction(writer):
                writer.executemany("UPDATE log SET value = ? WHERE revision = ?", changed)
            self._checkpoint_some(writer)
        return rows[-1][0], len(changed)

    def _vacuum_some(self, leave: int = _VACUUM_PAGES) -> bool:
        writer = self._opened(self._writer)
        ((free,),) = _rows(writer, "PRAGMA freelist_count")
        if free <= leave:  # a few free pages are of use to the next writes
            return False
        _rows(writer, f"PRAGMA incremental_vacuum({_VACUUM_PAGES})")
        self._checkpoint_some(writer)
        return True

    @staticmethod
    def _opened(connection: apsw.Connection | None) -> apsw.Connection:
        if connection is None:
            raise StoreFailed("the store is closed")
        return connection


def _rows(connection: apsw.Connection, query: str, bindings: tuple[Any, ...] = ()) -> list[Any]:
    return connection.execute(query, bindings).fetchall()


@contextmanager
def _transaction(connection: apsw.Connection) -> Iterator[None]:
    """Commits at the end; an error undoes everything (SQLite itself has done so already after some)."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _row(event: Event) -> tuple[Any, ...]:
    entry, previous = event.entry, event.previous
    replaced = previous.revision if previous else 0
    return (entry.revision, entry.key, entry.create_revision, replaced, event.deleted, entry.gap, entry.value)


def _event(key: str, value: bytes, revision: int, created: int, gap: int, deleted: int, *previous: Any) -> Event:
    before = Entry(key, *previous) if previous[0] is not None else None
    return Event(Entry(key, value, revision, created, gap), before, bool(deleted))


def _translated(job: Callable[[], T]) -> Callable[[], T]:
    """Returns the job with SQLite's errors as the contract's."""

    def run() -> T:
        try:
            return job()
        except apsw.FullError as error:
            raise StoreFull("no space is left for the store") from error
        except apsw.Error as error:
            raise StoreFailed(f"the store failed: {error}") from error

    return run


def sqlite_store(
    path: Path, *, retention_seconds: float = RETENTION_SECONDS, encryption: Sequence[Rule] = ()
) -> LogStore:
    """Returns a store in this file, made if it does not exist; its folder must exist.

    With `encryption`, what its rules cover is encrypted (see `encryption`), and `store.encrypted` is the log that does.
    """
    log = SqliteLog(path)
    if not encryption:
        return LogStore(log, window_bytes_max=_WINDOW_BYTES_MAX, retention_seconds=retention_seconds)
    from proa.storage.encryption import Cipher, EncryptedLog

    encrypted = EncryptedLog(log, Cipher(encryption))
    store = LogStore(encrypted, window_bytes_max=_WINDOW_BYTES_MAX, retention_seconds=retention_seconds)
    store.encrypted = encrypted
    return store
