"""The resources of flowcontrol.apiserver.k8s.io, in discovery order."""

from __future__ import annotations

from proa.apis.flowcontrol.flow_schema import FLOW_SCHEMA
from proa.apis.flowcontrol.priority_level_configuration import PRIORITY_LEVEL_CONFIGURATION
from proa.apis.registry import ResourceDef

RESOURCES: tuple[ResourceDef, ...] = (
    FLOW_SCHEMA,
    PRIORITY_LEVEL_CONFIGURATION,
)
