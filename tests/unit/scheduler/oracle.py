"""The slow, obvious scheduler: for one pod and one node at a time, straight from the API's documentation."""

from __future__ import annotations

from proa.meta.objects import Obj, labels_of
from proa.meta.selectors import from_object
from proa.scheduler.plugins.nodes import tolerates


def feasible(pod: Obj, nodes: list[Obj], placed: list[Obj]) -> set[str]:
    """Returns the names of the nodes that can take the pod."""
    return {node["metadata"]["name"] for node in nodes if _fits(pod, node, nodes, placed)}


def _fits(pod: Obj, node: Obj, nodes: list[Obj], placed: list[Obj]) -> bool:
    return (
        _room(pod, node, placed)
        and _tolerated(pod, node)
        and _selected(pod, node)
        and _affinity(pod, node, nodes, placed)
        and _anti_affinity(pod, node, nodes, placed)
        and _spread(pod, node, nodes, placed)
    )


def _cpu(pod: Obj) -> int:
    return sum(int((one["resources"].get("requests") or {}).get("cpu", 0)) for one in pod["spec"]["containers"])


def _on(node: Obj, placed: list[Obj]) -> list[Obj]:
    return [one for one in placed if one["spec"]["nodeName"] == node["metadata"]["name"]]


def _room(pod: Obj, node: Obj, placed: list[Obj]) -> bool:
    here = _on(node, placed)
    allocatable = node["status"]["allocatable"]
    used = sum(_cpu(one) for one in here)
    return len(here) < int(allocatable["pods"]) and (not _cpu(pod) or used + _cpu(pod) <= int(allocatable["cpu"]))


def _tolerated(pod: Obj, node: Obj) -> bool:
    if node["spec"].get("unschedulable"):
        return False
    hard = [one for one in node["spec"].get("taints", []) if one["effect"] != "PreferNoSchedule"]
    return all(
        any(tolerates(one, taint["key"], taint.get("value", ""), taint["effect"]) for one in _tolerations(pod))
        for taint in hard
    )


def _tolerations(pod: Obj) -> list[Obj]:
    return pod["spec"].get("tolerations", [])


def _selected(pod: Obj, node: Obj) -> bool:
    return all(labels_of(node).get(key) == value for key, value in pod["spec"].get("nodeSelector", {}).items())


def _terms(pod: Obj, kind: str) -> list[Obj]:
    wanted = pod["spec"].get("affinity", {}).get(kind, {})
    return wanted.get("requiredDuringSchedulingIgnoredDuringExecution", [])


def _means(term: Obj, owner: Obj, pod: Obj) -> bool:
    return owner["metadata"]["namespace"] == pod["metadata"]["namespace"] and from_object(
        term.get("labelSelector")
    ).matches(labels_of(pod))


def _domain(node: Obj, key: str) -> str | None:
    return labels_of(node).get(key)


def _node_of(pod: Obj, nodes: list[Obj]) -> Obj:
    return next(one for one in nodes if one["metadata"]["name"] == pod["spec"]["nodeName"])


def _affinity(pod: Obj, node: Obj, nodes: list[Obj], placed: list[Obj]) -> bool:
    terms = _terms(pod, "podAffinity")
    if not terms:
        return True
    if any(_domain(node, term["topologyKey"]) is None for term in terms):
        return False
    group = [one for one in placed if all(_means(term, pod, one) for term in terms)]
    # Placed pods outside any of the domains do not make a group.
    group_domains = {
        term["topologyKey"]: {_domain(_node_of(one, nodes), term["topologyKey"]) for one in group} - {None}
        for term in terms
    }
    if not any(group_domains.values()) and all(_means(term, pod, pod) for term in terms):
        return True
    return all(_domain(node, key) in domains for key, domains in group_domains.items())


def _anti_affinity(pod: Obj, node: Obj, nodes: list[Obj], placed: list[Obj]) -> bool:
    for other in placed:
        other_node = _node_of(other, nodes)
        pairs = [(term, pod, other) for term in _terms(pod, "podAntiAffinity")]
        pairs += [(term, other, pod) for term in _terms(other, "podAntiAffinity")]
        for term, owner, meant in pairs:
            key = term["topologyKey"]
            shared = _domain(node, key) is not None and _domain(node, key) == _domain(other_node, key)
            if shared and _means(term, owner, meant):
                return False
    return True


def _spread(pod: Obj, node: Obj, nodes: list[Obj], placed: list[Obj]) -> bool:
    constraints = [
        one for one in pod["spec"].get("topologySpreadConstraints", []) if one["whenUnsatisfiable"] == "DoNotSchedule"
    ]
    keys = [one["topologyKey"] for one in constraints]
    counted = [one for one in nodes if all(_domain(one, key) is not None for key in keys) and _selected(pod, one)]
    for constraint in constraints:
        key = constraint["topologyKey"]
        if _domain(node, key) is None:
            return False
        matching: dict[str | None, int] = {_domain(one, key): 0 for one in counted}
        for one in counted:
            matching[_domain(one, key)] += sum(_means(constraint, pod, other) for other in _on(one, placed))
        least = min(matching.values(), default=0)
        if len(matching) < constraint.get("minDomains", 1):
            least = 0
        here = matching.get(_domain(node, key), 0)
        if here + _means(constraint, pod, pod) - least > constraint["maxSkew"]:
            return False
    return True
