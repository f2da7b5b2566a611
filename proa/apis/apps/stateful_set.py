"""StatefulSet, as of apps/v1."""

from __future__ import annotations

from proa.apis.define import columns, resource
from proa.apis.registry import StatusStrategy

STATEFUL_SET = resource(
    "apps",
    "v1",
    "StatefulSet",
    "statefulsets",
    columns=columns("Name", "Ready", "Age", "Containers+", "Images+"),
    short_names=("sts",),
    categories=("all",),
    scale=True,
    status=StatusStrategy,
    storage_version_hash="H+vl74LkKdo=",
)
