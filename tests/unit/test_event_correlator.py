"""What becomes of events: new, counted, combined, dropped."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from proa.client.events import Correlator

POD = {
    "kind": "Pod",
    "apiVersion": "v1",
    "metadata": {"name": "p", "namespace": "ns", "uid": "u", "resourceVersion": "7"},
}
NODE = {"kind": "Node", "apiVersion": "v1", "metadata": {"name": "n", "uid": "n"}}
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def test_an_equal_event_raises_the_count() -> None:
    correlator = Correlator("kubelet", "node-1")
    first = correlator.occurrence(POD, "Normal", "Pulled", "done", now=NOW)
    again = correlator.occurrence(POD, "Normal", "Pulled", "done", now=NOW + timedelta(seconds=5))
    assert first is not None and again is not None
    assert (first.count, again.count) == (1, 2)
    assert again.name == first.name
    assert again.event["firstTimestamp"] == "2026-01-01T00:00:00Z"
    assert again.event["lastTimestamp"] == "2026-01-01T00:00:05Z"
    assert first.event["source"] == {"component": "kubelet", "host": "node-1"}
    assert first.event["involvedObject"]["resourceVersion"] == "7"


def test_a_cluster_scoped_object_has_its_events_in_default() -> None:
    occurrence = Correlator("c").occurrence(NODE, "Normal", "NodeReady", "", now=NOW)
    assert occurrence is not None and occurrence.namespace == "default"


def test_similar_events_are_combined() -> None:
    correlator = Correlator("c")
    made = [
        correlator.occurrence(POD, "Warning", "Failed", f"attempt {n}", now=NOW + timedelta(seconds=n))
        for n in range(12)
    ]
    texts = [one.event["message"] for one in made if one]
    assert texts[8] == "attempt 8"
    assert texts[10] == "(combined from similar events): attempt 10"
    assert made[10] and made[11] and made[10].name == made[11].name and made[11].count > made[10].count


def test_a_flood_is_dropped_and_recovers() -> None:
    correlator = Correlator("c")
    made = [correlator.occurrence(POD, "Normal", "Same", "text", now=NOW) for _ in range(30)]
    assert sum(one is not None for one in made) == 25
    assert correlator.occurrence(NODE, "Normal", "Same", "text", now=NOW) is not None
    assert correlator.occurrence(POD, "Normal", "Same", "text", now=NOW + timedelta(seconds=301)) is not None


def test_renew_starts_a_new_event() -> None:
    correlator = Correlator("c")
    first = correlator.occurrence(POD, "Normal", "R", "m", now=NOW)
    assert first is not None
    correlator.renew(first)
    second = correlator.occurrence(POD, "Normal", "R", "m", now=NOW + timedelta(seconds=1))
    assert second is not None and second.count == 1 and second.name != first.name
