"""ClusterRoleBinding, as of rbac.authorization.k8s.io/v1."""

from __future__ import annotations

from proa.apis.define import columns, resource

CLUSTER_ROLE_BINDING = resource(
    "rbac.authorization.k8s.io",
    "v1",
    "ClusterRoleBinding",
    "clusterrolebindings",
    columns=columns("Name", "Role", "Age", "Users+", "Groups+", "ServiceAccounts+"),
    namespaced=False,
    storage_version_hash="48tpQ8gZHFc=",
)
