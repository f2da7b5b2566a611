"""The resources of networking.k8s.io, in discovery order."""

from __future__ import annotations

from proa.apis.networking.ingress import INGRESS
from proa.apis.networking.ingress_class import INGRESS_CLASS
from proa.apis.networking.ip_address import IP_ADDRESS
from proa.apis.networking.network_policy import NETWORK_POLICY
from proa.apis.networking.service_cidr import SERVICE_CIDR
from proa.apis.registry import ResourceDef

RESOURCES: tuple[ResourceDef, ...] = (
    INGRESS_CLASS,
    INGRESS,
    IP_ADDRESS,
    NETWORK_POLICY,
    SERVICE_CIDR,
)
