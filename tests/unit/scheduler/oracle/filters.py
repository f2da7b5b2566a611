"""Whether a node can take a pod."""

from __future__ import annotations

from proa.meta.objects import Obj, labels_of
from proa.meta.selectors import from_object
from tests.unit.scheduler.oracle.devices import GPU, devices_suffice
from tests.unit.scheduler.oracle.storage import volumes_fit
from tests.unit.scheduler.oracle.world import (
    World,
    allocatable,
    domain,
    name_of,
    requested,
    same_namespace,
    selected_by,
)

RESOURCES = ("cpu", "memory", GPU)


def feasible(pod: Obj, world: World) -> set[str]:
    """Returns the names of the nodes that can take the pod."""
    return {name_of(node) for node in world.nodes if fits(pod, node, world)}


def fits(pod: Obj, node: Obj, world: World) -> bool:
    return (
        room(pod, node, world)
        and (not node["spec"].get("unschedulable") or any(tolerates(one, CORDON) for one in tolerations(pod)))
        and tolerated(pod, node)
        and selected(pod, node)
        and ports_free(pod, node, world)
        and affinity(pod, node, world)
        and anti_affinity(pod, node, world)
        and spread(pod, node, world)
        and volumes_fit(pod, node, world)
        and devices_suffice(pod, node, world)
        and features_declared(pod, node)
    )


def room(pod: Obj, node: Obj, world: World) -> bool:
    here = world.on(node)
    if len(here) >= allocatable(node, "pods"):
        return False
    return all(
        not requested(pod, name)
        or (name == GPU and world.devices_serve_gpus and not allocatable(node, GPU))
        or sum(requested(one, name) for one in here) + requested(pod, name) <= allocatable(node, name)
        for name in RESOURCES
    )


def features_declared(pod: Obj, node: Obj) -> bool:
    """A rule that restarts all containers needs a kubelet that can."""
    rules = [rule for one in pod["spec"]["containers"] for rule in one.get("restartPolicyRules", [])]
    return not rules or bool(node["status"].get("declaredFeatures"))


def tolerates(toleration: Obj, taint: Obj) -> bool:
    if toleration.get("effect") and toleration["effect"] != taint["effect"]:
        return False
    if toleration.get("operator") == "Exists":
        return toleration.get("key") in (None, "", taint["key"])
    return toleration.get("key") == taint["key"] and toleration.get("value", "") == taint.get("value", "")


CORDON = {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}


def tolerations(pod: Obj) -> list[Obj]:
    found: list[Obj] = pod["spec"].get("tolerations", [])
    return found


def tolerated(pod: Obj, node: Obj) -> bool:
    return all(
        taint["effect"] == "PreferNoSchedule" or any(tolerates(one, taint) for one in tolerations(pod))
        for taint in node["spec"].get("taints", [])
    )


def selected(pod: Obj, node: Obj) -> bool:
    if any(labels_of(node).get(key) != value for key, value in pod["spec"].get("nodeSelector", {}).items()):
        return False
    wanted = pod["spec"].get("affinity", {}).get("nodeAffinity", {})
    required = wanted.get("requiredDuringSchedulingIgnoredDuringExecution")
    return required is None or selected_by(required, node)


def _ports(pod: Obj) -> list[tuple[str, str, int]]:
    return [
        (port.get("hostIP") or "0.0.0.0", port.get("protocol", "TCP"), port["hostPort"])
        for container in pod["spec"]["containers"]
        for port in container.get("ports", [])
        if port.get("hostPort")
    ]


def ports_free(pod: Obj, node: Obj, world: World) -> bool:
    taken = [port for one in world.on(node) for port in _ports(one)]
    return not any(
        (mine[1:] == theirs[1:]) and (mine[0] == theirs[0] or "0.0.0.0" in (mine[0], theirs[0]))
        for mine in _ports(pod)
        for theirs in taken
    )


