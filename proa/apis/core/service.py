"""Service, as of v1."""

from __future__ import annotations

from proa.apis.define import columns, resource
from proa.apis.registry import StatusStrategy, Subresource
from proa.meta.gvk import GVK

SERVICE = resource(
    "",
    "v1",
    "Service",
    "services",
    columns=columns("Name", "Type", "Cluster-IP", "External-IP", "Port(s)", "Age", "Selector+"),
    short_names=("svc",),
    categories=("all",),
    status=StatusStrategy,
    subresources=(
        Subresource(
            name="proxy",
            verbs=("create", "delete", "get", "patch", "update"),
            kind=GVK("", "v1", "ServiceProxyOptions"),
        ),
    ),
    storage_version_hash="0/CO1lhkEBI=",
)
