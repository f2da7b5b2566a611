"""HorizontalPodAutoscaler in autoscaling/v1: stored as v2, with what v1 cannot say in annotations."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from proa.apis.autoscaling.checks import autoscaler_spec, autoscaler_status
from proa.apis.autoscaling.conversion import v1_to_v2, v2_to_v1
from proa.apis.autoscaling.horizontal_pod_autoscaler_v2 import (
    COLUMNS,
    CPU_SHARE_DEFAULT,
    STORAGE_VERSION_HASH,
    autoscaler_cells,
)
from proa.apis.define import resource
from proa.apis.fields import Errors
from proa.apis.strategies import SpecKept, WithStatus
from proa.meta.objects import Obj, annotations_of


class AutoscalerV1Strategy(WithStatus):
    schema = "io.k8s.api.autoscaling.v1.HorizontalPodAutoscaler"

    def default(self, obj: Obj) -> None:
        spec = obj.setdefault("spec", {})
        if spec.get("minReplicas") is None:
            spec["minReplicas"] = 1
        others = "autoscaling.alpha.kubernetes.io/metrics" in annotations_of(obj)
        if spec.get("targetCPUUtilizationPercentage") is None and not others:
            spec["targetCPUUtilizationPercentage"] = CPU_SHARE_DEFAULT

    def validate(self, obj: Obj) -> Errors:
        return autoscaler_spec(v1_to_v2(obj).get("spec") or {})


class AutoscalerV1StatusStrategy(SpecKept):
    def validate_update(self, obj: Obj, old: Obj) -> Errors:
        return autoscaler_status(obj.get("status") or {})


def _cells(obj: Obj, now: datetime) -> list[Any]:
    return autoscaler_cells(v1_to_v2(obj), now)


HORIZONTAL_POD_AUTOSCALER_V1 = resource(
    "autoscaling",
    "v1",
    "HorizontalPodAutoscaler",
    "horizontalpodautoscalers",
    columns=COLUMNS,
    cells=_cells,
    strategy=AutoscalerV1Strategy(),
    short_names=("hpa",),
    categories=("all",),
    status=AutoscalerV1StatusStrategy,
    storage_version_hash=STORAGE_VERSION_HASH,
    from_stored=v2_to_v1,
    to_stored=v1_to_v2,
)
