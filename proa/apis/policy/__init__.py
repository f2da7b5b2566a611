"""The resources of the group, in discovery order."""

from __future__ import annotations

from proa.apis.policy.pod_disruption_budget import POD_DISRUPTION_BUDGET
from proa.apis.registry import ResourceDef

RESOURCES: tuple[ResourceDef, ...] = (POD_DISRUPTION_BUDGET,)
