"""The resources of the group, in discovery order."""

from __future__ import annotations

from proa.apis.events.event import EVENT
from proa.apis.registry import ResourceDef

RESOURCES: tuple[ResourceDef, ...] = (EVENT,)
