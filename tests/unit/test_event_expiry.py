"""Events end an hour after they were last written, those from before a restart an hour after what they tell of."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from proa.apiserver.encoding import to_value
from proa.apiserver.expiry import PREFIX, EventExpiry, Notes, last_seen
from proa.storage.interface import Store
from proa.storage.memory import memory_store
from proa.testing import Cluster
from proa.util.clock import rfc3339
from proa.util.virtualtime import EPOCH, LoopClock, run_virtual


def at(minutes: float) -> str:
    return rfc3339(EPOCH + timedelta(minutes=minutes))


def test_notes_tell_the_revision_of_a_time() -> None:
    notes = Notes(3)
    for minute, revision in ((0, 3), (2, 5), (4, 5), (6, 9)):
        notes.add(EPOCH + timedelta(minutes=minute), revision)
    asked = [(-1, 0), (0, 3), (1, 3), (2, 5), (5, 5), (60, 9)]
    assert [(minute, notes.before(EPOCH + timedelta(minutes=minute))) for minute, _ in asked] == asked


@pytest.mark.parametrize(
    ("times", "newest"),
    [
        ({}, 1),
        ({"lastTimestamp": at(5), "firstTimestamp": at(3)}, 5),
        ({"eventTime": "2026-01-01T00:07:00.000000Z", "series": None, "lastTimestamp": None}, 7),
        ({"series": {"count": 2, "lastObservedTime": "2026-01-01T00:09:00.000000Z"}, "eventTime": at(2)}, 9),
    ],
)
def test_the_newest_time_of_an_event(times: dict[str, Any], newest: float) -> None:
    event = {"metadata": {"name": "e", "creationTimestamp": at(1)}, **times}
    assert last_seen(event) == EPOCH + timedelta(minutes=newest)


def test_inherited_events_end_by_their_own_times() -> None:
    async def write(store: Store, name: str, minute: float) -> None:
        event = {"metadata": {"name": name, "creationTimestamp": at(-90)}, "lastTimestamp": at(minute)}
        await store.write(f"{PREFIX}ns/{name}", to_value("Event", "v1", event), expected=None)

    async def main() -> list[set[str]]:
        store = memory_store()
        await store.start()
        for name, minute in (("old", -70.0), ("young", -30.0), ("again", -30.0)):
            await write(store, name, minute)
        task = asyncio.create_task(EventExpiry(store, LoopClock(asyncio.get_running_loop()), 3600.0).run())
        await asyncio.sleep(1)
        await write(store, "again", -30)  # its time is still the old one, but it was written just now
        seen = []
        for minutes in (5, 30, 30):  # 5, 35 and 65 minutes after the start
            await asyncio.sleep(minutes * 60)
            seen.append({entry.key.rpartition("/")[2] for entry in store.currents(PREFIX)})
        task.cancel()
        await store.close()
        return seen

    assert run_virtual(main()) == [{"young", "again"}, {"again"}, set()]


def test_events_go_unless_they_are_written_again() -> None:
    with Cluster(nodes=0, controllers=False) as cluster:
        for name in ("once", "renewed"):
            event = {
                "apiVersion": "v1",
                "kind": "Event",
                "metadata": {"name": name, "namespace": "default"},
                "involvedObject": {"namespace": "default"},
            }
            cluster.create(event)

        def names() -> list[str]:
            return [one["metadata"]["name"] for one in cluster.list("events", "default")]

        cluster.advance(minutes=50)
        assert names() == ["once", "renewed"]
        cluster.patch("events", "renewed", {"count": 2})
        cluster.advance(minutes=15)
        assert names() == ["renewed"]
        cluster.advance(minutes=50)
        assert names() == []
