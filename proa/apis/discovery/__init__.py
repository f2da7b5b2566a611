"""The resources of the group, in discovery order."""

from __future__ import annotations

from proa.apis.discovery.endpoint_slice import ENDPOINT_SLICE
from proa.apis.registry import ResourceDef

RESOURCES: tuple[ResourceDef, ...] = (ENDPOINT_SLICE,)
