"""Role, as of rbac.authorization.k8s.io/v1: rules within a namespace."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from proa.apis.define import columns, resource
from proa.apis.rbac.rules import RoleStrategy
from proa.meta.objects import Obj, metadata, name_of


def cells(obj: Obj, now: datetime) -> Sequence[Any]:
    return name_of(obj), metadata(obj).get("creationTimestamp")


ROLE = resource(
    "rbac.authorization.k8s.io",
    "v1",
    "Role",
    "roles",
    columns=columns("Name", "Created At:date"),
    cells=cells,
    strategy=RoleStrategy(),
    storage_version_hash="7FuwZcIIItM=",
)
