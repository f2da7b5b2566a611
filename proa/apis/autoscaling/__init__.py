"""The resources of the group, in discovery order."""

from __future__ import annotations

from proa.apis.autoscaling.horizontal_pod_autoscaler_v1 import HORIZONTAL_POD_AUTOSCALER_V1
from proa.apis.autoscaling.horizontal_pod_autoscaler_v2 import HORIZONTAL_POD_AUTOSCALER_V2
from proa.apis.registry import ResourceDef

RESOURCES: tuple[ResourceDef, ...] = (
    HORIZONTAL_POD_AUTOSCALER_V2,
    HORIZONTAL_POD_AUTOSCALER_V1,
)
