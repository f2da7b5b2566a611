"""IPAddress, as of networking.k8s.io/v1."""

from __future__ import annotations

from proa.apis.define import columns, resource

IP_ADDRESS = resource(
    "networking.k8s.io",
    "v1",
    "IPAddress",
    "ipaddresses",
    columns=columns("Name", "ParentRef"),
    namespaced=False,
    short_names=("ip",),
    storage_version_hash="3f/plJFChNE=",
)
