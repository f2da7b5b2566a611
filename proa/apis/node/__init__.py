"""The resources of node.k8s.io, in discovery order."""

from __future__ import annotations

from proa.apis.node.runtime_class import RUNTIME_CLASS
from proa.apis.registry import ResourceDef

RESOURCES: tuple[ResourceDef, ...] = (RUNTIME_CLASS,)
