"""ResourceClaimTemplate, as of resource.k8s.io/v1."""

from __future__ import annotations

from proa.apis.define import columns, resource

RESOURCE_CLAIM_TEMPLATE = resource(
    "resource.k8s.io",
    "v1",
    "ResourceClaimTemplate",
    "resourceclaimtemplates",
    columns=columns("Name", "Age"),
    storage_version_hash="TuzjC49aUfM=",
)
