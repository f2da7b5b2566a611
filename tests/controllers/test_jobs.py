"""Jobs and CronJobs: plans as tables, then runs on a whole control plane."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from proa.client.interface import DeleteOptions
from proa.client.resources import CRONJOBS, JOBS, PODS
from proa.controllers.conditions import is_true
from proa.controllers.cronjob.plan import plan as plan_cron
from proa.controllers.cronjob.schedule import Schedule, due
from proa.controllers.job import indexes
from proa.controllers.job.plan import FINALIZER, Plan, plan
from proa.meta.objects import Obj
from proa.util.clock import rfc3339
from tests.controllers.plane import Plane, plane, run

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


def job(status: Obj | None = None, **spec: Any) -> Obj:
    wanted = {"parallelism": 1, "completions": 1, "backoffLimit": 6, "template": {"spec": {}}, **spec}
    meta = {"name": "j", "namespace": "ns", "uid": "j", "creationTimestamp": rfc3339(NOW)}
    return {"metadata": meta, "spec": wanted, "status": status or {}}


def pod(name: str, phase: str = "Running", *, index: int | None = None, tracked: bool = True, **more: Any) -> Obj:
    meta: Obj = {"name": name, "namespace": "ns", "uid": name, "creationTimestamp": rfc3339(NOW - timedelta(hours=1))}
    if tracked:
        meta["finalizers"] = [FINALIZER]
    if index is not None:
        meta["annotations"] = {"batch.kubernetes.io/job-completion-index": str(index), **more.pop("annotations", {})}
    if more.pop("deleted", False):
        meta["deletionTimestamp"] = rfc3339(NOW)
    return {"metadata": meta, "spec": {}, "status": {"phase": phase, **more}}


def names(pods: tuple[Obj, ...]) -> list[str]:
    return [one["metadata"]["name"] for one in pods]


def true_conditions(step: Plan) -> dict[str, str]:
    assert step.status is not None
    return {
        one["type"]: one.get("reason", "") for one in step.status.get("conditions") or [] if one["status"] == "True"
    }


@pytest.mark.parametrize(
    ("spec", "pods", "create", "delete"),
    [
        ({}, [], 1, []),
        ({"parallelism": 3, "completions": 5}, [], 3, []),
        ({"parallelism": 3, "completions": 2}, [], 2, []),
        ({"parallelism": 3, "completions": 5}, [pod("a")], 2, []),
        ({"parallelism": 3, "completions": None}, [], 3, []),
        ({"parallelism": 3, "completions": None}, [pod("a"), pod("b", "Succeeded")], 0, []),
        ({"parallelism": 1, "completions": 5}, [pod("a"), pod("b", "Pending")], 0, ["b"]),
        ({"parallelism": 0, "completions": 5}, [pod("a")], 0, ["a"]),
        ({"suspend": True}, [pod("a")], 0, ["a"]),
        ({"completions": 3}, [pod("a", "Succeeded")], 1, []),
        ({"podReplacementPolicy": "Failed"}, [pod("a", deleted=True)], 0, []),
        ({}, [pod("a", deleted=True)], 1, []),
    ],
)
def test_how_many_pods_run(spec: Obj, pods: list[Obj], create: int, delete: list[str]) -> None:
    for one in pods:
        one["status"]["conditions"] = (
            [{"type": "Ready", "status": "True"}] if one["status"]["phase"] == "Running" else []
        )
    step = plan(job({"startTime": rfc3339(NOW)}, **spec), pods, NOW)
    assert (len(step.create), names(step.delete)) == (create, delete)


def test_an_ended_pod_is_noted_released_and_then_counted_once() -> None:
    wanted = job({"startTime": rfc3339(NOW)}, completions=2)
    first = plan(wanted, [pod("a", "Succeeded")], NOW)
    assert first.status is not None
    assert first.status["uncountedTerminatedPods"] == {"succeeded": ["a"]}
    assert "succeeded" not in first.status and names(first.release) == ["a"]
    again = plan(job(first.status, completions=2), [pod("a", "Succeeded")], NOW)
    assert again.status is None and names(again.release) == ["a"]
    released = plan(job(first.status, completions=2), [pod("a", "Succeeded", tracked=False)], NOW)
    assert released.status is not None
    assert (released.status["succeeded"], released.status["uncountedTerminatedPods"]) == (1, {})
    gone = plan(job(first.status, completions=2), [], NOW)
    assert gone.status is not None and gone.status["succeeded"] == 1


def test_completion_waits_for_counting() -> None:
    first = plan(job({"startTime": rfc3339(NOW)}), [pod("a", "Succeeded")], NOW)
    assert true_conditions(first) == {"SuccessCriteriaMet": "CompletionsReached"}
    second = plan(job(first.status), [pod("a", "Succeeded", tracked=False)], NOW)
    assert true_conditions(second) == {"SuccessCriteriaMet": "CompletionsReached", "Complete": "CompletionsReached"}
    assert second.status is not None and second.status["completionTime"] == rfc3339(NOW)
    assert second.events == (("Normal", "Completed", "Job completed"),)
    over = plan(job(second.status), [pod("b")], NOW)
    assert over.status is None and names(over.release) == ["b"]


def test_a_job_fails_at_its_limit_after_its_pods_are_gone() -> None:
    wanted = job({"startTime": rfc3339(NOW), "failed": 1}, backoffLimit=1, parallelism=2, completions=2)
    step = plan(wanted, [pod("a", "Failed"), pod("b")], NOW)
    assert true_conditions(step) == {"FailureTarget": "BackoffLimitExceeded"}
    assert names(step.delete) == ["b"]
    final = plan({**wanted, "status": step.status}, [pod("a", "Failed", tracked=False)], NOW)
    assert true_conditions(final)["Failed"] == "BackoffLimitExceeded"


def test_failures_delay_the_next_pod() -> None:
    def failed(name: str, seconds_ago: int) -> Obj:
        stamp = rfc3339(NOW - timedelta(seconds=seconds_ago))
        ended = [{"state": {"terminated": {"exitCode": 1, "finishedAt": stamp}}}]
        return pod(name, "Failed", tracked=False, containerStatuses=ended)

    wanted = job({"startTime": rfc3339(NOW), "failed": 2})
    step = plan(wanted, [failed("a", 30), failed("b", 5)], NOW)
    assert step.create == () and step.recheck_seconds == pytest.approx(15)
    assert len(plan(wanted, [failed("a", 60), failed("b", 21)], NOW).create) == 1


def test_the_deadline() -> None:
    began = rfc3339(NOW - timedelta(seconds=100))
    step = plan(job({"startTime": began}, activeDeadlineSeconds=100), [pod("a")], NOW)
    assert true_conditions(step) == {"FailureTarget": "DeadlineExceeded"} and names(step.delete) == ["a"]
    early = plan(job({"startTime": began}, activeDeadlineSeconds=130), [pod("a")], NOW)
    assert early.recheck_seconds == pytest.approx(30)


def test_indexes_are_filled_from_the_lowest() -> None:
    wanted = job({"startTime": rfc3339(NOW)}, completionMode="Indexed", completions=5, parallelism=3)
    step = plan(wanted, [pod("a", "Succeeded", index=0), pod("b", index=2), pod("c", index=2)], NOW)
    assert [one.index for one in step.create] == [1]
    assert names(step.delete) == ["c"]
    assert step.status is not None
    assert (step.status["completedIndexes"], step.status["succeeded"]) == ("0", 1)


def test_a_limit_per_index() -> None:
    spec = {"completionMode": "Indexed", "completions": 2, "parallelism": 2, "backoffLimitPerIndex": 1}
    failures = {"annotations": {"batch.kubernetes.io/job-index-failure-count": "1"}}
    pods = [pod("a", "Failed", index=0, **failures), pod("b", "Failed", index=1)]
    step = plan(job({"startTime": rfc3339(NOW)}, backoffLimit=100, **spec), pods, NOW)
    assert step.status is not None and step.status["failedIndexes"] == "0"
    assert [(one.index, one.failures) for one in step.create] == [(1, 1)]
    pods = [pod("a", "Failed", index=0, tracked=False, **failures), pod("c", "Succeeded", index=1)]
    final = plan(job(step.status, backoffLimit=100, **spec), pods, NOW)
    assert "FailureTarget" in true_conditions(final)


def test_the_last_failure_of_an_index_is_kept_until_it_is_tried_again() -> None:
    """It holds the count of failures; each index waits for itself, longer each time."""

    def ended(name: str, seconds_ago: int, failures: int, index: int = 0) -> Obj:
        at = rfc3339(NOW - timedelta(seconds=seconds_ago))
        annotations = {"batch.kubernetes.io/job-index-failure-count": str(failures)}
        made = pod(name, "Failed", index=index, annotations=annotations)
        made["status"]["containerStatuses"] = [{"state": {"terminated": {"finishedAt": at}}}]
        return made

    spec = {"completionMode": "Indexed", "completions": 2, "parallelism": 2, "backoffLimitPerIndex": 3}
    fresh = job({"startTime": rfc3339(NOW)}, backoffLimit=100, **spec)
    early = plan(fresh, [ended("a", 15, 1), pod("b", index=1)], NOW)
    assert (early.create, early.release) == ((), ()) and early.recheck_seconds == pytest.approx(5)
    assert early.status is not None and not early.status["uncountedTerminatedPods"]
    again = plan(fresh, [ended("a", 21, 1), pod("b", index=1)], NOW)
    assert [(one.index, one.failures) for one in again.create] == [(0, 2)] and again.release == ()
    replaced = plan(fresh, [ended("a", 21, 1), pod("b", index=1), pod("c", index=0)], NOW)
    assert names(replaced.release) == ["a"]
    assert replaced.status is not None and replaced.status["uncountedTerminatedPods"] == {"failed": ["a"]}
    # The other index does not wait for it.
    other = plan(fresh, [ended("a", 1, 0)], NOW)
    assert [one.index for one in other.create] == [1]


def test_kept_failures_count_towards_the_limit_and_at_the_end() -> None:
    spec = {"completionMode": "Indexed", "completions": 2, "parallelism": 2, "backoffLimitPerIndex": 3}
    failed = [pod("a", "Failed", index=0), pod("b", "Failed", index=1)]
    step = plan(job({"startTime": rfc3339(NOW)}, backoffLimit=1, **spec), failed, NOW)
    assert true_conditions(step) == {"FailureTarget": "BackoffLimitExceeded"}
    assert step.status is not None
    counting = plan(job(step.status, backoffLimit=1, **spec), failed, NOW)
    assert sorted(names(counting.release)) == ["a", "b"]
    assert counting.status is not None
    released = [pod("a", "Failed", index=0, tracked=False), pod("b", "Failed", index=1, tracked=False)]
    final = plan(job(counting.status, backoffLimit=1, **spec), released, NOW)
    assert final.status is not None and final.status["failed"] == 2
    assert "Failed" in true_conditions(final)


@pytest.mark.parametrize(
    ("rule", "condition", "failed"),
    [
        ({"action": "FailJob", "onExitCodes": {"operator": "In", "values": [42]}}, "FailureTarget", 1),
        ({"action": "FailJob", "onExitCodes": {"operator": "NotIn", "values": [42]}}, "", 1),
        ({"action": "Ignore", "onExitCodes": {"operator": "In", "values": [42]}}, "", 0),
        ({"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}, "", 0),
        ({"action": "Count", "onExitCodes": {"operator": "In", "values": [42]}}, "", 1),
    ],
)
def test_failure_policies(rule: Obj, condition: str, failed: int) -> None:
    ended = [{"name": "c", "state": {"terminated": {"exitCode": 42}}}]
    conditions = [{"type": "DisruptionTarget", "status": "True"}]
    one = pod("a", "Failed", containerStatuses=ended, conditions=conditions)
    step = plan(job({"startTime": rfc3339(NOW)}, podFailurePolicy={"rules": [rule]}), [one], NOW)
    assert step.status is not None
    assert list(true_conditions(step)) == ([condition] if condition else [])
    assert len(step.status["uncountedTerminatedPods"].get("failed", [])) == failed


def test_a_success_policy_ends_a_job_early() -> None:
    policy = {"rules": [{"succeededIndexes": "0-1", "succeededCount": 1}]}
    wanted = job(
        {"startTime": rfc3339(NOW)}, completionMode="Indexed", completions=4, parallelism=4, successPolicy=policy
    )
    step = plan(wanted, [pod("a", "Succeeded", index=1), pod("b", index=2)], NOW)
    assert true_conditions(step) == {"SuccessCriteriaMet": "SuccessPolicy"} and names(step.delete) == ["b"]


@pytest.mark.parametrize(
    ("text", "found"), [("", set()), ("0", {0}), ("0-2,5", {0, 1, 2, 5}), ("1,3-4,x,7-", {1, 3, 4, 7})]
)
def test_index_texts(text: str, found: set[int]) -> None:
    assert indexes.parse(text) == found
    assert indexes.parse(indexes.show(found)) == found


# ---------------------------------------------------------------- cron


@pytest.mark.parametrize(
    ("text", "zone", "since", "expected"),
    [
        ("*/5 * * * *", None, "2026-01-01T12:01:00Z", "2026-01-01T12:05:00Z"),
        ("@hourly", None, "2026-01-01T12:01:00Z", "2026-01-01T13:00:00Z"),
        ("@daily", "Europe/Berlin", "2026-01-01T12:01:00Z", "2026-01-01T23:00:00Z"),
        ("TZ=America/New_York 0 9 * * *", None, "2026-01-01T12:01:00Z", "2026-01-01T14:00:00Z"),
        ("@every 90m", None, "2026-01-01T12:00:00Z", "2026-01-01T13:30:00Z"),
        ("0 0 ? * 1", None, "2026-01-01T12:00:00Z", "2026-01-05T00:00:00Z"),
    ],
)
def test_schedules(text: str, zone: str | None, since: str, expected: str) -> None:
    moment = datetime.fromisoformat(since)
    assert rfc3339(next(Schedule(text, zone).after(moment))) == expected


@pytest.mark.parametrize("text", ["", "* * * *", "99 * * * *", "@every", "@every 5x", "TZ=Nowhere/Land * * * * *"])
def test_malformed_schedules(text: str) -> None:
    with pytest.raises(ValueError):
        Schedule(text, None)


@pytest.mark.parametrize(("minutes", "count"), [(0, 0), (1, 1), (3, 3), (100, 100), (101, 101), (100_000, 101)])
def test_what_was_due(minutes: int, count: int) -> None:
    latest, found, following = due(Schedule("* * * * *", None), NOW - timedelta(minutes=minutes), NOW)
    assert found == count
    assert latest == (NOW if minutes else None)
    assert following == NOW + timedelta(minutes=1)


def cron(status: Obj | None = None, *, age_minutes: int = 10, **spec: Any) -> Obj:
    made = rfc3339(NOW - timedelta(minutes=age_minutes))
    meta = {"name": "c", "namespace": "ns", "uid": "c", "creationTimestamp": made}
    wanted = {"schedule": "*/5 * * * *", "jobTemplate": {"metadata": {"labels": {"a": "b"}}, "spec": {}}, **spec}
    return {"metadata": meta, "spec": wanted, "status": status or {}}


def cron_job(name: str, end: str = "", minutes: int = 0) -> Obj:
    began = rfc3339(NOW + timedelta(minutes=minutes))
    conditions = [{"type": end, "status": "True"}] if end else []
    status = {"conditions": conditions, "startTime": began}
    if end == "Complete":
        status["completionTime"] = began
    annotations = {"batch.kubernetes.io/cronjob-scheduled-timestamp": began}
    return {"metadata": {"name": name, "namespace": "ns", "uid": name, "annotations": annotations}, "status": status}


def test_a_job_started_by_hand_does_not_count_as_active() -> None:
    manual = cron_job("manual")
    manual["metadata"]["annotations"] = {"cronjob.kubernetes.io/instantiate": "manual"}
    step = plan_cron(cron(concurrencyPolicy="Forbid"), [manual], NOW)
    assert step.create is not None and step.status is None


def test_a_cron_job_starts_the_latest_that_was_due() -> None:
    step = plan_cron(cron(), [], NOW)
    assert step.create is not None
    assert step.create["metadata"]["name"] == f"c-{int(NOW.timestamp()) // 60}"
    assert step.create["metadata"]["labels"] == {"a": "b"}
    assert step.recheck_seconds == pytest.approx(300.1)
    later = plan_cron(cron({"lastScheduleTime": rfc3339(NOW)}), [], NOW + timedelta(minutes=1))
    assert later.create is None and later.recheck_seconds == pytest.approx(240.1)


@pytest.mark.parametrize(
    ("spec", "creates", "replaces"),
    [
        ({}, True, []),
        ({"concurrencyPolicy": "Forbid"}, False, []),
        ({"concurrencyPolicy": "Replace"}, True, ["running"]),
        ({"suspend": True}, False, []),
        ({"startingDeadlineSeconds": 30}, True, []),
        ({"schedule": "nonsense"}, False, []),
    ],
)
def test_concurrency(spec: Obj, creates: bool, replaces: list[str]) -> None:
    step = plan_cron(cron(**spec), [cron_job("running")], NOW)
    assert (step.create is not None, names(step.replaced)) == (creates, replaces)


def test_a_missed_start_is_not_made_up_for_after_its_deadline() -> None:
    assert plan_cron(cron(startingDeadlineSeconds=30), [], NOW + timedelta(seconds=45)).create is None


def test_old_jobs_go() -> None:
    jobs = [cron_job(f"done{n}", "Complete", n) for n in range(5)] + [
        cron_job(f"bad{n}", "Failed", n) for n in range(3)
    ]
    step = plan_cron(cron({"lastScheduleTime": rfc3339(NOW)}), jobs, NOW)
    assert sorted(names(step.delete)) == ["bad0", "bad1", "done0", "done1"]
    assert step.status is not None and step.status["lastSuccessfulTime"] == rfc3339(NOW + timedelta(minutes=4))


# ---------------------------------------------------------------- on a control plane

TEMPLATE = {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}}


async def end_pods(cluster: Plane, phase: str = "Succeeded") -> None:
    for one in (await cluster.client.list(PODS, "ns")).items:
        if one["status"].get("phase") not in ("Succeeded", "Failed"):
            await cluster.patch(PODS, one["metadata"]["name"], {"status": {"phase": phase}}, "ns", "status")


async def has(cluster: Plane, condition: str, name: str = "j") -> bool:
    found = await cluster.client.get(JOBS, name, "ns")
    return is_true((found.get("status") or {}).get("conditions"), condition)


def a_job(**spec: Any) -> Obj:
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "j"}, "spec": {"template": TEMPLATE, **spec}}


def test_a_job_runs_to_its_end() -> None:
    async def main() -> None:
        async with plane(("job",)) as cluster:
            await cluster.client.create(JOBS, a_job(completions=5, parallelism=2), "ns")

            async def complete() -> bool:
                await end_pods(cluster)
                return await has(cluster, "Complete")

            await cluster.until(complete)
            found = await cluster.client.get(JOBS, "j", "ns")
            assert found["status"]["succeeded"] == 5 and "active" not in found["status"]
            pods = (await cluster.client.list(PODS, "ns")).items
            assert len(pods) == 5 and not any(one["metadata"].get("finalizers") for one in pods)

    run(main)


def test_a_job_that_always_fails_backs_off_and_gives_up() -> None:
    async def main() -> None:
        async with plane(("job",)) as cluster:
            await cluster.client.create(JOBS, a_job(backoffLimit=3), "ns")

            async def failed() -> bool:
                await end_pods(cluster, "Failed")
                return await has(cluster, "Failed")

            await cluster.until(failed, 600)
            assert cluster.clock.monotonic() > 60
            assert (await cluster.client.get(JOBS, "j", "ns"))["status"]["failed"] == 4

    run(main)


def test_a_cron_job_over_a_day() -> None:
    async def main() -> None:
        async with plane(("job", "cronjob", "garbagecollector")) as cluster:
            made = {
                "apiVersion": "batch/v1",
                "kind": "CronJob",
                "metadata": {"name": "c"},
                "spec": {"schedule": "0 * * * *", "jobTemplate": {"spec": {"template": TEMPLATE}}},
            }
            await cluster.client.create(CRONJOBS, made, "ns")
            await asyncio.sleep(30)
            for _ in range(24):
                await asyncio.sleep(3600)
                await end_pods(cluster)
            await asyncio.sleep(5)
            found = await cluster.client.get(CRONJOBS, "c", "ns")
            assert found["status"]["lastScheduleTime"] == "2026-01-02T00:00:00Z"
            assert len(await cluster.names(JOBS)) == 3
            await cluster.until(lambda: _count(cluster, PODS, 3))
            await cluster.client.delete(CRONJOBS, "c", "ns", DeleteOptions(propagation="Background"))
            await cluster.until(lambda: _count(cluster, JOBS, 0))
            await cluster.until(lambda: _count(cluster, PODS, 0))

    run(main)


async def _count(cluster: Plane, resource: Any, number: int) -> bool:
    return len(await cluster.names(resource)) == number
