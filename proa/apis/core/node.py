"""Node, as of v1."""

from __future__ import annotations

from proa.apis.define import columns, resource
from proa.apis.registry import StatusStrategy, Subresource
from proa.meta.gvk import GVK

NODE = resource(
    "",
    "v1",
    "Node",
    "nodes",
    columns=columns(
        "Name",
        "Status",
        "Roles",
        "Age",
        "Version",
        "Internal-IP+",
        "External-IP+",
        "OS-Image+",
        "Kernel-Version+",
        "Container-Runtime+",
    ),
    namespaced=False,
    short_names=("no",),
    status=StatusStrategy,
    subresources=(
        Subresource(
            name="proxy", verbs=("create", "delete", "get", "patch", "update"), kind=GVK("", "v1", "NodeProxyOptions")
        ),
    ),
    storage_version_hash="XwShjMxG9Fs=",
)
