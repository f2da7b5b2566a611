"""APIService, as of apiregistration.k8s.io/v1."""

from __future__ import annotations

from proa.apis.define import columns, resource
from proa.apis.registry import StatusStrategy

API_SERVICE = resource(
    "apiregistration.k8s.io",
    "v1",
    "APIService",
    "apiservices",
    columns=columns("Name", "Service", "Available", "Age"),
    namespaced=False,
    categories=("api-extensions",),
    status=StatusStrategy,
    storage_version_hash="InPBPD7+PqM=",
)
