"""ClusterRoleBinding, as of rbac.authorization.k8s.io/v1: who has a role in the whole cluster."""

from __future__ import annotations

from proa.apis.define import columns, resource
from proa.apis.rbac.role_binding import cells
from proa.apis.rbac.rules import BindingStrategy


class ClusterRoleBindingStrategy(BindingStrategy):
    role_kinds = ("ClusterRole",)
    namespaced = False


CLUSTER_ROLE_BINDING = resource(
    "rbac.authorization.k8s.io",
    "v1",
    "ClusterRoleBinding",
    "clusterrolebindings",
    columns=columns("Name", "Role", "Age", "Users+", "Groups+", "ServiceAccounts+"),
    cells=cells,
    strategy=ClusterRoleBindingStrategy(),
    namespaced=False,
    storage_version_hash="48tpQ8gZHFc=",
)