def means(term: Obj, owner: Obj, pod: Obj, world: World) -> bool:
    """Whether a pod (anti-)affinity term of `owner` means `pod`."""
    namespaces, by_labels = term.get("namespaces") or [], term.get("namespaceSelector")
    where = pod["metadata"]["namespace"]
    if by_labels is None and not namespaces:
        inside = same_namespace(owner, pod)
    else:
        inside = where in namespaces or (
            by_labels is not None and from_object(by_labels).matches(world.namespaces.get(where, {}))
        )
    return inside and from_object(term.get("labelSelector")).matches(labels_of(pod))


def terms(pod: Obj, kind: str) -> list[Obj]:
    wanted = pod["spec"].get("affinity", {}).get(kind, {})
    found: list[Obj] = wanted.get("requiredDuringSchedulingIgnoredDuringExecution", [])
    return found


def affinity(pod: Obj, node: Obj, world: World) -> bool:
    wanted = terms(pod, "podAffinity")
    if not wanted:
        return True
    if any(domain(node, term["topologyKey"]) is None for term in wanted):
        return False
    group = [one for one in world.placed if all(means(term, pod, one, world) for term in wanted)]
    # Placed pods outside any of the domains do not make a group.
    domains = {
        term["topologyKey"]: {domain(world.node_of(one), term["topologyKey"]) for one in group} - {None}
        for term in wanted
    }
    if not any(domains.values()) and all(means(term, pod, pod, world) for term in wanted):
        return True
    return all(domain(node, key) in found for key, found in domains.items())


def anti_affinity(pod: Obj, node: Obj, world: World) -> bool:
    for other in world.placed:
        other_node = world.node_of(other)
        pairs = [(term, pod, other) for term in terms(pod, "podAntiAffinity")]
        pairs += [(term, other, pod) for term in terms(other, "podAntiAffinity")]
        for term, owner, meant in pairs:
            key = term["topologyKey"]
            shared = domain(node, key) is not None and domain(node, key) == domain(other_node, key)
            if shared and means(term, owner, meant, world):
                return False
    return True


def selector_of(constraint: Obj, pod: Obj) -> Obj | None:
    """A spread constraint's selector with what matchLabelKeys add from the pod's own labels."""
    selector: Obj | None = constraint.get("labelSelector")
    if selector is None:
        return None
    own = {key: labels_of(pod)[key] for key in constraint.get("matchLabelKeys", []) if key in labels_of(pod)}
    return {**selector, "matchLabels": {**selector.get("matchLabels", {}), **own}}


def counted_nodes(constraints: list[Obj], constraint: Obj, pod: Obj, world: World) -> list[Obj]:
    """The nodes whose pods count for a constraint."""
    keys = [one["topologyKey"] for one in constraints]
    return [
        one
        for one in world.nodes
        if all(domain(one, key) is not None for key in keys)
        and (constraint.get("nodeAffinityPolicy", "Honor") == "Ignore" or selected(pod, one))
        and (constraint.get("nodeTaintsPolicy", "Ignore") == "Ignore" or tolerated(pod, one))
    ]


def counts_for(constraint: Obj, pod: Obj, other: Obj) -> bool:
    return (
        not other["metadata"].get("deletionTimestamp")
        and same_namespace(pod, other)
        and from_object(selector_of(constraint, pod)).matches(labels_of(other))
    )


def spread(pod: Obj, node: Obj, world: World) -> bool:
    constraints = [
        one for one in pod["spec"].get("topologySpreadConstraints", []) if one["whenUnsatisfiable"] == "DoNotSchedule"
    ]
    for constraint in constraints:
        key = constraint["topologyKey"]
        if domain(node, key) is None:
            return False
        matching: dict[str | None, int] = {}
        for one in counted_nodes(constraints, constraint, pod, world):
            found = sum(counts_for(constraint, pod, other) for other in world.on(one))
            matching[domain(one, key)] = matching.get(domain(one, key), 0) + found
        least = min(matching.values(), default=0)
        if len(matching) < constraint.get("minDomains", 1):
            least = 0
        here = matching.get(domain(node, key), 0)
        own = from_object(selector_of(constraint, pod)).matches(labels_of(pod))
        if here + own - least > constraint["maxSkew"]:
            return False
    return True
