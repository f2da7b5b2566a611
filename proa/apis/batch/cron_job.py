"""CronJob: jobs at set times. Follows upstream's `pkg/registry/batch/cronjob`."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from proa.apis.apps.workloads import containers_cells, name_warning, nonnegatives
from proa.apis.batch.job import default_failure_policy
from proa.apis.batch.job_checks import cron_job_template
from proa.apis.batch.schedule import schedule_problem, time_zone_problem
from proa.apis.define import columns, resource
from proa.apis.fields import Errors, label_map, one_of
from proa.apis.podspec.defaults import default_pod_spec
from proa.apis.podspec.warnings import template_warnings
from proa.apis.strategies import SpecKept, WithStatus
from proa.apis.tables import NONE, age, selector_text, since
from proa.meta import names
from proa.meta.errors import invalid_field, required_field
from proa.meta.objects import Obj, name_of

# A job's name is the cron job's with a time of 11 characters behind it, and at most 63 in all.
_NAME_LENGTH_MAX = 52


class CronJobStrategy(WithStatus):
    schema = "io.k8s.api.batch.v1.CronJob"
    generation = True

    def default(self, obj: Obj) -> None:
        spec = obj.setdefault("spec", {})
        if not spec.get("concurrencyPolicy"):
            spec["concurrencyPolicy"] = "Allow"
        for key, value in (("suspend", False), ("successfulJobsHistoryLimit", 3), ("failedJobsHistoryLimit", 1)):
            if spec.get(key) is None:
                spec[key] = value
        job = spec.setdefault("jobTemplate", {}).setdefault("spec", {})
        default_failure_policy(job.get("podFailurePolicy"))
        default_pod_spec(job.setdefault("template", {}).setdefault("spec", {}))

    def validate_name(self, name: str, prefix: bool) -> list[str]:
        found = names.dns1123_subdomain(name, prefix)
        return found if prefix or len(name) <= _NAME_LENGTH_MAX else [*found, names.too_long(_NAME_LENGTH_MAX)]

    def validate(self, obj: Obj) -> Errors:
        return _spec(obj.get("spec") or {}, None)

    def validate_update(self, obj: Obj, old: Obj) -> Errors:
        return _spec(obj.get("spec") or {}, old.get("spec") or {})

    def warnings(self, obj: Obj, old: Obj | None) -> list[str]:
        found = name_warning(obj) if old is None else []
        template = ((obj["spec"].get("jobTemplate") or {}).get("spec") or {}).get("template")
        if old is None or obj["spec"].get("jobTemplate") != (old.get("spec") or {}).get("jobTemplate"):
            found += template_warnings(template, "spec.jobTemplate.spec.template")
        return found


def _spec(spec: Obj, before: Obj | None) -> Errors:
    errors: Errors = []
    schedule = spec.get("schedule") or ""
    if not schedule:
        errors.append(required_field("spec.schedule"))
    else:
        errors += _schedule(schedule, before)
    errors += nonnegatives(spec, "spec", "startingDeadlineSeconds")
    zone = spec.get("timeZone")
    if zone is not None and time_zone_problem(zone):
        errors.append(invalid_field("spec.timeZone", zone, time_zone_problem(zone)))
    supported = ("Allow", "Forbid", "Replace")
    errors += one_of(spec.get("concurrencyPolicy"), "spec.concurrencyPolicy", supported, missing="required")
    job = spec.get("jobTemplate") or {}
    errors += label_map((job.get("metadata") or {}).get("labels"), "spec.jobTemplate.metadata.labels")
    errors += cron_job_template(job.get("spec") or {}, "spec.jobTemplate.spec")
    return errors + nonnegatives(spec, "spec", "successfulJobsHistoryLimit", "failedJobsHistoryLimit")


def _schedule(text: str, before: Obj | None) -> Errors:
    if "TZ" in text:
        if before is not None and before.get("schedule") == text:
            return []
        detail = "cannot use TZ or CRON_TZ in schedule, use timeZone field instead"
        return [invalid_field("spec.schedule", text, detail)]
    problem = schedule_problem(text)
    return [invalid_field("spec.schedule", text, problem)] if problem else []


def _cells(obj: Obj, now: datetime) -> list[Any]:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    job = (spec.get("jobTemplate") or {}).get("spec") or {}
    last = status.get("lastScheduleTime")
    return [
        name_of(obj),
        spec.get("schedule") or "",
        spec.get("timeZone") or NONE,
        {True: "True", False: "False", None: "<unset>"}[spec.get("suspend")],
        len(status.get("active") or []),
        since(last, now) if last else NONE,
        age(obj, now),
        *containers_cells(job.get("template") or {}),
        selector_text(job.get("selector")),
    ]


CRON_JOB = resource(
    "batch",
    "v1",
    "CronJob",
    "cronjobs",
    columns=columns(
        "Name",
        "Schedule",
        "Timezone",
        "Suspend:boolean",
        "Active:integer",
        "Last Schedule",
        "Age",
        "Containers+",
        "Images+",
        "Selector+",
    ),
    cells=_cells,
    strategy=CronJobStrategy(),
    short_names=("cj",),
    categories=("all",),
    status=SpecKept,
    storage_version_hash="sd5LIXh4Fjs=",
)
