"""HorizontalPodAutoscaler, as of autoscaling/v1."""

from __future__ import annotations

from proa.apis.define import columns, resource
from proa.apis.registry import StatusStrategy

HORIZONTAL_POD_AUTOSCALER_V1 = resource(
    "autoscaling",
    "v1",
    "HorizontalPodAutoscaler",
    "horizontalpodautoscalers",
    columns=columns("Name", "Reference", "Targets", "MinPods", "MaxPods", "Replicas", "Age"),
    short_names=("hpa",),
    categories=("all",),
    status=StatusStrategy,
    storage_version_hash="qwQve8ut294=",
)
