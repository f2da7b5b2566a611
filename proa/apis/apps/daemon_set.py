"""DaemonSet, as of apps/v1."""

from __future__ import annotations

from proa.apis.define import columns, resource
from proa.apis.registry import StatusStrategy

DAEMON_SET = resource(
    "apps",
    "v1",
    "DaemonSet",
    "daemonsets",
    columns=columns(
        "Name",
        "Desired:integer",
        "Current:integer",
        "Ready:integer",
        "Up-to-date:integer",
        "Available:integer",
        "Node Selector",
        "Age",
        "Containers+",
        "Images+",
        "Selector+",
    ),
    short_names=("ds",),
    categories=("all",),
    status=StatusStrategy,
    storage_version_hash="dd7pWHUlMKQ=",
)
