"""VolumeAttributesClass, as of storage.k8s.io/v1."""

from __future__ import annotations

from proa.apis.define import columns, resource

VOLUME_ATTRIBUTES_CLASS = resource(
    "storage.k8s.io",
    "v1",
    "VolumeAttributesClass",
    "volumeattributesclasses",
    columns=columns("Name", "DriverName", "Age"),
    namespaced=False,
    short_names=("vac",),
    storage_version_hash="tIjydgKBC5w=",
)
