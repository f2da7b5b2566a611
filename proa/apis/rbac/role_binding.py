"""RoleBinding, as of rbac.authorization.k8s.io/v1: who has a role within a namespace."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from proa.apis import tables
from proa.apis.define import columns, resource
from proa.apis.rbac.rules import BindingStrategy
from proa.apis.shape import children
from proa.meta.objects import Obj, name_of


def cells(obj: Obj, now: datetime) -> Sequence[Any]:
    role = obj.get("roleRef") or {}
    named: dict[str, list[str]] = {"User": [], "Group": [], "ServiceAccount": []}
    for subject in children(obj, "subjects"):
        name, namespace = subject.get("name", ""), subject.get("namespace")
        is_account = subject.get("kind") == "ServiceAccount"
        named.get(subject.get("kind", ""), []).append(f"{namespace}/{name}" if namespace and is_account else name)
    return (
        name_of(obj),
        f"{role.get('kind', '')}/{role.get('name', '')}",
        tables.age(obj, now),
        *(", ".join(listed) for listed in named.values()),
    )


ROLE_BINDING = resource(
    "rbac.authorization.k8s.io",
    "v1",
    "RoleBinding",
    "rolebindings",
    columns=columns("Name", "Role", "Age", "Users+", "Groups+", "ServiceAccounts+"),
    cells=cells,
    strategy=BindingStrategy(),
    storage_version_hash="eGsCzGH6b1g=",
)
