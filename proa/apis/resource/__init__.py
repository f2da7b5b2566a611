"""The resources of resource.k8s.io, in discovery order."""

from __future__ import annotations

from proa.apis.registry import ResourceDef
from proa.apis.resource.device_class import DEVICE_CLASS
from proa.apis.resource.resource_claim import RESOURCE_CLAIM
from proa.apis.resource.resource_claim_template import RESOURCE_CLAIM_TEMPLATE
from proa.apis.resource.resource_slice import RESOURCE_SLICE

RESOURCES: tuple[ResourceDef, ...] = (
    DEVICE_CLASS,
    RESOURCE_CLAIM,
    RESOURCE_CLAIM_TEMPLATE,
    RESOURCE_SLICE,
)
