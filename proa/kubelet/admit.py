"""Whether the node takes a pod that was bound to it. Pure; follows upstream's kubelet admission (predicates).

The scheduler decides with what it knows; the node has the last word on resources and on its own labels.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from proa.apis.podspec.resources import is_extended
from proa.kubelet.podspec import containers_of, is_terminal
from proa.kubelet.resources import pod_requests
from proa.meta.objects import Obj, labels_of, name_of
from proa.meta.quantity import parse

_MILLI = 1000
# Sysctls that are namespaced and harmless to others; all others are refused, as upstream does unless told otherwise.
SAFE_SYSCTLS = frozenset(
    {
        "kernel.shm_rmid_forced",
        "net.ipv4.ip_local_port_range",
        "net.ipv4.tcp_syncookies",
        "net.ipv4.ping_group_range",
        "net.ipv4.ip_unprivileged_port_start",
        "net.ipv4.ip_local_reserved_ports",
        "net.ipv4.tcp_keepalive_time",
        "net.ipv4.tcp_fin_timeout",
        "net.ipv4.tcp_keepalive_intvl",
        "net.ipv4.tcp_keepalive_probes",
        "net.ipv4.tcp_rmem",
        "net.ipv4.tcp_wmem",
    }
)


def rejection(pod: Obj, others: Iterable[Obj], node: Obj, *, apparmor: bool = True) -> tuple[str, str] | None:
    """Returns (reason, message) if the node can't run the pod beside `others`, the pods it already has.

    `apparmor` tells whether the host enforces AppArmor profiles.
    """
    spec = pod.get("spec") or {}
    if (spec.get("os") or {}).get("name") not in (None, "linux"):
        return "PodOSNotSupported", "Failed to admit pod as the OS field doesn't match node OS"
    if not apparmor and any(_wants_apparmor(one.spec, spec) for one in containers_of(pod)):
        return "AppArmor", "Cannot enforce AppArmor: AppArmor is not enabled on the host"
    for sysctl in (spec.get("securityContext") or {}).get("sysctls") or []:
        if sysctl["name"].replace("/", ".") not in SAFE_SYSCTLS:
            return "SysctlForbidden", f'forbidden sysctl: "{sysctl["name"]}" not allowlisted'
    if (spec.get("securityContext") or {}).get("supplementalGroupsPolicy") == "Strict" and not _strict_groups(node):
        message = "SupplementalGroupsPolicy=Strict is not supported in this node"
        return "SupplementalGroupsPolicyNotSupported", message
    if not _selected(pod, node):
        return "NodeAffinity", "Pod was rejected: Predicate NodeAffinity failed"
    allocatable = (node.get("status") or {}).get("allocatable") or {}
    wanted = {**pod_requests(pod), "pods": _MILLI}
    used: dict[str, int] = {}
    for other in others:
        if not is_terminal(other):
            for resource, amount in {**pod_requests(other), "pods": _MILLI}.items():
                used[resource] = used.get(resource, 0) + amount
    for resource, amount in sorted(wanted.items()):
        if resource not in allocatable and is_extended(resource):
            continue  # not of this node's own making: an extender's, or served by devices
        capacity = parse(allocatable.get(resource) or 0).milli_value
        taken = used.get(resource, 0)
        if amount and taken + amount > capacity:
            unit = 1 if resource == "cpu" else _MILLI
            message = (
                f"Pod was rejected: Node didn't have enough resource: {resource}, requested: {amount // unit}, "
                f"used: {taken // unit}, capacity: {capacity // unit}"
            )
            return f"OutOf{resource}", message
    return None


def _strict_groups(node: Obj) -> bool:
    return bool(((node.get("status") or {}).get("features") or {}).get("supplementalGroupsPolicy"))


def _wants_apparmor(container: Obj, spec: Obj) -> bool:
    own = (container.get("securityContext") or {}).get("appArmorProfile")
    profile = own or (spec.get("securityContext") or {}).get("appArmorProfile") or {}
    return profile.get("type") in ("RuntimeDefault", "Localhost")


def _selected(pod: Obj, node: Obj) -> bool:
    spec = pod.get("spec") or {}
    labels = labels_of(node)
    if any(labels.get(key) != value for key, value in (spec.get("nodeSelector") or {}).items()):
        return False
    affinity = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    return not required or matches_node_selector(required, node)


def matches_node_selector(required: Obj, node: Obj) -> bool:
    """Tells whether a NodeSelector chooses the node: any of its terms."""
    labels = labels_of(node)
    return any(_term_matches(term, labels, node) for term in required.get("nodeSelectorTerms") or [])


def _term_matches(term: Obj, labels: Mapping[str, str], node: Obj) -> bool:
    expressions, fields = term.get("matchExpressions") or [], term.get("matchFields") or []
    if not expressions and not fields:
        return False
    names = {"metadata.name": name_of(node)}
    return all(_matches(one, labels) for one in expressions) and all(_matches(one, names) for one in fields)


def _matches(expression: Obj, labels: Mapping[str, str]) -> bool:
    key, operator, values = expression["key"], expression["operator"], expression.get("values") or []
    value = labels.get(key)
    if operator == "Exists":
        return value is not None
    if operator == "DoesNotExist":
        return value is None
    if operator == "NotIn":
        return value not in values
    if value is None:
        return False
    if operator == "In":
        return value in values
    try:
        return int(value) > int(values[0]) if operator == "Gt" else int(value) < int(values[0])
    except (ValueError, IndexError):
        return False
