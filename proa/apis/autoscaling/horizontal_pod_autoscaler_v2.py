"""HorizontalPodAutoscaler, as of autoscaling/v2."""

from __future__ import annotations

from proa.apis.define import columns, resource
from proa.apis.registry import StatusStrategy

HORIZONTAL_POD_AUTOSCALER_V2 = resource(
    "autoscaling",
    "v2",
    "HorizontalPodAutoscaler",
    "horizontalpodautoscalers",
    columns=columns("Name", "Reference", "Targets", "MinPods", "MaxPods", "Replicas", "Age"),
    short_names=("hpa",),
    categories=("all",),
    status=StatusStrategy,
    storage_version_hash="qwQve8ut294=",
)
