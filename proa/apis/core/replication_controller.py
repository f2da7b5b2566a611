"""ReplicationController: a number of equal pods, the first kind of its sort. Follows upstream's
`pkg/registry/core/replicationcontroller`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from proa.apis.apps.replica_set import replicas_cells
from proa.apis.apps.workloads import (
    always_restarting_template,
    counted_status,
    matches_template,
    name_warning,
    nonnegatives,
)
from proa.apis.define import columns, resource
from proa.apis.fields import Errors
from proa.apis.podspec.defaults import default_pod_spec
from proa.apis.podspec.warnings import template_warnings
from proa.apis.strategies import LabelsKept, WithStatus
from proa.apis.tables import labels_text
from proa.meta.errors import required_field
from proa.meta.objects import Obj
from proa.meta.selectors import from_labels


class ReplicationControllerStrategy(WithStatus):
    schema = "io.k8s.api.core.v1.ReplicationController"
    generation = True
    field_labels = ("status.replicas",)

    def default(self, obj: Obj) -> None:
        spec = obj.setdefault("spec", {})
        template = spec.get("template")
        own = dict(((template or {}).get("metadata") or {}).get("labels") or {})
        if own:
            if not spec.get("selector"):
                spec["selector"] = own
            if not obj.setdefault("metadata", {}).get("labels"):
                obj["metadata"]["labels"] = dict(own)
        if spec.get("replicas") is None:
            spec["replicas"] = 1
        if template is not None:
            default_pod_spec(template.setdefault("spec", {}))

    def validate(self, obj: Obj) -> Errors:
        spec = obj.get("spec") or {}
        errors = nonnegatives(spec, "spec", "minReadySeconds")
        if not spec.get("selector"):
            errors.append(required_field("spec.selector"))
        errors += nonnegatives(spec, "spec", "replicas")
        template = spec.get("template")
        if template is None:
            return [*errors, required_field("spec.template")]
        errors += matches_template(from_labels(spec.get("selector")), template, "spec.template")
        return errors + always_restarting_template(template, "spec.template", "ReplicationController")

    def warnings(self, obj: Obj, old: Obj | None) -> list[str]:
        found = name_warning(obj) if old is None else []
        template = (obj.get("spec") or {}).get("template")
        if old is None or template != (old.get("spec") or {}).get("template"):
            found += template_warnings(template, "spec.template")
        return found

    def default_propagation(self, obj: Obj) -> str:
        return "Orphan"

    def selectable_fields(self, obj: Obj) -> Mapping[str, str]:
        return {"status.replicas": str((obj.get("status") or {}).get("replicas") or 0)}


class ReplicationControllerStatusStrategy(LabelsKept):
    def validate_update(self, obj: Obj, old: Obj) -> Errors:
        return counted_status(obj, ("fullyLabeledReplicas", "readyReplicas", "availableReplicas"))


def _cells(obj: Obj, now: datetime) -> list[Any]:
    return [*replicas_cells(obj, now), labels_text((obj.get("spec") or {}).get("selector"))]


REPLICATION_CONTROLLER = resource(
    "",
    "v1",
    "ReplicationController",
    "replicationcontrollers",
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
    strategy=ReplicationControllerStrategy(),
    short_names=("rc",),
    categories=("all",),
    scale=True,
    status=ReplicationControllerStatusStrategy,
    storage_version_hash="Jond2If31h0=",
)
