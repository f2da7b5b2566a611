"""Upstream's conformance behaviours of CronJobs, in virtual time."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import takewhile

import pytest

from proa.client.interface import MERGE_PATCH
from proa.controllers.cronjob.schedule import Schedule
from proa.meta.objects import Obj
from tests.controllers.conformance.world import World, made, template


@pytest.fixture
def world() -> Iterator[World]:
    """Jobs here never end by themselves."""
    with World() as running:
        yield running


def cron_job(policy: str = "Allow", schedule: str = "*/1 * * * *", suspend: bool = False) -> Obj:
    job = {"spec": {"parallelism": 1, "completions": 1, "template": template(restartPolicy="OnFailure")}}
    spec = {"schedule": schedule, "concurrencyPolicy": policy, "suspend": suspend, "jobTemplate": job}
    return made("CronJob", "c", spec, labels={"special-label": "c"})


def active(world: World) -> list[str]:
    return [one["name"] for one in world.status("cronjobs", "c").get("active") or ()]


@pytest.mark.behaviour("[sig-apps] CronJob should schedule multiple jobs concurrently")
def test_concurrent(world: World) -> None:
    world.create(cron_job())
    world.until(lambda: len(active(world)) > 1)
    assert len(world.list("jobs", "default")) >= 2


@pytest.mark.behaviour("[sig-apps] CronJob should not schedule jobs when suspended [Slow]")
def test_suspended(world: World) -> None:
    world.create(cron_job(suspend=True))
    world.advance(minutes=5)
    assert not active(world) and not world.list("jobs", "default")


@pytest.mark.behaviour("[sig-apps] CronJob should not schedule new jobs when ForbidConcurrent [Slow]")
def test_forbid(world: World) -> None:
    world.create(cron_job("Forbid"))
    world.until(lambda: len(active(world)) == 1)
    first = active(world)
    world.advance(minutes=5)
    assert active(world) == first and len(world.list("jobs", "default")) == 1


@pytest.mark.behaviour("[sig-apps] CronJob should replace jobs when ReplaceConcurrent")
def test_replace(world: World) -> None:
    world.create(cron_job("Replace"))
    world.until(lambda: len(active(world)) == 1)
    first = active(world)
    world.until(lambda: len(active(world)) == 1 and active(world) != first)
    world.until(lambda: len(world.list("jobs", "default")) == 1, what="the first job is gone")


@pytest.mark.behaviour("[sig-apps] CronJob should support CronJob API operations")
def test_operations(world: World) -> None:
    selector = "special-label=c"
    made_one = world.create(cron_job(schedule="0 0 1 1 *"))
    for name in ("d", "e"):
        world.create({**cron_job(schedule="0 0 1 1 *"), "metadata": {"name": name, "labels": {"special-label": "c"}}})
    assert world.get("cronjobs", "c")["metadata"]["uid"] == made_one["metadata"]["uid"]
    assert len(world.list("cronjobs", "default", label_selector=selector)) == 3
    assert len(world.list("cronjobs", label_selector=selector)) == 3
    patched = world.patch("cronjobs", "c", {"metadata": {"annotations": {"patched": "true"}}}, patch_type=MERGE_PATCH)
    assert patched["metadata"]["annotations"]["patched"] == "true"
    updated = {**patched, "metadata": {**patched["metadata"], "annotations": {"updated": "true"}}}
    assert world.update(updated)["metadata"]["annotations"] == {"updated": "true"}
    status = {
        "metadata": {"annotations": {"patchedstatus": "true"}},
        "status": {"lastScheduleTime": "2026-01-01T00:00:00Z"},
    }
    patched = world.patch("cronjobs", "c", status, subresource="status", patch_type=MERGE_PATCH)
    assert patched["status"]["lastScheduleTime"] == "2026-01-01T00:00:00Z"
    assert patched["metadata"]["annotations"]["patchedstatus"] == "true"
    replaced = {**patched, "status": {"lastScheduleTime": "2026-01-01T00:01:00Z"}}
    assert world.update(replaced, "status")["status"]["lastScheduleTime"] == "2026-01-01T00:01:00Z"
    assert world.get("cronjobs", "c", subresource="status")["status"]["lastScheduleTime"] == "2026-01-01T00:01:00Z"
    world.delete("cronjobs", "c")
    world.until(lambda: len(world.list("cronjobs", "default", label_selector=selector)) == 2)
    world.delete_collection("cronjobs", label_selector=selector)
    world.until(lambda: not world.list("cronjobs", "default", label_selector=selector))


YEARS = [
    ("@hourly", None, 8760),
    ("30 1 * * *", "Europe/London", 365),
    ("@hourly", "Europe/London", 8760),
    ("0 12 * * *", "Europe/London", 365),
    ("0 0 29 2 *", None, 0),
    ("0 9 * * 1-5", "America/New_York", 261),
    ("@monthly", "Asia/Kolkata", 12),
]


@pytest.mark.parametrize(("schedule", "zone", "count"), YEARS)
def test_a_year_of_schedules(schedule: str, zone: str | None, count: int) -> None:
    since, end = datetime(2025, 12, 31, 23, 59, 59, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)
    assert sum(1 for _ in takewhile(lambda one: one < end, Schedule(schedule, zone).after(since))) == count


# London's clocks in 2026 skip 01:00 to 02:00 on 29 March, and show it twice on 25 October.
CLOCKS = [
    ("30 1 * * *", "2026-03-28T02:00", ["03-30T00:30"]),
    ("30 1 * * *", "2026-10-24T12:00", ["10-25T00:30", "10-25T01:30", "10-26T01:30"]),
    ("30 1 * * *", "2026-10-25T00:30", ["10-25T01:30", "10-26T01:30"]),
    ("*/30 * * * *", "2026-03-29T00:00", ["03-29T00:30", "03-29T01:00"]),
    ("*/30 * * * *", "2026-10-24T23:50", ["10-25T00:00", "10-25T00:30", "10-25T01:00", "10-25T01:30", "10-25T02:00"]),
    ("0 2 * * *", "2026-03-28T12:00", ["03-29T01:00"]),
]


@pytest.mark.parametrize(("schedule", "since", "expected"), CLOCKS)
def test_clocks_that_jump(schedule: str, since: str, expected: list[str]) -> None:
    found = Schedule(schedule, "Europe/London").after(datetime.fromisoformat(since).replace(tzinfo=UTC))
    assert [f"{next(found):%m-%dT%H:%M}" for _ in expected] == expected
