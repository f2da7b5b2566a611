"""Deployment: replicated pods that are rolled out. Follows upstream's `pkg/registry/apps/deployment`."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from proa.apis.apps.workloads import (
    always_restarting_template,
    containers_cells,
    counted_status,
    matches_template,
    name_warning,
    nonnegatives,
)
from proa.apis.define import columns, resource
from proa.apis.fields import (
    Errors,
    absolute_number,
    immutable,
    int_or_percent_nonnegative,
    label_selector,
    nonnegative,
    not_more_than_all,
    parsed_selector,
)
from proa.apis.podspec.defaults import default_pod_spec
from proa.apis.podspec.warnings import template_warnings
from proa.apis.strategies import LabelsKept, WithStatus
from proa.apis.tables import age, selector_text
from proa.meta.errors import forbidden_field, invalid_field, required_field, unsupported_field
from proa.meta.objects import Obj, annotations_of, name_of

_SHARE = "25%"


class DeploymentStrategy(WithStatus):
    schema = "io.k8s.api.apps.v1.Deployment"
    generation = True

    def default(self, obj: Obj) -> None:
        spec = obj.setdefault("spec", {})
        for key, value in (("replicas", 1), ("revisionHistoryLimit", 10), ("progressDeadlineSeconds", 600)):
            if spec.get(key) is None:
                spec[key] = value
        strategy = spec.setdefault("strategy", {})
        if not strategy.get("type"):
            strategy["type"] = "RollingUpdate"
        if strategy["type"] == "RollingUpdate":
            rolling = strategy.setdefault("rollingUpdate", {})
            for key in ("maxUnavailable", "maxSurge"):
                if rolling.get(key) is None:
                    rolling[key] = _SHARE
        default_pod_spec(spec.setdefault("template", {}).setdefault("spec", {}))

    def specification(self, obj: Obj) -> Any:
        # Annotations count: they carry over to replica sets.
        return obj.get("spec"), annotations_of(obj)

    def validate(self, obj: Obj) -> Errors:
        return _spec(obj.get("spec") or {}, "spec")

    def validate_update(self, obj: Obj, old: Obj) -> Errors:
        spec, before = obj.get("spec") or {}, old.get("spec") or {}
        return self.validate(obj) + immutable(spec.get("selector"), before.get("selector"), "spec.selector")

    def warnings(self, obj: Obj, old: Obj | None) -> list[str]:
        found = name_warning(obj) if old is None else []
        template = (obj.get("spec") or {}).get("template")
        if old is None or template != (old.get("spec") or {}).get("template"):
            found += template_warnings(template, "spec.template")
        return found


def _spec(spec: Obj, path: str) -> Errors:
    errors = nonnegative(spec.get("replicas"), f"{path}.replicas")
    template = spec.get("template") or {}
    errors += selected_template(spec, template, path)
    errors += _rollout(spec.get("strategy") or {}, f"{path}.strategy")
    errors += nonnegatives(spec, path, "minReadySeconds", "revisionHistoryLimit")
    deadline = spec.get("progressDeadlineSeconds")
    if deadline is not None:
        errors += nonnegative(deadline, f"{path}.progressDeadlineSeconds")
        if deadline <= (spec.get("minReadySeconds") or 0):
            detail = "must be greater than minReadySeconds"
            errors.append(invalid_field(f"{path}.progressDeadlineSeconds", deadline, detail))
    return errors


def selected_template(spec: Obj, template: Obj, path: str) -> Errors:
    """Checks selector and template, as Deployment and ReplicaSet do."""
    errors: Errors = []
    selector = spec.get("selector")
    if selector is None:
        errors.append(required_field(f"{path}.selector"))
    else:
        errors += label_selector(selector, f"{path}.selector")
        if not selector.get("matchLabels") and not selector.get("matchExpressions"):
            errors.append(invalid_field(f"{path}.selector", selector, "empty selector is invalid for deployment"))
    matcher = parsed_selector(selector)
    if matcher is None:
        return [*errors, invalid_field(f"{path}.selector", selector, "invalid label selector")]
    errors += matches_template(matcher, template, f"{path}.template")
    return errors + always_restarting_template(template, f"{path}.template", "ReplicaSet")


def _rollout(strategy: Obj, path: str) -> Errors:
    kind, rolling = strategy.get("type") or "", strategy.get("rollingUpdate")
    if kind == "Recreate":
        if rolling is None:
            return []
        return [forbidden_field(f"{path}.rollingUpdate", "may not be specified when strategy `type` is 'Recreate'")]
    if kind != "RollingUpdate":
        shown = {"Type": kind, "RollingUpdate": rolling}
        return [unsupported_field(path, shown, ("Recreate", "RollingUpdate"))]
    if rolling is None:
        return [required_field(f"{path}.rollingUpdate", "this should be defaulted and never be nil")]
    at = f"{path}.rollingUpdate"
    unavailable, surge = rolling.get("maxUnavailable"), rolling.get("maxSurge")
    errors = int_or_percent_nonnegative(unavailable, f"{at}.maxUnavailable")
    errors += int_or_percent_nonnegative(surge, f"{at}.maxSurge")
    if not errors and absolute_number(unavailable) == 0 and absolute_number(surge) == 0:
        errors.append(invalid_field(f"{at}.maxUnavailable", unavailable, "may not be 0 when `maxSurge` is 0"))
    return errors + not_more_than_all(unavailable, f"{at}.maxUnavailable")


class DeploymentStatusStrategy(LabelsKept):
    def validate_update(self, obj: Obj, old: Obj) -> Errors:
        errors = counted_status(
            obj, ("updatedReplicas", "readyReplicas", "availableReplicas"), ("unavailableReplicas", "collisionCount")
        )
        was = (old.get("status") or {}).get("collisionCount")
        now = (obj.get("status") or {}).get("collisionCount")
        if was is not None and (now is None or now < was):
            errors.append(invalid_field("status.collisionCount", now, "cannot be decremented"))
        return errors


def _cells(obj: Obj, now: datetime) -> list[Any]:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    return [
        name_of(obj),
        f"{status.get('readyReplicas') or 0}/{spec.get('replicas') or 0}",
        status.get("updatedReplicas") or 0,
        status.get("availableReplicas") or 0,
        age(obj, now),
        *containers_cells(spec.get("template") or {}),
        selector_text(spec.get("selector")),
    ]


DEPLOYMENT = resource(
    "apps",
    "v1",
    "Deployment",
    "deployments",
    columns=columns("Name", "Ready", "Up-to-date", "Available", "Age", "Containers+", "Images+", "Selector+"),
    cells=_cells,
    strategy=DeploymentStrategy(),
    short_names=("deploy",),
    categories=("all",),
    scale=True,
    status=DeploymentStatusStrategy,
    storage_version_hash="8aSe+NMegvE=",
)
