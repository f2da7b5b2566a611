"""PersistentVolume, as of v1."""

from __future__ import annotations

from proa.apis.define import columns, resource
from proa.apis.registry import StatusStrategy

PERSISTENT_VOLUME = resource(
    "",
    "v1",
    "PersistentVolume",
    "persistentvolumes",
    columns=columns(
        "Name",
        "Capacity",
        "Access Modes",
        "Reclaim Policy",
        "Status",
        "Claim",
        "StorageClass",
        "VolumeAttributesClass",
        "Reason",
        "Age",
        "VolumeMode+",
    ),
    namespaced=False,
    short_names=("pv",),
    status=StatusStrategy,
    storage_version_hash="HN/zwEC+JgM=",
)
