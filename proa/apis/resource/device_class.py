"""DeviceClass, as of resource.k8s.io/v1."""

from __future__ import annotations

from proa.apis.define import columns, resource

DEVICE_CLASS = resource(
    "resource.k8s.io",
    "v1",
    "DeviceClass",
    "deviceclasses",
    columns=columns("Name", "Age"),
    namespaced=False,
    storage_version_hash="Yk2PTc1Ybxk=",
)
