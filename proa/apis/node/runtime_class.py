"""RuntimeClass, as of node.k8s.io/v1."""

from __future__ import annotations

from proa.apis.define import columns, resource

RUNTIME_CLASS = resource(
    "node.k8s.io",
    "v1",
    "RuntimeClass",
    "runtimeclasses",
    columns=columns("Name", "Handler", "Age"),
    namespaced=False,
    storage_version_hash="WQTu1GL3T2Q=",
)
