"""ResourceClaim, as of resource.k8s.io/v1."""

from __future__ import annotations

from proa.apis.define import columns, resource
from proa.apis.registry import StatusStrategy

RESOURCE_CLAIM = resource(
    "resource.k8s.io",
    "v1",
    "ResourceClaim",
    "resourceclaims",
    columns=columns("Name", "State", "Age"),
    status=StatusStrategy,
    storage_version_hash="wgAZaHcZxUg=",
)
