"""The resources of apiextensions.k8s.io, in discovery order."""

from __future__ import annotations

from proa.apis.apiextensions.custom_resource_definition import CUSTOM_RESOURCE_DEFINITION
from proa.apis.registry import ResourceDef

RESOURCES: tuple[ResourceDef, ...] = (CUSTOM_RESOURCE_DEFINITION,)
