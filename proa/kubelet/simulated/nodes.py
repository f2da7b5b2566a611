"""Simulated nodes as objects (pure): what they offer, how they are, which faults they have.

A user gives a node a fault with nothing but kubectl, by the annotation `proa.dev/fault` of the Node, and takes it away
with the annotation: docs/simulated-nodes.md. What a silent node (FAIL, HANG, PARTITION) means to its pods is said by
`outages.py`; the other faults are conditions that the node reports of itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import NAMESPACE_DNS, uuid5

from proa import KUBERNETES_VERSION
from proa.apis.pod_resources import amounts
from proa.apis.podspec.features import DECLARED
from proa.kubelet.node import TRANSITIONS
from proa.kubelet.simulated.outages import FAIL, HANG, PARTITION
from proa.meta.objects import Obj, annotations_of
from proa.util.clock import rfc3339

SIMULATED = "proa.dev/simulated"
FAULT = "proa.dev/fault"
ZONE, REGION = "topology.kubernetes.io/zone", "topology.kubernetes.io/region"
SILENT = (FAIL, HANG, PARTITION)
NOT_READY = "not-ready"
# A fault that a node reports -> the condition that it changes.
_REPORTED = {
    NOT_READY: "Ready",
    "memory-pressure": "MemoryPressure",
    "disk-pressure": "DiskPressure",
    "pid-pressure": "PIDPressure",
}
FAULTS = (*SILENT, *_REPORTED)
# condition -> (status, reason, message) when all is well, and with the fault
_CONDITIONS: Mapping[str, tuple[tuple[str, str, str], tuple[str, str, str]]] = {
    "MemoryPressure": (
        ("False", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
        ("True", "KubeletHasInsufficientMemory", "kubelet has insufficient memory available"),
    ),
    "DiskPressure": (
        ("False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
        ("True", "KubeletHasDiskPressure", "kubelet has disk pressure"),
    ),
    "PIDPressure": (
        ("False", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
        ("True", "KubeletHasInsufficientPID", "kubelet has insufficient PID available"),
    ),
    "Ready": (
        ("True", "KubeletReady", "kubelet is posting ready status"),
        ("False", "KubeletNotReady", "container runtime is down: simulated"),
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeTemplate:
    """What simulated nodes of one kind offer: amounts as quantities, `reserved` is what of them no pod may have.

    Nodes are called `name_prefix`-0, -1, …; `zones` are dealt out in turn.
    """

    cpu: str = "32"
    memory: str = "256Gi"
    ephemeral_storage: str = "500Gi"
    pods: int = 110
    resources: Mapping[str, str] = field(default_factory=dict)
    reserved: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    taints: Sequence[Obj] = ()
    zones: Sequence[str] = ()
    region: str = ""
    name_prefix: str = "simulated"


@dataclass(frozen=True, slots=True)
class Group:
    """So many nodes of one kind."""

    template: NodeTemplate
    count: int

    def names(self) -> Iterator[str]:
        return (f"{self.template.name_prefix}-{number}" for number in range(self.count))


def fault_of(node: Obj) -> str:
    """Returns what the node's annotation says is wrong with it, empty if nothing."""
    return str(annotations_of(node).get(FAULT) or "")


def check_fault(kind: str) -> None:
    """Raises ValueError for what is neither a fault nor none (empty)."""
    if kind and kind not in FAULTS:
        raise ValueError(f"{kind!r} is no fault; there are: {', '.join(FAULTS)}")


def new_node(name: str, number: int, template: NodeTemplate, address: str, pod_range: str, now: datetime) -> Obj:
    """Returns the Node to register; `number` counts the nodes of its kind."""
    labels = {
        "beta.kubernetes.io/arch": "amd64",
        "beta.kubernetes.io/os": "linux",
        "kubernetes.io/arch": "amd64",
        "kubernetes.io/hostname": name,
        "kubernetes.io/os": "linux",
        SIMULATED: "true",
        **template.labels,
    }
    if template.region:
        labels[REGION] = template.region
    if template.zones:
        labels[ZONE] = template.zones[number % len(template.zones)]
    spec: Obj = {"podCIDR": pod_range, "podCIDRs": [pod_range]}
    if template.taints:
        spec["taints"] = [dict(taint) for taint in template.taints]
    capacity, allocatable = resources(template)
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": labels, "annotations": {SIMULATED: "true", **template.annotations}},
        "spec": spec,
        "status": {
            "capacity": capacity,
            "allocatable": allocatable,
            "addresses": [{"type": "InternalIP", "address": address}, {"type": "Hostname", "address": name}],
            "conditions": conditions("", (), now),
            "declaredFeatures": list(DECLARED),
            "daemonEndpoints": {"kubeletEndpoint": {"Port": 10250}},
            "nodeInfo": node_info(name),
        },
    }


