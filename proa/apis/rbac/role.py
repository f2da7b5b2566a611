"""Role, as of rbac.authorization.k8s.io/v1."""

from __future__ import annotations

from proa.apis.define import columns, resource

ROLE = resource(
    "rbac.authorization.k8s.io",
    "v1",
    "Role",
    "roles",
    columns=columns("Name", "Created At:date"),
    storage_version_hash="7FuwZcIIItM=",
)
