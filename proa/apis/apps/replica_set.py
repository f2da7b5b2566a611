"""ReplicaSet, as of apps/v1."""

from __future__ import annotations

from proa.apis.define import columns, resource
from proa.apis.registry import StatusStrategy

REPLICA_SET = resource(
    "apps",
    "v1",
    "ReplicaSet",
    "replicasets",
    columns=columns(
        "Name", "Desired:integer", "Current:integer", "Ready:integer", "Age", "Containers+", "Images+", "Selector+"
    ),
    short_names=("rs",),
    categories=("all",),
    scale=True,
    status=StatusStrategy,
    storage_version_hash="P1RzHs8/mWQ=",
)