def resources(template: NodeTemplate) -> tuple[Obj, Obj]:
    """Returns (capacity, allocatable); raises ValueError if more is reserved than there is."""
    capacity = {
        "cpu": template.cpu,
        "ephemeral-storage": template.ephemeral_storage,
        "memory": template.memory,
        "pods": str(template.pods),
        **template.resources,
    }
    if not template.reserved:
        return capacity, capacity
    allocatable, have, kept = dict(capacity), amounts(capacity), amounts(template.reserved)
    for resource, amount in kept.items():
        left = have.get(resource, 0) - amount
        if left < 0:
            raise ValueError(
                f"{template.reserved[resource]} of {resource} are reserved, of {capacity.get(resource, 0)}"
            )
        allocatable[resource] = f"{left}m" if resource == "cpu" else _binary(left)
    return capacity, allocatable


def _binary(amount: int) -> str:
    return f"{amount >> 10}Ki" if amount and amount % 1024 == 0 else str(amount)


def node_info(name: str, boots: int = 0) -> Obj:
    """Returns `nodeInfo`; `boots` counts how often the node has failed and come back."""
    return {
        "architecture": "amd64",
        "bootID": str(uuid5(NAMESPACE_DNS, f"{name}/boot/{boots}")),
        "containerRuntimeVersion": "simulated://1",
        "kernelVersion": "simulated",
        "kubeProxyVersion": "",
        "kubeletVersion": KUBERNETES_VERSION,
        "machineID": uuid5(NAMESPACE_DNS, f"{name}/machine").hex,
        "operatingSystem": "linux",
        "osImage": "Proa simulated node",
        "systemUUID": str(uuid5(NAMESPACE_DNS, f"{name}/system")),
    }


def conditions(fault: str, before: Sequence[Obj], now: datetime) -> list[Obj]:
    """Returns the conditions that a node with this fault reports; `before` are those that it has."""
    known = {one.get("type"): one for one in before}
    stamp, bad = rfc3339(now), _REPORTED.get(fault, "")
    result = []
    for kind, (good, wrong) in _CONDITIONS.items():
        status, reason, message = wrong if kind == bad else good
        old = known.get(kind) or {}
        since = old.get("lastTransitionTime") if old.get("status") == status else stamp
        result.append(
            {
                "type": kind,
                "status": status,
                "reason": reason,
                "message": message,
                "lastHeartbeatTime": stamp,
                "lastTransitionTime": since or stamp,
            }
        )
    return result


def statuses(fault: str) -> Mapping[str, str]:
    """Returns the status of each condition that a node with this fault reports."""
    return _STATUSES.get(fault, _STATUSES[""])


_STATUSES = {
    fault: {kind: (wrong if kind == bad else good)[0] for kind, (good, wrong) in _CONDITIONS.items()}
    for fault, bad in (("", ""), *_REPORTED.items())
}


def transitions(before: Sequence[Obj], after: Sequence[Obj]) -> list[str]:
    """Returns the reasons of the events that a kubelet tells when the conditions change."""
    old = {one.get("type"): one.get("status") for one in before}
    return [TRANSITIONS[one["type"], one["status"]] for one in after if old.get(one["type"]) != one["status"]]


def lease(name: str, node_uid: str, namespace: str, seconds: int, now: str) -> Obj:
    """Returns a node's lease; it goes when the Node does."""
    meta: Obj = {"name": name, "namespace": namespace}
    if node_uid:
        meta["ownerReferences"] = [{"apiVersion": "v1", "kind": "Node", "name": name, "uid": node_uid}]
    return {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": meta,
        "spec": {"holderIdentity": name, "leaseDurationSeconds": seconds, "renewTime": now},
    }
