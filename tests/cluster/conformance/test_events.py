"""Events, in the core group and in events.k8s.io: one stored kind with two forms."""

from __future__ import annotations

from typing import Any

import pytest

from tests.cluster.conformance.conftest import STRATEGIC, Api
from tests.cluster.conformance.objects import core
from tests.cluster.waiting import eventually

pytestmark = pytest.mark.cluster

TIME = "2017-09-19T13:49:16.000000Z"
SELECTED = "?labelSelector=testevent-set%3Dtrue"


def core_event(namespace: str, name: str, **labels: str) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "labels": labels},
        "involvedObject": {"namespace": namespace},
        "message": "This is a test event",
        "reason": "Test",
        "type": "Normal",
        "count": 1,
        "source": {},
        "firstTimestamp": None,
        "lastTimestamp": None,
        "eventTime": None,
        "reportingComponent": "",
        "reportingInstance": "",
    }


def new_event(namespace: str, name: str, **labels: str) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "labels": labels},
        "regarding": {"namespace": namespace},
        "eventTime": TIME,
        "note": f"This is {name}",
        "action": "Do",
        "reason": "Test",
        "type": "Normal",
        "reportingController": "test-controller",
        "reportingInstance": "test-node",
    }


def events_path(namespace: str = "", name: str = "") -> str:
    scope = f"namespaces/{namespace}/" if namespace else ""
    return f"/apis/events.k8s.io/v1/{scope}events" + (f"/{name}" if name else "")


def names(api: Api, path: str) -> list[str]:
    return [one["metadata"]["name"] for one in api.get(path).ok()["items"]]


@pytest.mark.behaviour("[sig-instrumentation] Events should manage the lifecycle of an event")
def test_core_lifecycle(api: Api, namespace: str) -> None:
    selected = f"?labelSelector=testevent-constant%3D{namespace}"
    path = core(namespace, "events", "event-test")
    made = core_event(namespace, "event-test", **{"testevent-constant": namespace})
    api.post(core(namespace, "events"), made).ok()
    assert names(api, f"/api/v1/events{selected}") == ["event-test"]
    patched = api.patch(path, {"message": "This is a test event - patched"}, STRATEGIC).ok()
    assert patched["message"] == "This is a test event - patched"
    found = api.get(path).ok()
    assert found["message"] == "This is a test event - patched"
    found["series"] = {"count": 100, "lastObservedTime": TIME}
    api.put(path, found).ok()
    updated = api.get(path).ok()
    assert updated["series"] == {"count": 100, "lastObservedTime": TIME}
    assert {key: updated[key] for key in ("message", "reason", "involvedObject")} == {
        key: found[key] for key in ("message", "reason", "involvedObject")
    }
    api.delete(path).ok()
    assert names(api, f"/api/v1/events{selected}") == []


@pytest.mark.behaviour("[sig-instrumentation] Events should delete a collection of events")
def test_core_collection(api: Api, namespace: str) -> None:
    for number in (1, 2, 3):
        made = core_event(namespace, f"test-event-{number}", **{"testevent-set": "true"})
        api.post(core(namespace, "events"), made).ok()
    api.post(core(namespace, "events"), core_event(namespace, "other")).ok()
    path = f"{core(namespace, 'events')}{SELECTED}"
    assert len(names(api, path)) == 3
    api.delete(path).ok()
    eventually(lambda: names(api, path) == [])
    assert names(api, core(namespace, "events")) == ["other"]


@pytest.mark.behaviour(
    "[sig-instrumentation] Events API should ensure that an event can be fetched, patched, deleted, and listed"
)
def test_lifecycle(api: Api, namespace: str) -> None:
    path = events_path(namespace, "event-test")
    api.post(events_path(namespace), new_event(namespace, "event-test", **{"testevent-constant": "true"})).ok()
    everywhere = api.get(events_path()).ok()["items"]
    assert (namespace, "event-test") in [(one["metadata"]["namespace"], one["metadata"]["name"]) for one in everywhere]
    assert names(api, events_path(namespace)) == ["event-test"]
    assert names(api, f"{core(namespace, 'events')}?fieldSelector=source%3Dtest-controller") == ["event-test"]
    by_controller = f"{events_path(namespace)}?fieldSelector=reportingController%3Dtest-controller"
    assert names(api, by_controller) == ["event-test"]
    assert names(api, f"{events_path(namespace)}?fieldSelector=reportingController%3Dother") == []

    found = api.get(path).ok()
    assert found["note"] == "This is event-test" and found["eventTime"] == TIME
    series = {"count": 2, "lastObservedTime": TIME}
    patched = api.patch(path, {"series": series}, STRATEGIC).ok()
    assert patched["series"] == series
    assert {**patched, "metadata": 0} == {**found, "metadata": 0, "series": series}
    patched["series"] = {"count": 100, "lastObservedTime": "2014-01-01T00:00:00.000000Z"}
    updated = api.put(path, patched).ok()
    assert updated["series"]["count"] == 100
    assert api.get(path).ok() == updated
    api.delete(path).ok()
    assert names(api, events_path(namespace)) == []
    assert names(api, core(namespace, "events")) == []


@pytest.mark.behaviour("[sig-instrumentation] Events API should delete a collection of events")
def test_collection(api: Api, namespace: str) -> None:
    path = f"{events_path(namespace)}{SELECTED}"
    for number in (1, 2, 3):
        made = new_event(namespace, f"test-event-{number}", **{"testevent-set": "true"})
        api.post(events_path(namespace), made).ok()
    assert len(names(api, path)) == 3
    api.delete(path).ok()
    assert names(api, path) == []
