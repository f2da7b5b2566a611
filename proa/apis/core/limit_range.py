"""LimitRange, as of v1."""

from __future__ import annotations

from proa.apis.define import columns, resource

LIMIT_RANGE = resource(
    "",
    "v1",
    "LimitRange",
    "limitranges",
    columns=columns("Name", "Created At:date"),
    short_names=("limits",),
    storage_version_hash="EBKMFVe6cwo=",
)
