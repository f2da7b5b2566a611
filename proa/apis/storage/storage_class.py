"""StorageClass, as of storage.k8s.io/v1."""

from __future__ import annotations

from proa.apis.define import columns, resource

STORAGE_CLASS = resource(
    "storage.k8s.io",
    "v1",
    "StorageClass",
    "storageclasses",
    columns=columns("Name", "Provisioner", "ReclaimPolicy", "VolumeBindingMode", "AllowVolumeExpansion", "Age"),
    namespaced=False,
    short_names=("sc",),
    storage_version_hash="K+m6uJwbjGY=",
)
