"""A whole small cluster as plain objects."""

from __future__ import annotations

from dataclasses import dataclass, field

from proa.meta.objects import Obj, labels_of
from proa.meta.quantity import parse


@dataclass
class World:
    """`placed` pods have a nodeName; `namespaces` maps names to labels."""

    nodes: list[Obj] = field(default_factory=list)
    placed: list[Obj] = field(default_factory=list)
    namespaces: dict[str, dict[str, str]] = field(default_factory=dict)
    claims: list[Obj] = field(default_factory=list)
    volumes: list[Obj] = field(default_factory=list)
    classes: list[Obj] = field(default_factory=list)
    csi_nodes: list[Obj] = field(default_factory=list)
    device_slices: list[Obj] = field(default_factory=list)
    device_claims: list[Obj] = field(default_factory=list)
    devices_serve_gpus: bool = False  # example.com/gpu, on nodes that have none themselves

    def on(self, node: Obj) -> list[Obj]:
        return [one for one in self.placed if one["spec"]["nodeName"] == node["metadata"]["name"]]

    def node_of(self, pod: Obj) -> Obj:
        return next(one for one in self.nodes if one["metadata"]["name"] == pod["spec"]["nodeName"])


def domain(node: Obj, key: str) -> str | None:
    return labels_of(node).get(key)


def name_of(obj: Obj) -> str:
    return str(obj["metadata"]["name"])


def same_namespace(one: Obj, other: Obj) -> bool:
    return bool(one["metadata"]["namespace"] == other["metadata"]["namespace"])


def amount(text: object, *, milli: bool = False) -> int:
    quantity = parse(str(text))
    return quantity.milli_value if milli else quantity.value


def requested(pod: Obj, resource: str) -> int:
    """What the pod's containers ask for together; cpu in thousandths. While a container is resized, it is the most of
    what it asks for, was allocated and has; once the node has refused, what it asks for does not count."""
    status = pod.get("status") or {}
    refused = any(one.get("reason") == "Infeasible" for one in status.get("conditions") or [])
    total = 0
    for container in pod["spec"]["containers"]:
        lists = [container["resources"].get("requests") or {}]
        for said in status.get("containerStatuses") or []:
            if said["name"] == container["name"]:
                held = [said["resources"]["requests"], said["allocatedResources"]]
                lists = held if refused else [*lists, *held]
        total += max(amount(one.get(resource, 0), milli=resource == "cpu") for one in lists)
    return total


def allocatable(node: Obj, resource: str) -> int:
    found = node["status"]["allocatable"].get(resource)
    return 0 if found is None else amount(found, milli=resource == "cpu")


def satisfies(labels: dict[str, str], requirement: Obj) -> bool:
    """A node selector's requirement."""
    key, operator, values = requirement["key"], requirement["operator"], requirement.get("values") or []
    if operator == "In":
        return key in labels and labels[key] in values
    if operator == "NotIn":
        return key not in labels or labels[key] not in values
    if operator == "Exists":
        return key in labels
    if operator == "DoesNotExist":
        return key not in labels
    if key not in labels or not labels[key].lstrip("-").isdigit():
        return False
    return int(labels[key]) > int(values[0]) if operator == "Gt" else int(labels[key]) < int(values[0])


def selected_by(selector: Obj, node: Obj) -> bool:
    """A node selector: any of its terms."""
    return any(term_matches(term, node) for term in selector["nodeSelectorTerms"])


def term_matches(term: Obj, node: Obj) -> bool:
    fields, expressions = term.get("matchFields") or [], term.get("matchExpressions") or []
    if not fields and not expressions:
        return False
    by_name = {"metadata.name": name_of(node)}
    labels = labels_of(node)
    return all(satisfies(by_name, one) for one in fields) and all(satisfies(dict(labels), one) for one in expressions)
