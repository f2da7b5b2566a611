"""Namespace, as of v1."""

from __future__ import annotations

from proa.apis.define import columns, resource
from proa.apis.registry import StatusStrategy, Subresource
from proa.meta.gvk import GVK

NAMESPACE = resource(
    "",
    "v1",
    "Namespace",
    "namespaces",
    columns=columns("Name", "Status", "Age"),
    namespaced=False,
    verbs=("create", "delete", "get", "list", "patch", "update", "watch"),
    short_names=("ns",),
    status=StatusStrategy,
    subresources=(Subresource(name="finalize", verbs=("update",), kind=GVK("", "v1", "Namespace")),),
    storage_version_hash="Q3oi5N2YM8M=",
)
