"""Events as client-go's newer recorder makes them: series instead of counts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from proa.client.series import SeriesLog, Write

NOW = datetime(2026, 1, 1, tzinfo=UTC)
POD = {"kind": "Pod", "namespace": "ns", "name": "p", "uid": "u", "apiVersion": "v1", "resourceVersion": "7"}
OTHER = {"kind": "Pod", "namespace": "ns", "name": "q", "uid": "v", "apiVersion": "v1"}


def log() -> SeriesLog:
    return SeriesLog("default-scheduler", "default-scheduler-here")


def failed(of: SeriesLog, seconds: float, note: str = "0/1", about: dict = POD) -> Write | None:
    now = NOW + timedelta(seconds=seconds)
    return of.occurrence(about, "Warning", "FailedScheduling", "Scheduling", note, now=now)


def test_an_event_says_who_does_what() -> None:
    write = log().occurrence(POD, "Normal", "Preempted", "Preempting", "gone", now=NOW, related=OTHER)
    assert write is not None and write.series is None
    event = write.event
    assert event["metadata"]["namespace"] == "ns" and event["metadata"]["name"].startswith("p.")
    assert event["eventTime"] == "2026-01-01T00:00:00.000000Z"
    assert (event["action"], event["reason"], event["type"]) == ("Preempting", "Preempted", "Normal")
    assert (event["reportingComponent"], event["reportingInstance"]) == ("default-scheduler", "default-scheduler-here")
    assert (event["involvedObject"], event["related"]) == (POD, OTHER)
    assert event["source"] == {} and event["firstTimestamp"] is None and "count" not in event


def test_the_second_makes_a_series_and_the_others_are_counted_until_it_is_quiet() -> None:
    of = log()
    first = failed(of, 0)
    second = failed(of, 1, note="another text")
    assert first is not None and second is not None
    assert second.event is first.event and second.event["message"] == "0/1"
    assert second.series == {"count": 2, "lastObservedTime": "2026-01-01T00:00:01.000000Z"}
    assert failed(of, 2) is None and failed(of, 3) is None
    assert not of.due(NOW + timedelta(seconds=360)) and len(of) == 1
    [last] = of.due(NOW + timedelta(seconds=363))
    assert last.series == {"count": 4, "lastObservedTime": "2026-01-01T00:00:03.000000Z"}
    assert not len(of)
    assert failed(of, 400) != first


def test_a_series_that_goes_on_is_written_every_half_hour() -> None:
    of = log()
    for minute in range(32):
        failed(of, minute * 60)
    [write] = of.due(NOW + timedelta(minutes=31.5))
    assert write.series is not None and write.series["count"] == 32
    assert not of.due(NOW + timedelta(minutes=32))


def test_a_single_event_is_forgotten_and_one_of_a_kind_not_even_kept() -> None:
    of = log()
    failed(of, 0)
    assert not of.due(NOW + timedelta(seconds=400)) and not len(of)
    of.occurrence(POD, "Normal", "Scheduled", "Binding", "n", now=NOW, once=True)
    assert not len(of)


def test_another_state_of_the_object_is_another_event() -> None:
    of = log()
    first, second = failed(of, 0), failed(of, 0, about={**POD, "resourceVersion": "8"})
    assert first is not None and second is not None and second.series is None
    assert first.event["metadata"]["name"] != second.event["metadata"]["name"]


def test_long_notes_are_cut() -> None:
    write = failed(log(), 0, note="x" * 2000)
    assert write is not None and len(write.event["message"]) == 1024 and write.event["message"].endswith("x ...")
