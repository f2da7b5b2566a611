"""Secret, as of v1."""

from __future__ import annotations

from proa.apis.define import columns, resource

SECRET = resource(
    "",
    "v1",
    "Secret",
    "secrets",
    columns=columns("Name", "Type", "Data", "Age"),
    storage_version_hash="S6u1pOWzb84=",
)
