"""ClusterRole, as of rbac.authorization.k8s.io/v1: rules for the whole cluster, or gathered from other roles."""

from __future__ import annotations

from proa.apis import fields
from proa.apis.define import columns, resource
from proa.apis.fields import Errors
from proa.apis.rbac.role import cells
from proa.apis.rbac.rules import RoleStrategy
from proa.apis.shape import children
from proa.meta.errors import required_field
from proa.meta.objects import Obj


class ClusterRoleStrategy(RoleStrategy):
    namespaced = False

    def validate(self, obj: Obj) -> Errors:
        errors = super().validate(obj)
        aggregation = obj.get("aggregationRule")
        if aggregation is None:
            return errors
        path = "aggregationRule.clusterRoleSelectors"
        selectors = children(aggregation, "clusterRoleSelectors")
        if not selectors:
            detail = "at least one clusterRoleSelector required if aggregationRule is non-nil"
            errors.append(required_field(path, detail))
        for index, selector in enumerate(selectors):
            errors += fields.label_selector(selector, f"{path}[{index}]")
        return errors


CLUSTER_ROLE = resource(
    "rbac.authorization.k8s.io",
    "v1",
    "ClusterRole",
    "clusterroles",
    columns=columns("Name", "Created At:date"),
    cells=cells,
    strategy=ClusterRoleStrategy(),
    namespaced=False,
    storage_version_hash="bYE5ZWDrJ44=",
)
