"""CSINode, as of storage.k8s.io/v1."""

from __future__ import annotations

from proa.apis.define import columns, resource

CSI_NODE = resource(
    "storage.k8s.io",
    "v1",
    "CSINode",
    "csinodes",
    columns=columns("Name", "Drivers:integer", "Age"),
    namespaced=False,
    storage_version_hash="Pe62DkZtjuo=",
)
