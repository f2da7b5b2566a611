"""The policy objects that every cluster starts with: roles and bindings, flow control, priority classes.

What depends on the server (its service, address ranges, namespaces) is made by the server itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from proa.apis.flowcontrol import bootstrap as flowcontrol
from proa.apis.rbac import bootstrap as rbac
from proa.apis.scheduling.priority_class import SYSTEM_CLASSES
from proa.meta.gvk import GVR
from proa.meta.objects import Obj, annotations_of

_RBAC = "rbac.authorization.k8s.io"
_FLOWCONTROL = "flowcontrol.apiserver.k8s.io"

_DESCRIPTIONS = {
    "system-cluster-critical": (
        "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary."
    ),
    "system-node-critical": "Used for system critical pods that must not be moved from their current node.",
}


def priority_classes() -> Iterator[Obj]:
    """Yields the two classes of system pods."""
    for name, description in _DESCRIPTIONS.items():
        yield {
            "apiVersion": "scheduling.k8s.io/v1",
            "kind": "PriorityClass",
            "metadata": {"name": name},
            "value": SYSTEM_CLASSES[name],
            "description": description,
            "preemptionPolicy": "PreemptLowerPriority",
        }


def policies() -> Iterator[tuple[GVR, Obj]]:
    """Yields all of them with their resource; what authorization needs comes first. Shared: copy before changing."""
    listed: tuple[tuple[str, str, Iterable[Obj]], ...] = (
        (_RBAC, "clusterroles", rbac.cluster_roles()),
        (_RBAC, "clusterrolebindings", rbac.cluster_role_bindings()),
        (_RBAC, "roles", rbac.roles()),
        (_RBAC, "rolebindings", rbac.role_bindings()),
        (_FLOWCONTROL, "prioritylevelconfigurations", flowcontrol.priority_levels()),
        (_FLOWCONTROL, "flowschemas", flowcontrol.flow_schemas()),
        ("scheduling.k8s.io", "priorityclasses", priority_classes()),
    )
    for group, plural, objects in listed:
        for obj in objects:
            yield GVR(group, "v1", plural), obj


def reconciled(existing: Obj, wanted: Obj) -> Obj | None:
    """Returns an existing bootstrap object brought up to date with this version's, or None if it stays as it is."""
    if rbac.AUTOUPDATE in annotations_of(wanted):
        return rbac.reconciled(existing, wanted)
    if flowcontrol.AUTOUPDATE in annotations_of(wanted):
        return flowcontrol.reconciled(existing, wanted)
    return None
