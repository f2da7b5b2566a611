"""VolumeAttachment, as of storage.k8s.io/v1."""

from __future__ import annotations

from proa.apis.define import columns, resource
from proa.apis.registry import Column, StatusStrategy

VOLUME_ATTACHMENT = resource(
    "storage.k8s.io",
    "v1",
    "VolumeAttachment",
    "volumeattachments",
    columns=(*columns("Name"), Column("Attacher", format="name"), *columns("PV", "Node", "Attached:boolean", "Age")),
    namespaced=False,
    status=StatusStrategy,
    storage_version_hash="tJx/ezt6UDU=",
)
