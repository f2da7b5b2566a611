"""The roles and bindings that every cluster starts with, and how a server brings existing ones up to date.

The rule is upstream's (`rbac/reconciliation`): objects annotated `autoupdate: "true"` gain the rules, subjects, labels
and aggregation that they lack; nothing is taken away from them, and a binding keeps its role.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

from proa.apis.rbac import bootstrap_table
from proa.apis.rbac.evaluate import uncovered
from proa.apis.rbac.rules import GROUP
from proa.meta.objects import Obj, annotations_of, copy_object, labels_of

AUTOUPDATE = "rbac.authorization.kubernetes.io/autoupdate"
_LABEL = "kubernetes.io/bootstrapping"
_AGGREGATE = "rbac.authorization.k8s.io/"
_CONTROLLER = "system:controller:"


def _lines(table: str) -> list[str]:
    return table.replace("\\\n        ", "").strip().splitlines()


def _meta(name: str, labels: list[str]) -> Obj:
    namespace, slash, short = name.partition("/")
    meta: Obj = {"name": short if slash else name}
    if slash:
        meta["namespace"] = namespace
    meta["labels"] = {_LABEL: "rbac-defaults"} | {f"{_AGGREGATE}{label}": "true" for label in labels}
    meta["annotations"] = {AUTOUPDATE: "true"}
    return meta


def _rule(line: str) -> Obj:
    verbs, groups, *rest = line.split()
    if groups == "urls":
        return {"verbs": verbs.split(","), "nonResourceURLs": rest[0].split(",")}
    rule: Obj = {
        "verbs": verbs.split(","),
        "apiGroups": ["" if group == "core" else group for group in groups.split(",")],
        "resources": rest[0].split(","),
    }
    if len(rest) > 1:
        rule["resourceNames"] = rest[1].split(",")
    return rule


def _roles(kind: str, table: str) -> Iterator[Obj]:
    role: Obj | None = None
    for line in _lines(table):
        if line.startswith(" ") and role is not None:
            if line.split()[0] == "<":
                selector = {"matchLabels": {f"{_AGGREGATE}{line.split()[1]}": "true"}}
                role["aggregationRule"] = {"clusterRoleSelectors": [selector]}
            else:
                role["rules"] = [*(role["rules"] or ()), _rule(line)]
            continue
        if role is not None:
            yield role
        name, *labels = line.split()
        role = {"apiVersion": f"{GROUP}/v1", "kind": kind, "metadata": _meta(name, labels), "rules": None}
    if role is not None:
        yield role


def _subject(text: str) -> Obj:
    kind, _, name = text.partition("=")
    if kind != "ServiceAccount":
        return {"kind": kind, "apiGroup": GROUP, "name": name}
    namespace, _, short = name.partition("/")
    return {"kind": kind, "name": short, "namespace": namespace}


def _binding(kind: str, line: str) -> Obj:
    name, role, *subjects = line.split()
    role_kind, _, role_name = role.partition("=")
    binding: Obj = {"apiVersion": f"{GROUP}/v1", "kind": kind, "metadata": _meta(name, [])}
    if subjects:
        binding["subjects"] = [_subject(one) for one in subjects]
    return binding | {"roleRef": {"apiGroup": GROUP, "kind": role_kind, "name": role_name}}


@cache
def cluster_roles() -> tuple[Obj, ...]:
    """Returns the ClusterRoles, sorted by name; shared, so copy before changing."""
    return tuple(_roles("ClusterRole", bootstrap_table.CLUSTER_ROLES))


@cache
def roles() -> tuple[Obj, ...]:
    return tuple(_roles("Role", bootstrap_table.ROLES))


@cache
def cluster_role_bindings() -> tuple[Obj, ...]:
    named = [one["metadata"]["name"] for one in cluster_roles()]
    lines = _lines(bootstrap_table.CLUSTER_ROLE_BINDINGS) + [
        f"{name} ClusterRole={name} ServiceAccount=kube-system/{name.removeprefix(_CONTROLLER)}"
        for name in named
        if name.startswith(_CONTROLLER)
    ]
    made = (_binding("ClusterRoleBinding", line) for line in lines)
    return tuple(sorted(made, key=lambda one: one["metadata"]["name"]))


@cache
def role_bindings() -> tuple[Obj, ...]:
    return tuple(_binding("RoleBinding", line) for line in _lines(bootstrap_table.ROLE_BINDINGS))


def reconciled(existing: Obj, wanted: Obj) -> Obj | None:
    """Returns an existing role or binding with what it lacks of the wanted one, or None if there is nothing to do."""
    if annotations_of(existing).get(AUTOUPDATE) != "true":
        return None
    made: Obj = copy_object(existing)
    made["metadata"]["labels"] = {**labels_of(existing), **labels_of(wanted)}
    if "aggregationRule" in wanted:
        _add_selectors(made, wanted)
    elif "rules" in wanted:
        missing = uncovered(existing.get("rules") or (), wanted["rules"] or ())
        if missing:
            made["rules"] = [*(existing.get("rules") or ()), *missing]
    else:
        have = existing.get("subjects") or []
        missing = [one for one in wanted.get("subjects") or () if one not in have]
        if missing:
            made["subjects"] = [*have, *missing]
    return None if made == existing else made


def _add_selectors(made: Obj, wanted: Obj) -> None:
    have = (made.get("aggregationRule") or {}).get("clusterRoleSelectors") or []
    missing = [one for one in wanted["aggregationRule"]["clusterRoleSelectors"] if one not in have]
    if missing:
        made["aggregationRule"] = {"clusterRoleSelectors": [*have, *missing]}
