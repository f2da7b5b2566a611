"""ResourceQuota, as of v1."""

from __future__ import annotations

from proa.apis.define import columns, resource
from proa.apis.registry import StatusStrategy

RESOURCE_QUOTA = resource(
    "",
    "v1",
    "ResourceQuota",
    "resourcequotas",
    columns=columns("Name", "Request", "Limit", "Age"),
    short_names=("quota",),
    status=StatusStrategy,
    storage_version_hash="8uhSgffRX6w=",
)
