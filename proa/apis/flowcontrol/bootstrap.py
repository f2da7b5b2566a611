"""The priority levels and flow schemas that every cluster starts with, and how existing ones are kept up to date.

As upstream's (`flowcontrol/bootstrap`): `exempt` and `catch-all` are mandatory, the others suggested.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from proa.apis.shape import children
from proa.meta.objects import Obj, annotations_of, copy_object

AUTOUPDATE = "apf.kubernetes.io/autoupdate-spec"
_API_VERSION = "flowcontrol.apiserver.k8s.io/v1"

# name: nominal shares, lendable percent, (queues, hand size, queue length)
_LIMITED: dict[str, tuple[int, int, tuple[int, int, int] | None]] = {
    "catch-all": (5, 0, None),
    "global-default": (20, 50, (128, 6, 50)),
    "leader-election": (10, 0, (16, 4, 50)),
    "node-high": (40, 25, (64, 6, 50)),
    "system": (30, 33, (64, 6, 50)),
    "workload-high": (40, 50, (128, 6, 50)),
    "workload-low": (100, 90, (128, 6, 50)),
}

_ALL_RESOURCES: Obj = {
    "verbs": ["*"],
    "apiGroups": ["*"],
    "resources": ["*"],
    "clusterScope": True,
    "namespaces": ["*"],
}
_ALL_URLS: Obj = {"verbs": ["*"], "nonResourceURLs": ["*"]}
_LEASES: Obj = {
    "verbs": ["get", "create", "update"],
    "apiGroups": ["coordination.k8s.io"],
    "resources": ["leases"],
    "namespaces": ["*"],
}
_NODES: Obj = _ALL_RESOURCES | {"apiGroups": [""], "resources": ["nodes", "nodes/status"]}
_NODE_LEASES: Obj = _LEASES | {"verbs": ["*"]}
_PROBES: Obj = {"verbs": ["get"], "nonResourceURLs": ["/healthz", "/readyz", "/livez"]}
_EVERYBODY = ("group system:unauthenticated", "group system:authenticated")
_CONTROLLERS, _SCHEDULER = "user system:kube-controller-manager", "user system:kube-scheduler"
_KUBE_SYSTEM = "serviceAccount kube-system/*"

# name: priority level, precedence, what tells flows apart, who, resources, URLs
_SCHEMAS: dict[str, tuple[str, int, str, tuple[str, ...], list[Obj], list[Obj]]] = {
    "catch-all": ("catch-all", 10000, "ByUser", _EVERYBODY, [_ALL_RESOURCES], [_ALL_URLS]),
    "exempt": ("exempt", 1, "", ("group system:masters",), [_ALL_RESOURCES], [_ALL_URLS]),
    "global-default": ("global-default", 9900, "ByUser", _EVERYBODY, [_ALL_RESOURCES], [_ALL_URLS]),
    "kube-controller-manager": (
        "workload-high",
        800,
        "ByNamespace",
        (_CONTROLLERS,),
        [_ALL_RESOURCES],
        [_ALL_URLS],
    ),
    "kube-scheduler": ("workload-high", 800, "ByNamespace", (_SCHEDULER,), [_ALL_RESOURCES], [_ALL_URLS]),
    "kube-system-service-accounts": (
        "workload-high",
        900,
        "ByNamespace",
        (_KUBE_SYSTEM,),
        [_ALL_RESOURCES],
        [_ALL_URLS],
    ),
    "probes": ("exempt", 2, "", _EVERYBODY, [], [_PROBES]),
    "service-accounts": (
        "workload-low",
        9000,
        "ByUser",
        ("group system:serviceaccounts",),
        [_ALL_RESOURCES],
        [_ALL_URLS],
    ),
    "system-leader-election": (
        "leader-election",
        100,
        "ByUser",
        (_CONTROLLERS, _SCHEDULER, _KUBE_SYSTEM),
        [_LEASES],
        [],
    ),
    "system-node-high": ("node-high", 400, "ByUser", ("group system:nodes",), [_NODES, _NODE_LEASES], []),
    "system-nodes": ("system", 500, "ByUser", ("group system:nodes",), [_ALL_RESOURCES], [_ALL_URLS]),
}
_KINDS = {"user": "User", "group": "Group", "serviceAccount": "ServiceAccount"}


def _object(kind: str, name: str, spec: Obj) -> Obj:
    meta = {"name": name, "annotations": {AUTOUPDATE: "true"}}
    return {"apiVersion": _API_VERSION, "kind": kind, "metadata": meta, "spec": spec}


def priority_levels() -> Iterator[Obj]:
    """Yields the PriorityLevelConfigurations, sorted by name."""
    for name in sorted((*_LIMITED, "exempt")):
        if name == "exempt":
            shares = {"nominalConcurrencyShares": 0, "lendablePercent": 0}
            yield _object("PriorityLevelConfiguration", name, {"type": "Exempt", "exempt": shares})
            continue
        nominal, lendable, queuing = _LIMITED[name]
        response: Obj = {"type": "Queue" if queuing else "Reject"}
        if queuing:
            response["queuing"] = dict(zip(("queues", "handSize", "queueLengthLimit"), queuing, strict=True))
        limited = {"nominalConcurrencyShares": nominal, "limitResponse": response, "lendablePercent": lendable}
        yield _object("PriorityLevelConfiguration", name, {"type": "Limited", "limited": limited})


def _subject(text: str) -> Obj:
    key, _, name = text.partition(" ")
    if key == "serviceAccount":
        namespace, _, name = name.partition("/")
        return {"kind": _KINDS[key], key: {"namespace": namespace, "name": name}}
    return {"kind": _KINDS[key], key: {"name": name}}


def flow_schemas() -> Iterator[Obj]:
    """Yields the FlowSchemas, sorted by name."""
    for name, (level, precedence, method, subjects, resources, urls) in _SCHEMAS.items():
        spec: Obj = {"priorityLevelConfiguration": {"name": level}, "matchingPrecedence": precedence}
        if method:
            spec["distinguisherMethod"] = {"type": method}
        rule: Obj = {"subjects": [_subject(one) for one in subjects]}
        if resources:
            rule["resourceRules"] = copy_object(resources)
        if urls:
            rule["nonResourceRules"] = copy_object(urls)
        yield _object("FlowSchema", name, spec | {"rules": [rule]})


def reconciled(existing: Obj, wanted: Obj) -> Obj | None:
    """Returns the existing object with the wanted spec, or None if there is nothing to do.

    An object whose generation is 1 without the annotation was never touched, so it is kept up to date, too.
    """
    meta = existing.get("metadata") or {}
    noted = annotations_of(existing).get(AUTOUPDATE)
    if noted == "false" or (noted is None and (meta.get("generation") or 1) > 1):
        return None
    if existing.get("spec") == wanted["spec"]:
        return None
    made: Obj = copy_object(existing)
    made["spec"] = copy_object(wanted["spec"])
    return made


def schema_status(schema: Obj, levels: Collection[str], now: str) -> Obj:
    """Returns a FlowSchema's status: whether the priority level that it names exists (`Dangling` if not)."""
    level = ((schema.get("spec") or {}).get("priorityLevelConfiguration") or {}).get("name") or ""
    found = level in levels
    before = next((one for one in children(schema.get("status"), "conditions") if one.get("type") == "Dangling"), {})
    status = "False" if found else "True"
    shown = (
        f'This FlowSchema references the PriorityLevelConfiguration object named "{level}" '
        f"{'and it exists' if found else 'but there is no such object'}"
    )
    condition = {
        "type": "Dangling",
        "status": status,
        "lastTransitionTime": before.get("lastTransitionTime", now) if before.get("status") == status else now,
        "reason": "Found" if found else "NotFound",
        "message": shown,
    }
    return {"conditions": [condition]}
