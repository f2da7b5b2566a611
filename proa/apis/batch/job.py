"""Job: pods that run to completion. Follows upstream's `pkg/registry/batch/job`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from proa.apis.apps.workloads import containers_cells, name_warning
from proa.apis.batch.job_checks import (
    LEGACY_NAME_LABEL,
    LEGACY_UID_LABEL,
    NAME_LABEL,
    UID_LABEL,
    generated_selector,
    job_spec,
    job_status,
    job_update,
)
from proa.apis.define import columns, resource
from proa.apis.fields import Errors
from proa.apis.podspec.defaults import default_pod_spec
from proa.apis.podspec.warnings import template_warnings
from proa.apis.strategies import SpecKept, WithStatus
from proa.apis.tables import age, human_duration, selector_text
from proa.meta.names import label_value
from proa.meta.objects import Obj, is_deleted, name_of, uid_of

_INT32_MAX = 2**31 - 1
_ORPHANS = (
    "child pods are preserved by default when jobs are deleted; set propagationPolicy=Background to remove them or "
    "set propagationPolicy=Orphan to suppress this warning"
)


class JobStrategy(WithStatus):
    schema = "io.k8s.api.batch.v1.Job"
    generation = True
    field_labels = ("status.successful",)

    def default(self, obj: Obj) -> None:
        spec = obj.setdefault("spec", {})
        if spec.get("completions") is None and spec.get("parallelism") is None:
            spec["completions"] = 1
        per_index = spec.get("backoffLimitPerIndex") is not None
        policy = spec.get("podFailurePolicy")
        for key, value in (
            ("parallelism", 1),
            ("backoffLimit", _INT32_MAX if per_index else 6),
            ("completionMode", "NonIndexed"),
            ("suspend", False),
            ("manualSelector", False),
            ("podReplacementPolicy", "TerminatingOrFailed" if policy is None else "Failed"),
        ):
            if spec.get(key) is None:
                spec[key] = value
        default_failure_policy(policy)
        template = spec.setdefault("template", {})
        labels = (template.get("metadata") or {}).get("labels")
        if labels and not obj.setdefault("metadata", {}).get("labels") and not any(map(label_value, labels.values())):
            # Wrong ones are reported once, where they come from.
            obj["metadata"]["labels"] = dict(labels)
        default_pod_spec(template.setdefault("spec", {}))

    def prepare_create(self, obj: Obj) -> None:
        super().prepare_create(obj)
        if not obj["spec"].get("manualSelector"):
            _generate_selector(obj)

    def validate(self, obj: Obj) -> Errors:
        return generated_selector(obj) + job_spec(obj.get("spec") or {}, "spec")

    def validate_update(self, obj: Obj, old: Obj) -> Errors:
        return self.validate(obj) + job_update(obj, old)

    def warnings(self, obj: Obj, old: Obj | None) -> list[str]:
        spec = obj.get("spec") or {}
        found = name_warning(obj) if old is None else []
        if old is None:
            found += template_warnings(spec.get("template"), "spec.template")
        many = (spec.get("completions") or 0) > 100_000 and (spec.get("parallelism") or 0) > 10_000
        if spec.get("completionMode") == "Indexed" and many:
            found.append(
                "In Indexed Jobs with a number of completions higher than 10^5 and a parallelism higher than 10^4, "
                "Kubernetes might not be able to track completedIndexes when a big number of indexes fail"
            )
        return found

    def delete_warnings(self, propagation: str | None) -> list[str]:
        return [_ORPHANS] if propagation is None else []

    def default_propagation(self, obj: Obj) -> str:
        return "Orphan"

    def selectable_fields(self, obj: Obj) -> Mapping[str, str]:
        return {"status.successful": str((obj.get("status") or {}).get("succeeded") or 0)}


def default_failure_policy(policy: Obj | None) -> None:
    """A failure rule's pod condition is true unless it says otherwise."""
    for rule in (policy or {}).get("rules") or []:
        for condition in rule.get("onPodConditions") or []:
            if not condition.get("status"):
                condition["status"] = "True"


def _generate_selector(obj: Obj) -> None:
    """Labels the template's pods with the job's uid and name, and selects them by uid."""
    spec, uid, name = obj["spec"], uid_of(obj), name_of(obj)
    labels = spec["template"].setdefault("metadata", {}).setdefault("labels", {})
    for key, value in (
        (LEGACY_NAME_LABEL, name),
        (NAME_LABEL, name),
        (LEGACY_UID_LABEL, uid),
        (UID_LABEL, uid),
    ):
        labels.setdefault(key, value)
    selector = spec.setdefault("selector", {})
    selector.setdefault("matchLabels", {}).setdefault(UID_LABEL, uid)


class JobStatusStrategy(SpecKept):
    def validate_update(self, obj: Obj, old: Obj) -> Errors:
        return job_status(obj, old)


def _status(obj: Obj, status: Obj) -> str:
    true = {one.get("type") for one in status.get("conditions") or [] if one.get("status") == "True"}
    for kind in ("Complete", "Failed"):
        if kind in true:
            return kind
    if is_deleted(obj):
        return "Terminating"
    for kind in ("Suspended", "FailureTarget", "SuccessCriteriaMet"):
        if kind in true:
            return kind
    return "Running"


def _completions(spec: Obj, status: Obj) -> str:
    succeeded = status.get("succeeded") or 0
    if spec.get("completions") is not None:
        return f"{succeeded}/{spec['completions']}"
    parallelism = spec.get("parallelism") or 0
    return f"{succeeded}/1 of {parallelism}" if parallelism > 1 else f"{succeeded}/1"


def _duration(status: Obj, now: datetime) -> str:
    if not status.get("startTime"):
        return ""
    start = datetime.fromisoformat(status["startTime"])
    end = datetime.fromisoformat(status["completionTime"]) if status.get("completionTime") else now
    return human_duration((end - start).total_seconds())


def _cells(obj: Obj, now: datetime) -> list[Any]:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    return [
        name_of(obj),
        _status(obj, status),
        _completions(spec, status),
        _duration(status, now),
        age(obj, now),
        *containers_cells(spec.get("template") or {}),
        selector_text(spec.get("selector")),
    ]


JOB = resource(
    "batch",
    "v1",
    "Job",
    "jobs",
    columns=columns("Name", "Status", "Completions", "Duration", "Age", "Containers+", "Images+", "Selector+"),
    cells=_cells,
    strategy=JobStrategy(),
    categories=("all",),
    status=JobStatusStrategy,
    storage_version_hash="mudhfqk/qZY=",
)
