"""ReplicationController, as of v1."""

from __future__ import annotations

from proa.apis.define import columns, resource
from proa.apis.registry import StatusStrategy

REPLICATION_CONTROLLER = resource(
    "",
    "v1",
    "ReplicationController",
    "replicationcontrollers",
    columns=columns(
        "Name", "Desired:integer", "Current:integer", "Ready:integer", "Age", "Containers+", "Images+", "Selector+"
    ),
    short_names=("rc",),
    categories=("all",),
    scale=True,
    status=StatusStrategy,
    storage_version_hash="Jond2If31h0=",
)
