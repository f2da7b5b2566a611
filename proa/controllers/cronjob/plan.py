"""The next step of a CronJob (pure). Follows upstream's cronjob controller (v2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from proa.controllers.conditions import find
from proa.controllers.cronjob.schedule import MISSED_MAX, Schedule, due, is_zone
from proa.controllers.pods import owner_reference
from proa.meta.gvk import GVK
from proa.meta.objects import Obj, annotations_of, copy_object, is_deleted, metadata, name_of, namespace_of, uid_of
from proa.util.clock import parse_rfc3339, rfc3339

KIND = GVK("batch", "v1", "CronJob")
SCHEDULED_AT = "batch.kubernetes.io/cronjob-scheduled-timestamp"
_DOCUMENT = "https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/"
_LATENESS = timedelta(milliseconds=100)


@dataclass(frozen=True, slots=True)
class Plan:
    """`delete` Jobs (`replaced`: to make room for the new one), `create` one, write the `status`."""

    create: Obj | None = None
    replaced: tuple[Obj, ...] = ()
    delete: tuple[Obj, ...] = ()
    status: Obj | None = None
    recheck_seconds: float | None = None
    events: tuple[tuple[str, str, str], ...] = ()


def end_of(job: Obj) -> str:
    """Returns how a Job ended: Complete, Failed, or empty if it has not."""
    for type in ("Complete", "Failed"):
        found = find((job.get("status") or {}).get("conditions"), type)
        if found is not None and found.get("status") == "True":
            return type
    return ""


def _is_ours(cron: Obj, job: Obj) -> bool:
    """Tells whether a Job was started by the schedule, rather than by hand from the same template."""
    noted = {one.get("uid") for one in (cron.get("status") or {}).get("active") or ()}
    return uid_of(job) in noted or SCHEDULED_AT in annotations_of(job)


def plan(cron: Obj, jobs: Sequence[Obj], now: datetime) -> Plan:
    """`jobs`: those that the CronJob controls."""
    spec, old = cron["spec"], cron.get("status") or {}
    status = dict(old)
    events: list[tuple[str, str, str]] = []
    active = [job for job in jobs if not end_of(job) and _is_ours(cron, job)]
    for job in jobs:
        if not end_of(job) and not _is_ours(cron, job):
            text = f"Saw a job that the controller did not create or forgot: {name_of(job)}"
            events.append(("Warning", "UnexpectedJob", text))
    _finish(cron, jobs, status, events)
    status["active"] = [_reference(job) for job in sorted(active, key=name_of)]
    delete = _history(spec, jobs)

    def result(wait_seconds: float | None, create: Obj | None = None, replaced: Sequence[Obj] = ()) -> Plan:
        shown = {key: value for key, value in status.items() if value}
        changed = None if shown == {key: value for key, value in old.items() if value} else shown
        return Plan(create, tuple(replaced), delete, changed, wait_seconds, tuple(events))

    if is_deleted(cron) or spec.get("suspend"):
        return result(None)
    if spec.get("timeZone") and not is_zone(spec["timeZone"]):
        text = f'invalid timeZone: "{spec["timeZone"]}": unknown time zone {spec["timeZone"]}'
        events.append(("Warning", "UnknownTimeZone", text))
        return result(None)
    try:
        schedule = Schedule(spec["schedule"], spec.get("timeZone"))
    except ValueError as error:
        events.append(("Warning", "UnparseableSchedule", f'unparseable schedule: "{spec["schedule"]}" : {error}'))
        return result(None)
    if "TZ" in spec["schedule"]:
        text = f'CRON_TZ or TZ used in schedule "{spec["schedule"]}" is not officially supported, see {_DOCUMENT}'
        events.append(("Warning", "UnsupportedSchedule", f"{text} for more details"))
    since = parse_rfc3339(status.get("lastScheduleTime") or metadata(cron)["creationTimestamp"])
    deadline = spec.get("startingDeadlineSeconds")
    if deadline is not None:
        since = max(since, now - timedelta(seconds=float(deadline)))
    latest, missed, following = due(schedule, since, now)
    wait_seconds = (following - now + _LATENESS).total_seconds()
    if latest is None:
        return result(wait_seconds)
    if missed > MISSED_MAX:
        text = "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew"
        events.append(("Warning", "TooManyMissedTimes", text))
    policy = spec.get("concurrencyPolicy") or "Allow"
    if policy == "Forbid" and active:
        text = "Not starting job because prior execution is running and concurrency policy is Forbid"
        events.append(("Normal", "JobAlreadyActive", text))
        return result(wait_seconds)
    replaced = active if policy == "Replace" else []
    if replaced:
        status["active"] = []
    return result(wait_seconds, job_at(cron, latest), replaced)


def _finish(cron: Obj, jobs: Sequence[Obj], status: Obj, events: list[tuple[str, str, str]]) -> None:
    """Tells of Jobs that ended or vanished since the last look."""
    by_uid = {uid_of(job): job for job in jobs}
    for reference in status.get("active") or ():
        job = by_uid.get(reference.get("uid"))
        if job is None:
            events.append(("Normal", "MissingJob", f"Active job went missing: {reference.get('name')}"))
        elif end_of(job):
            text = f"Saw completed job: {name_of(job)}, condition: {end_of(job)}"
            events.append(("Normal", "SawCompletedJob", text))
    ended = [
        job["status"]["completionTime"]
        for job in jobs
        if end_of(job) == "Complete" and job["status"].get("completionTime")
    ]
    if ended:
        status["lastSuccessfulTime"] = max([*ended, status.get("lastSuccessfulTime") or ""])


def _history(spec: Obj, jobs: Sequence[Obj]) -> tuple[Obj, ...]:
    found: list[Obj] = []
    for type, field, default in (
        ("Complete", "successfulJobsHistoryLimit", 3),
        ("Failed", "failedJobsHistoryLimit", 1),
    ):
        limit = spec.get(field)
        kept = default if limit is None else int(limit)
        ended = [job for job in jobs if end_of(job) == type and not is_deleted(job)]
        ended.sort(key=lambda job: ((job.get("status") or {}).get("startTime") or "", name_of(job)))
        found += ended[: max(0, len(ended) - kept)]
    return tuple(found)


def job_at(cron: Obj, moment: datetime) -> Obj:
    """Returns the Job of one scheduled time; its name follows from both, so it can exist only once."""
    template = cron["spec"]["jobTemplate"]
    base = metadata(template)
    meta: Obj = {
        "name": f"{name_of(cron)}-{int(moment.timestamp()) // 60}",
        "namespace": namespace_of(cron),
        "annotations": {
            **(base.get("annotations") or {}),
            SCHEDULED_AT: rfc3339(moment),
        },
        "ownerReferences": [owner_reference(cron, KIND)],
    }
    if base.get("labels"):
        meta["labels"] = dict(base["labels"])
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": meta, "spec": copy_object(template.get("spec") or {})}


def _reference(job: Obj) -> Obj:
    return {
        "kind": "Job",
        "apiVersion": "batch/v1",
        "name": name_of(job),
        "namespace": namespace_of(job),
        "uid": uid_of(job),
        "resourceVersion": metadata(job).get("resourceVersion") or "",
    }
