"""RoleBinding, as of rbac.authorization.k8s.io/v1."""

from __future__ import annotations

from proa.apis.define import columns, resource

ROLE_BINDING = resource(
    "rbac.authorization.k8s.io",
    "v1",
    "RoleBinding",
    "rolebindings",
    columns=columns("Name", "Role", "Age", "Users+", "Groups+", "ServiceAccounts+"),
    storage_version_hash="eGsCzGH6b1g=",
)
