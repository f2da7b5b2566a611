"""The resources of apiregistration.k8s.io, in discovery order."""

from __future__ import annotations

from proa.apis.apiregistration.api_service import API_SERVICE
from proa.apis.registry import ResourceDef

RESOURCES: tuple[ResourceDef, ...] = (API_SERVICE,)
