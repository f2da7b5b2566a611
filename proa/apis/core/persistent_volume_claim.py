"""PersistentVolumeClaim, as of v1."""

from __future__ import annotations

from proa.apis.define import columns, resource
from proa.apis.registry import StatusStrategy

PERSISTENT_VOLUME_CLAIM = resource(
    "",
    "v1",
    "PersistentVolumeClaim",
    "persistentvolumeclaims",
    columns=columns(
        "Name",
        "Status",
        "Volume",
        "Capacity",
        "Access Modes",
        "StorageClass",
        "VolumeAttributesClass",
        "Age",
        "VolumeMode+",
    ),
    short_names=("pvc",),
    status=StatusStrategy,
    storage_version_hash="QWTyNDq0dC4=",
)
