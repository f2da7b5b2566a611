"""ResourceSlice, as of resource.k8s.io/v1."""

from __future__ import annotations

from proa.apis.define import columns, resource

RESOURCE_SLICE = resource(
    "resource.k8s.io",
    "v1",
    "ResourceSlice",
    "resourceslices",
    columns=columns("Name", "Node", "Driver", "Pool", "Age"),
    namespaced=False,
    storage_version_hash="KsC072WgaEY=",
)
