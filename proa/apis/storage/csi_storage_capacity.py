"""CSIStorageCapacity, as of storage.k8s.io/v1."""

from __future__ import annotations

from proa.apis.define import columns, resource

CSI_STORAGE_CAPACITY = resource(
    "storage.k8s.io",
    "v1",
    "CSIStorageCapacity",
    "csistoragecapacities",
    columns=columns("Name", "Created At:date"),
    storage_version_hash="xeVl+2Ly1kE=",
)
