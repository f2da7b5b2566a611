"""PodDisruptionBudget: how many pods may be away at once. Follows upstream's `pkg/registry/policy`."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from proa.apis.apps.workloads import nonnegatives, rollout_number
from proa.apis.define import columns, resource
from proa.apis.fields import Errors, label_selector, one_of
from proa.apis.strategies import SpecKept, WithStatus
from proa.apis.tables import age
from proa.meta.errors import invalid_field
from proa.meta.objects import Obj, name_of


class DisruptionBudgetStrategy(WithStatus):
    schema = "io.k8s.api.policy.v1.PodDisruptionBudget"
    generation = True

    def validate(self, obj: Obj) -> Errors:
        spec = obj.get("spec") or {}
        errors: Errors = []
        if spec.get("minAvailable") is not None and spec.get("maxUnavailable") is not None:
            detail = "minAvailable and maxUnavailable cannot be both set"
            errors.append(invalid_field("spec", spec, detail))
        for key in ("minAvailable", "maxUnavailable"):
            if spec.get(key) is not None:
                errors += rollout_number(spec[key], f"spec.{key}")
        errors += label_selector(spec.get("selector"), "spec.selector")
        policy = spec.get("unhealthyPodEvictionPolicy")
        if policy is not None:
            errors += one_of(policy, "spec.unhealthyPodEvictionPolicy", ("AlwaysAllow", "IfHealthyBudget"))
        return errors


class DisruptionBudgetStatusStrategy(SpecKept):
    def validate_update(self, obj: Obj, old: Obj) -> Errors:
        counters = ("disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods", "observedGeneration")
        return nonnegatives(obj.get("status") or {}, "status", *counters)


def _cells(obj: Obj, now: datetime) -> list[Any]:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    shown = ["N/A" if spec.get(key) is None else str(spec[key]) for key in ("minAvailable", "maxUnavailable")]
    return [name_of(obj), *shown, status.get("disruptionsAllowed") or 0, age(obj, now)]


POD_DISRUPTION_BUDGET = resource(
    "policy",
    "v1",
    "PodDisruptionBudget",
    "poddisruptionbudgets",
    columns=columns("Name", "Min Available", "Max Unavailable", "Allowed Disruptions:integer", "Age"),
    cells=_cells,
    strategy=DisruptionBudgetStrategy(),
    short_names=("pdb",),
    status=DisruptionBudgetStatusStrategy,
    storage_version_hash="EVWiDmWqyJw=",
)
