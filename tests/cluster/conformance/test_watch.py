"""Watches: which events come, in which order, from which revision on.

Upstream's tests wait some seconds for events that must not come. Here every watch is read in one go: an event
too many would stand in the place of one of those expected.
"""

from __future__ import annotations

import itertools
import random
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.cluster.conformance.conftest import Api
from tests.cluster.conformance.objects import config_map, core

pytestmark = pytest.mark.cluster

KEY = "watch-this-configmap"


def selecting(namespace: str, *values: str, version: str = "") -> str:
    """The path that selects config maps by their label's value, from a revision on if one is given."""
    selector = f"{KEY}={values[0]}" if len(values) == 1 else f"{KEY}%20in%20({','.join(values)})"
    path = f"{core(namespace, 'configmaps')}?labelSelector={selector}"
    return f"{path}&resourceVersion={version}" if version else path


def expect(events: Iterator[dict[str, Any]], type: str, obj: dict[str, Any] | None = None) -> dict[str, Any]:
    """The next event must be of this type and, if given, of exactly this object."""
    event = next(events)
    assert event["type"] == type, event
    assert obj is None or event["object"] == obj
    return event["object"]


class Writer:
    """Changes config maps of one namespace, whatever their revision."""

    def __init__(self, api: Api, namespace: str) -> None:
        self.api, self.path = api, core(namespace, "configmaps")

    def create(self, name: str, value: str) -> dict[str, Any]:
        return self.api.post(self.path, config_map(name, {KEY: value})).ok()

    def update(self, name: str, value: str = "", **data: str) -> dict[str, Any]:
        found = self.api.get(f"{self.path}/{name}").ok()
        found["data"] = {**found.get("data", {}), **data}
        if value:
            found["metadata"]["labels"][KEY] = value
        return self.api.put(f"{self.path}/{name}", found).ok()

    def delete(self, name: str) -> None:
        self.api.delete(f"{self.path}/{name}").ok()


@pytest.fixture
def write(api: Api, namespace: str) -> Writer:
    return Writer(api, namespace)


@pytest.mark.behaviour(
    "[sig-api-machinery] Watchers should observe add, update, and delete watch notifications on configmaps"
)
def test_selected_watchers(api: Api, namespace: str, write: Writer) -> None:
    with ExitStack() as stack:
        a, b, both = (
            stack.enter_context(api.watch(selecting(namespace, *values)))
            for values in (
                ["multiple-watchers-A"],
                ["multiple-watchers-B"],
                ["multiple-watchers-A", "multiple-watchers-B"],
            )
        )
        made = write.create("a", "multiple-watchers-A")
        changed = [write.update("a", mutation=str(number)) for number in (1, 2)]
        write.delete("a")
        other = write.create("b", "multiple-watchers-B")
        write.delete("b")
        for events in (a, both):
            expect(events, "ADDED", made)
            for one in changed:
                expect(events, "MODIFIED", one)
            gone = expect(events, "DELETED")
            assert gone["data"] == {"mutation": "2"}
            assert int(gone["metadata"]["resourceVersion"]) > int(changed[1]["metadata"]["resourceVersion"])
        for events in (b, both):
            expect(events, "ADDED", other)
            expect(events, "DELETED")
        # The last event that watch A may see: all before it were expected.
        last = write.create("end", "multiple-watchers-A")
        expect(a, "ADDED", last)


@pytest.mark.behaviour("[sig-api-machinery] Watchers should be able to start watching from a specific resource version")
def test_start_from_a_revision(api: Api, namespace: str, write: Writer) -> None:
    write.create("from", "from-resource-version")
    first = write.update("from", mutation="1")
    second = write.update("from", mutation="2")
    write.delete("from")
    version = first["metadata"]["resourceVersion"]
    with api.watch(selecting(namespace, "from-resource-version", version=version)) as events:
        expect(events, "MODIFIED", second)
        expect(events, "DELETED")


@pytest.mark.behaviour(
    "[sig-api-machinery] Watchers should be able to restart watching from the last resource version observed by the "
    "previous watch"
)
def test_restart(api: Api, namespace: str, write: Writer) -> None:
    value = "watch-closed-and-restarted"
    with api.watch(selecting(namespace, value)) as events:
        made = write.create("closed", value)
        write.update("closed", mutation="1")
        expect(events, "ADDED", made)
        last = expect(events, "MODIFIED")
    second = write.update("closed", mutation="2")
    with api.watch(selecting(namespace, value, version=last["metadata"]["resourceVersion"])) as events:
        write.delete("closed")
        expect(events, "MODIFIED", second)
        expect(events, "DELETED")


@pytest.mark.behaviour(
    "[sig-api-machinery] Watchers should observe an object deletion if it stops meeting the requirements of the "
    "selector"
)
def test_object_leaves_the_selection(api: Api, namespace: str, write: Writer) -> None:
    value = "label-changed-and-restored"
    with api.watch(selecting(namespace, value)) as events:
        made = write.create("moved", value)
        first = write.update("moved", mutation="1")
        write.update("moved", "wrong-value")
        expect(events, "ADDED", made)
        expect(events, "MODIFIED", first)
        expect(events, "DELETED")
        write.update("moved", mutation="2")  # seen by nobody
        restored = write.update("moved", value)
        third = write.update("moved", mutation="3")
        write.delete("moved")
        expect(events, "ADDED", restored)
        expect(events, "MODIFIED", third)
        expect(events, "DELETED")


@pytest.mark.behaviour("[sig-api-machinery] Watchers should receive events on concurrent watches in same order")
def test_concurrent_watches_agree(api: Api, namespace: str, write: Writer) -> None:
    stop = threading.Event()
    seeded = random.Random(7)

    def produce() -> None:
        alive: list[str] = []
        names = (f"c-{number}" for number in itertools.count())
        while not stop.is_set():
            what = seeded.choice(("create", "update", "delete"))
            if what == "create" or not alive:
                alive.append(write.create(next(names), "any")["metadata"]["name"])
            elif what == "update":
                write.update(seeded.choice(alive), mutation=str(seeded.random()))
            else:
                write.delete(alive.pop(seeded.randrange(len(alive))))

    producer = threading.Thread(target=produce)
    with ExitStack() as stack:
        version = api.get(core(namespace, "configmaps")).ok()["metadata"]["resourceVersion"]
        producer.start()
        try:
            watches: list[Iterator[dict[str, Any]]] = []
            for _ in range(25):
                path = f"{core(namespace, 'configmaps')}?resourceVersion={version}"
                watches.append(stack.enter_context(api.watch(path, seconds_max=60)))
                seen = [next(events) for events in watches]
                versions = {event["object"]["metadata"]["resourceVersion"] for event in seen}
                assert len(versions) == 1, versions
                version = versions.pop()
        finally:
            stop.set()
            producer.join()
