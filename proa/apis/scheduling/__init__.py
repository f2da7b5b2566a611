"""The resources of scheduling.k8s.io, in discovery order."""

from __future__ import annotations

from proa.apis.registry import ResourceDef
from proa.apis.scheduling.priority_class import PRIORITY_CLASS

RESOURCES: tuple[ResourceDef, ...] = (PRIORITY_CLASS,)
