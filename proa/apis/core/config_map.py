"""ConfigMap, as of v1."""

from __future__ import annotations

from proa.apis.define import columns, resource

CONFIG_MAP = resource(
    "",
    "v1",
    "ConfigMap",
    "configmaps",
    columns=columns("Name", "Data", "Age"),
    short_names=("cm",),
    storage_version_hash="qFsyl6wFWjQ=",
)
