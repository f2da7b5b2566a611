"""ClusterRole, as of rbac.authorization.k8s.io/v1."""

from __future__ import annotations

from proa.apis.define import columns, resource

CLUSTER_ROLE = resource(
    "rbac.authorization.k8s.io",
    "v1",
    "ClusterRole",
    "clusterroles",
    columns=columns("Name", "Created At:date"),
    namespaced=False,
    storage_version_hash="bYE5ZWDrJ44=",
)
