"""The policies that every new cluster has: bootstrap roles and bindings, flow schemas, priority levels and classes.

`policies.json` holds upstream's v1.36 defaults in short form; `policies` spells them out as objects. The roles `admin`,
`edit` and `view` have no rules of their own: a controller aggregates them.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.resources import files
from typing import Any

import msgspec

from proa.client.resources import (
    CLUSTERROLEBINDINGS,
    CLUSTERROLES,
    FLOWSCHEMAS,
    PRIORITYCLASSES,
    PRIORITYLEVELCONFIGURATIONS,
    ROLEBINDINGS,
    ROLES,
)
from proa.meta.gvk import GVR
from proa.meta.objects import Obj

_RBAC = "rbac.authorization.k8s.io"
_ROLES = {"clusterRoles": CLUSTERROLES, "roles": ROLES}
_BINDINGS = {"clusterRoleBindings": CLUSTERROLEBINDINGS, "roleBindings": ROLEBINDINGS}
_PLAIN = {
    "flowSchemas": FLOWSCHEMAS,
    "priorityLevelConfigurations": PRIORITYLEVELCONFIGURATIONS,
    "priorityClasses": PRIORITYCLASSES,
}


def policies() -> Iterator[tuple[GVR, Obj]]:
    """Yields every policy object with its resource, roles before the bindings that name them."""
    data: dict[str, list[Any]] = msgspec.json.decode(files("proa.apiserver").joinpath("policies.json").read_bytes())
    for key, resource in _ROLES.items():
        for one in data[key]:
            yield resource, _role(one)
    for key, resource in _BINDINGS.items():
        for one in data[key]:
            yield resource, _binding(one)
    for key, resource in _PLAIN.items():
        for one in data[key]:
            yield resource, one


def _metadata(one: Obj) -> Obj:
    metadata: Obj = {"name": one["name"]}
    if "namespace" in one:
        metadata["namespace"] = one["namespace"]
    metadata["labels"] = {"kubernetes.io/bootstrapping": "rbac-defaults", **one.get("labels", {})}
    metadata["annotations"] = {"rbac.authorization.kubernetes.io/autoupdate": "true"}
    return metadata


def _role(one: Obj) -> Obj:
    role: Obj = {"metadata": _metadata(one)}
    if "aggregates" in one:
        role["rules"] = None
        role["aggregationRule"] = {"clusterRoleSelectors": [{"matchLabels": labels} for labels in one["aggregates"]]}
    else:
        role["rules"] = one["rules"]
    return role


def _binding(one: Obj) -> Obj:
    kind = "Role" if "Role" in one else "ClusterRole"
    subjects = [_subject(*pair) for subject in one["subjects"] for pair in subject.items()]
    return {
        "metadata": _metadata(one),
        "subjects": subjects,
        "roleRef": {"apiGroup": _RBAC, "kind": kind, "name": one[kind]},
    }


def _subject(kind: str, name: str) -> Obj:
    if kind == "ServiceAccount":
        namespace, _, account = name.partition("/")
        return {"kind": kind, "name": account, "namespace": namespace}
    return {"kind": kind, "apiGroup": _RBAC, "name": name}
