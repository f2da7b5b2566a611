"""ReplicaSet: a number of equal pods. Follows upstream's `pkg/registry/apps/replicaset`."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from proa.apis.apps.deployment import selected_template
from proa.apis.apps.workloads import containers_cells, counted_status, name_warning, nonnegatives
from proa.apis.define import columns, resource
from proa.apis.fields import Errors, immutable
from proa.apis.podspec.defaults import default_pod_spec
from proa.apis.podspec.warnings import template_warnings
from proa.apis.strategies import LabelsKept, WithStatus
from proa.apis.tables import age, selector_text
from proa.meta.objects import Obj, name_of


class ReplicaSetStrategy(WithStatus):
    schema = "io.k8s.api.apps.v1.ReplicaSet"
    generation = True

    def default(self, obj: Obj) -> None:
        spec = obj.setdefault("spec", {})
        if spec.get("replicas") is None:
            spec["replicas"] = 1
        default_pod_spec(spec.setdefault("template", {}).setdefault("spec", {}))

    def validate(self, obj: Obj) -> Errors:
        spec = obj.get("spec") or {}
        errors = nonnegatives(spec, "spec", "replicas", "minReadySeconds")
        return errors + selected_template(spec, spec.get("template") or {}, "spec")

    def validate_update(self, obj: Obj, old: Obj) -> Errors:
        spec, before = obj.get("spec") or {}, old.get("spec") or {}
        return self.validate(obj) + immutable(spec.get("selector"), before.get("selector"), "spec.selector")

    def warnings(self, obj: Obj, old: Obj | None) -> list[str]:
        found = name_warning(obj) if old is None else []
        template = (obj.get("spec") or {}).get("template")
        if old is None or template != (old.get("spec") or {}).get("template"):
            found += template_warnings(template, "spec.template")
        return found


class ReplicaSetStatusStrategy(LabelsKept):
    def validate_update(self, obj: Obj, old: Obj) -> Errors:
        return counted_status(obj, ("fullyLabeledReplicas", "readyReplicas", "availableReplicas"))


def replicas_cells(obj: Obj, now: datetime) -> list[Any]:
    """The first cells of ReplicaSet and ReplicationController."""
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    return [
        name_of(obj),
        spec.get("replicas") or 0,
        status.get("replicas") or 0,
        status.get("readyReplicas") or 0,
        age(obj, now),
        *containers_cells(spec.get("template") or {}),
    ]


def _cells(obj: Obj, now: datetime) -> list[Any]:
    return [*replicas_cells(obj, now), selector_text((obj.get("spec") or {}).get("selector"))]


REPLICA_SET = resource(
    "apps",
    "v1",
    "ReplicaSet",
    "replicasets",
    columns=columns(
        "Name",
        "Desired:integer",
        "Current:integer",
        "Ready:integer",
        "Age",
        "Containers+",
        "Images+",
        "Selector+",
    ),
    cells=_cells,
    strategy=ReplicaSetStrategy(),
    short_names=("rs",),
    categories=("all",),
    scale=True,
    status=ReplicaSetStatusStrategy,
    storage_version_hash="P1RzHs8/mWQ=",
)
