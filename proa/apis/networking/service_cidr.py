"""ServiceCIDR, as of networking.k8s.io/v1."""

from __future__ import annotations

from proa.apis.define import columns, resource
from proa.apis.registry import StatusStrategy

SERVICE_CIDR = resource(
    "networking.k8s.io",
    "v1",
    "ServiceCIDR",
    "servicecidrs",
    columns=columns("Name", "CIDRs", "Age"),
    namespaced=False,
    status=StatusStrategy,
    storage_version_hash="gNLvruQhW2g=",
)
