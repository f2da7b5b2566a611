"""The resources of rbac.authorization.k8s.io, in discovery order."""

from __future__ import annotations

from proa.apis.rbac.cluster_role import CLUSTER_ROLE
from proa.apis.rbac.cluster_role_binding import CLUSTER_ROLE_BINDING
from proa.apis.rbac.role import ROLE
from proa.apis.rbac.role_binding import ROLE_BINDING
from proa.apis.registry import ResourceDef

RESOURCES: tuple[ResourceDef, ...] = (
    CLUSTER_ROLE_BINDING,
    CLUSTER_ROLE,
    ROLE_BINDING,
    ROLE,
)
