"""The resources of the group, in discovery order."""

from __future__ import annotations

from proa.apis.coordination.lease import LEASE
from proa.apis.registry import ResourceDef

RESOURCES: tuple[ResourceDef, ...] = (LEASE,)
