"""What every store must do, whatever it is made of (`proa.storage.interface`)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from proa.storage.interface import Compacted, Conflict, Event, Store, Value, Watch
from proa.storage.memory import memory_store
from proa.storage.sqlite import SqliteLog, sqlite_store

Factory = Callable[[], Store]


@pytest.fixture(params=["memory", "sqlite"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Factory:
    makers: dict[str, Factory] = {
        "memory": lambda: memory_store(retention_seconds=0),
        "sqlite": lambda: sqlite_store(tmp_path / "store.db", retention_seconds=0),
    }
    return makers[request.param]


@pytest.fixture
async def store(make: Factory) -> AsyncIterator[Store]:
    made = make()
    await made.start()
    yield made
    await made.close()


def value(text: str) -> Value:
    return Value(b'{"rv":"', b'","text":"%b"}' % text.encode())


def stored(revision: int, text: str) -> bytes:
    return b'{"rv":"%d","text":"%b"}' % (revision, text.encode())


async def events(watch: Watch, count: int) -> list[Event]:
    found: list[Event] = []
    async with asyncio.timeout(5):
        while len(found) < count:
            found.extend(await watch.next())
    return found


def shown(found: list[Event]) -> list[tuple[bool, str, int]]:
    return [(event.deleted, event.entry.key, event.revision) for event in found]


async def test_a_write_gets_the_next_revision_and_carries_it(store: Store) -> None:
    start = store.revision
    first = await store.write("t/a", value("x"), expected=0)
    assert (first.revision, first.create_revision, first.value) == (start + 1, start + 1, stored(start + 1, "x"))
    second = await store.write("t/a", value("y"), expected=first.revision)
    assert (second.revision, second.create_revision) == (start + 2, start + 1)
    assert await store.get("t/a") == second == store.current("t/a")
    assert store.revision == second.revision
    assert await store.get("t/b") is None


async def test_an_unstamped_value_stays_as_it_is(store: Store) -> None:
    entry = await store.write("t/a", Value(b"plain", stamped=False), expected=0)
    assert entry.value == b"plain"
    assert (await store.write("t/a", None, expected=None)).value == b"plain"


@pytest.mark.parametrize("expected", [1, 999])
async def test_a_wrong_expectation_is_a_conflict(store: Store, expected: int) -> None:
    with pytest.raises(Conflict) as missing:
        await store.write("t/a", value("x"), expected=expected)
    assert missing.value.current is None
    entry = await store.write("t/a", value("x"), expected=None)
    for wrong in (0, entry.revision - 1, entry.revision + 1):
        with pytest.raises(Conflict) as stale:
            await store.write("t/a", value("y"), expected=wrong)
        assert stale.value.current == entry
    assert store.revision == entry.revision


async def test_a_deletion_is_an_event_with_a_revision_of_its_own(store: Store) -> None:
    watch = store.watch("t/", after=store.revision)
    entry = await store.write("t/a", value("x"), expected=0)
    with pytest.raises(Conflict):
        await store.write("t/a", None, expected=entry.revision + 7)
    gone = await store.write("t/a", None, expected=entry.revision)
    assert gone.value == stored(entry.revision + 1, "x")
    assert await store.get("t/a") is None
    with pytest.raises(Conflict):
        await store.write("t/a", None, expected=None)
    again = await store.write("t/a", value("z"), expected=0)
    assert again.create_revision == again.revision
    found = await events(watch, 3)
    assert shown(found) == [
        (False, "t/a", entry.revision),
        (True, "t/a", gone.revision),
        (False, "t/a", again.revision),
    ]
    assert [event.previous for event in found] == [None, entry, None]


async def test_a_deletion_restamps_across_a_change_of_digits(store: Store) -> None:
    for _ in range(30):
        entry = await store.write("t/a", value("x"), expected=0)
        gone = await store.write("t/a", None, expected=entry.revision)
        assert gone.value == stored(gone.revision, "x")


async def test_of_many_creates_one_wins_and_contended_increments_add_up(store: Store) -> None:
    async def create(text: str) -> bool:
        try:
            await store.write("t/one", value(text), expected=0)
        except Conflict as conflict:
            return conflict.current is None
        return True

    assert sum(await asyncio.gather(*(create(str(number)) for number in range(20)))) == 1

    async def increment() -> None:
        while True:
            entry = await store.get("t/n")
            count = int(entry.value) if entry else 0
            try:
                new = Value(b"%d" % (count + 1), stamped=False)
                await store.write("t/n", new, expected=entry.revision if entry else 0)
            except Conflict:
                continue
            return

    await asyncio.gather(*(increment() for _ in range(20)))
    entry = await store.get("t/n")
    assert entry is not None
    assert entry.value == b"20"


async def test_listing_is_in_key_order_by_page_at_one_revision(store: Store) -> None:
    for name in ("b/2", "a/1", "a-b/1", "c/1", "b/1"):
        await store.write(f"t/{name}", value(name), expected=0)
    await store.write("tt/a/1", value("other"), expected=0)
    everything = await store.list("t/")
    keys = ["t/a-b/1", "t/a/1", "t/b/1", "t/b/2", "t/c/1"]
    assert [entry.key for entry in everything.entries] == keys
    assert (everything.revision, everything.remaining) == (store.revision, 0)
    assert [entry.key for entry in (await store.list("t/b/")).entries] == ["t/b/1", "t/b/2"]
    assert store.count("t/") == 5
    assert store.count("t/b/") == 2
    first = await store.list("t/", limit=2)
    assert ([entry.key for entry in first.entries], first.remaining) == (keys[:2], 3)
    await store.write("t/b/1", None, expected=None)
    await store.write("t/b/2", value("changed"), expected=None)
    await store.write("t/b/3", value("new"), expected=0)
    second = await store.list("t/", after=keys[1], limit=2, revision=first.revision)
    assert ([entry.key for entry in second.entries], second.remaining) == (keys[2:4], 1)
    assert second.entries[1] == everything.entries[3]
    third = await store.list("t/", after=keys[3], limit=2, revision=first.revision)
    assert ([entry.key for entry in third.entries], third.remaining) == (keys[4:], 0)
    old = await store.get("t/b/1", revision=first.revision)
    assert old is not None and old == everything.entries[2]


async def test_a_watch_is_ordered_and_resumes_from_any_revision(store: Store) -> None:
    start = store.revision
    for number in range(10):
        await store.write(f"t/{number % 3}", value(str(number)), expected=None)
        await store.write("other/x", value(str(number)), expected=None)
    everything = await events(store.watch("t/", after=start), 10)
    revisions = [event.revision for event in everything]
    assert revisions == sorted(set(revisions))
    for place, revision in enumerate(revisions[:-1]):
        rest = await events(store.watch("t/", after=revision), len(revisions) - place - 1)
        assert shown(rest) == shown(everything[place + 1 :])
    only = await events(store.watch("t/1", after=start), 3)
    assert {event.entry.key for event in only} == {"t/1"}


async def test_a_watch_that_waits_sees_progress_but_never_ahead_of_its_events(store: Store) -> None:
    watch = store.watch("t/a/", after=store.revision)
    await store.write("other/x", value("x"), expected=None)
    assert not await watch.next(timeout_seconds=0)
    assert watch.revision == store.revision
    waiting = asyncio.create_task(watch.next())
    await asyncio.sleep(0)
    await store.write("t/b/1", value("elsewhere"), expected=0)
    entry = await store.write("t/a/1", value("here"), expected=0)
    async with asyncio.timeout(5):
        (event,) = await waiting
    assert event.entry == entry
    assert watch.revision >= entry.revision


async def test_two_watchers_share_an_event(store: Store) -> None:
    watches = [store.watch("t/", after=store.revision) for _ in range(2)]
    revisions: list[tuple[int, bool]] = []
    entry = await store.write(
        "t/a", value("x"), expected=0, committed=lambda at: revisions.append((at, store.current("t/a") is None))
    )
    assert revisions == [(entry.revision, True)]
    (one,), (other,) = [await events(watch, 1) for watch in watches]
    assert one is other
    assert one.entry is store.current("t/a")


async def test_compaction_forgets_the_past_and_nothing_else(store: Store) -> None:
    start = store.revision
    for number in range(20):
        await store.write(f"t/{number % 2}", value(str(number)), expected=None)
    await store.write("t/gone", value("x"), expected=0)
    await store.write("t/gone", None, expected=None)
    middle = store.revision
    tail = await store.write("t/0", value("last"), expected=None)
    late = store.watch("t/", after=start)
    await store.compact(middle)
    assert store.compacted == middle
    for read in (
        lambda: late.next(),
        lambda: store.watch("t/", after=middle - 1).next(),
        lambda: store.list("t/", revision=middle - 1),
        lambda: store.get("t/0", revision=start + 1),
    ):
        with pytest.raises(Compacted):
            async with asyncio.timeout(5):
                await read()
    assert [entry.key for entry in (await store.list("t/", revision=middle)).entries] == ["t/0", "t/1"]
    (event,) = await events(store.watch("t/", after=middle), 1)
    assert event.entry == tail
    assert event.previous is not None
    assert event.previous.value == stored(event.previous.revision, "18")


class TestSqlite:
    """What only a store that lasts must do."""

    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        return tmp_path / "store.db"

    async def test_a_reopened_store_is_as_it_was_left(self, path: Path) -> None:
        store = sqlite_store(path, retention_seconds=0)
        await store.start()
        start = store.revision
        for number in range(50):
            await store.write(f"t/{number % 7:02}", value(str(number)), expected=None)
        await store.write("t/00", None, expected=None)
        before = await store.list("t/")
        old = await store.list("t/", revision=start + 20)
        history = await events(store.watch("t/", after=start), 51)
        await store.close()

        again = sqlite_store(path, retention_seconds=0)
        await again.start()
        assert again.revision == before.revision
        assert (await again.list("t/")) == before
        assert (await again.list("t/", revision=start + 20)) == old
        page = await again.list("t/", revision=start + 20, after="t/01", limit=2)
        assert (page.entries, page.remaining) == (old.entries[2:4], 3)
        await again.write("t/00", value("back"), expected=0)
        replayed = await events(again.watch("t/", after=start), 52)
        assert shown(replayed)[:51] == shown(history)
        assert [event.previous for event in replayed][:51] == [event.previous for event in history]
        await again.close()

    async def test_the_newest_revision_survives_compaction_of_a_deletion(self, path: Path) -> None:
        store = sqlite_store(path, retention_seconds=0)
        await store.start()
        await store.write("t/a", value("x"), expected=0)
        await store.write("t/a", None, expected=None)
        newest = store.revision
        await store.compact(newest)
        await store.close()
        again = sqlite_store(path, retention_seconds=0)
        await again.start()
        assert (again.revision, again.compacted) == (newest, newest)
        assert (await again.list("t/")).entries == []
        assert (await again.write("t/a", value("y"), expected=0)).revision == newest + 1
        await again.close()

    async def test_files_stay_bounded_under_churn(self, path: Path) -> None:
        store = sqlite_store(path, retention_seconds=0)
        await store.start()
        text = "x" * 4000
        for _ in range(12):
            for _ in range(20):
                await asyncio.gather(*(store.write(f"t/{number}", value(text), expected=None) for number in range(16)))
            await store.compact(store.revision)
        sizes = {file.name: file.stat().st_size for file in path.parent.iterdir()}
        await store.close()
        assert sum(sizes.values()) < 12 << 20, sizes  # 15 MiB were written

    async def test_a_full_disk_is_an_error_that_passes(self, path: Path) -> None:
        from proa.storage.interface import StoreFull

        store = sqlite_store(path, retention_seconds=0)
        await store.start()
        await store.write("t/a", value("x"), expected=0)
        before = await store.list("t/")
        log = store._log
        assert isinstance(log, SqliteLog) and log._writer is not None
        log._writer.execute("PRAGMA max_page_count=20").fetchall()
        with pytest.raises(StoreFull):
            await store.write("t/big", value("x" * 1_000_000), expected=0)
        assert await store.list("t/") == before
        log._writer.execute("PRAGMA max_page_count=1000000").fetchall()
        entry = await store.write("t/big", value("x"), expected=0)
        assert entry.revision == before.revision + 1
        await store.close()

    async def test_a_reader_behind_the_window_reads_the_log(self, path: Path) -> None:
        store = sqlite_store(path, retention_seconds=0)
        await store.start()
        start = store.revision
        early = store.watch("t/", after=start)
        for number in range(40):
            await store.write(f"t/{number % 3}", value("x" * 500_000), expected=None)
        assert store._cache.table("t/").dropped > 0
        found = await events(early, 40)
        assert [event.revision for event in found] == list(range(start + 1, start + 41))
        old = await store.list("t/", revision=start + 2)
        assert [entry.key for entry in old.entries] == ["t/0", "t/1"]
        await store.close()
