"""CSIDriver, as of storage.k8s.io/v1."""

from __future__ import annotations

from proa.apis.define import columns, resource

CSI_DRIVER = resource(
    "storage.k8s.io",
    "v1",
    "CSIDriver",
    "csidrivers",
    columns=columns(
        "Name",
        "AttachRequired:boolean",
        "PodInfoOnMount:boolean",
        "StorageCapacity:boolean",
        "TokenRequests",
        "RequiresRepublish:boolean",
        "Modes",
        "Age",
    ),
    namespaced=False,
    storage_version_hash="hL6j/rwBV5w=",
)
