"""How much each plugin likes a node, among the nodes that can take the pod."""

from __future__ import annotations

import math

from proa.meta.objects import Obj
from tests.unit.scheduler.oracle.filters import counted_nodes, counts_for, means, terms, tolerates
from tests.unit.scheduler.oracle.world import World, allocatable, domain, requested, term_matches

MIB = 1024 * 1024
Scores = dict[str, list[int]]


def scores(pod: Obj, nodes: list[Obj], world: World) -> Scores:
    """Returns the scores of each plugin for `nodes`, in order; plugins that have nothing to say are left out."""
    found: Scores = {
        "NodeResourcesFit": [_least_allocated(pod, one, world) for one in nodes],
        "TaintToleration": _taints(pod, nodes),
    }
    if any(requested(pod, name) for name in ("cpu", "memory")):
        found["NodeResourcesBalancedAllocation"] = [_balance(pod, one, world) for one in nodes]
    preferred = pod["spec"].get("affinity", {}).get("nodeAffinity", {})
    preferred = preferred.get("preferredDuringSchedulingIgnoredDuringExecution", [])
    if preferred:
        raw = [sum(one["weight"] for one in preferred if term_matches(one["preference"], node)) for node in nodes]
        found["NodeAffinity"] = [score * 100 // max(raw) if max(raw) else 0 for score in raw]
    near = _near(pod, nodes, world)
    if near is not None:
        found["InterPodAffinity"] = near
    spread = _spread(pod, nodes, world)
    if spread is not None:
        found["PodTopologySpread"] = spread
    return found


def _with_defaults(pod: Obj, resource: str) -> int:
    total = 0
    for container in pod["spec"]["containers"]:
        single = {"spec": {"containers": [container]}, "status": pod.get("status")}
        asked = (container["resources"].get("requests") or {}).get(resource)
        total += requested(single, resource) if asked is not None else {"cpu": 100, "memory": 200 * MIB}[resource]
    return total


def _least_allocated(pod: Obj, node: Obj, world: World) -> int:
    parts = []
    for name in ("cpu", "memory"):
        has = allocatable(node, name)
        used = sum(_with_defaults(one, name) for one in [*world.on(node), pod])
        if has:
            parts.append((has - used) * 100 // has if used <= has else 0)
    return sum(parts) // len(parts) if parts else 0


def _balance(pod: Obj, node: Obj, world: World) -> int:
    shares = []
    for name in ("cpu", "memory"):
        used = sum(requested(one, name) for one in [*world.on(node), pod])
        if allocatable(node, name):
            shares.append(min(used / allocatable(node, name), 1.0))
    mean = sum(shares) / len(shares)
    deviation = abs(shares[0] - shares[1]) / 2 if len(shares) == 2 else mean * 0
    return int((1 - deviation) * 100)


def _taints(pod: Obj, nodes: list[Obj]) -> list[int]:
    counts = [
        sum(
            taint["effect"] == "PreferNoSchedule"
            and not any(tolerates(one, taint) for one in pod["spec"].get("tolerations", []))
            for taint in node["spec"].get("taints", [])
        )
        for node in nodes
    ]
    most = max(counts)
    return [100 - count * 100 // most if most else 100 for count in counts]


def _preferred(pod: Obj, kind: str) -> list[tuple[Obj, int]]:
    wanted = pod["spec"].get("affinity", {}).get(kind, {})
    listed = wanted.get("preferredDuringSchedulingIgnoredDuringExecution", [])
    return [(one["podAffinityTerm"], one["weight"]) for one in listed]


def _near(pod: Obj, nodes: list[Obj], world: World) -> list[int] | None:
    """Preferred terms of both sides, and required affinity of placed pods with weight 1."""
    totals = [0] * len(nodes)
    found = False
    for other in world.placed:
        where = world.node_of(other)
        wishes = [(term, weight, pod, other) for term, weight in _preferred(pod, "podAffinity")]
        wishes += [(term, -weight, pod, other) for term, weight in _preferred(pod, "podAntiAffinity")]
        wishes += [(term, weight, other, pod) for term, weight in _preferred(other, "podAffinity")]
        wishes += [(term, -weight, other, pod) for term, weight in _preferred(other, "podAntiAffinity")]
        wishes += [(term, 1, other, pod) for term in terms(other, "podAffinity")]
        for term, weight, owner, meant in wishes:
            key = term["topologyKey"]
            if domain(where, key) is None or not means(term, owner, meant, world):
                continue
            found = True
            for index, node in enumerate(nodes):
                if domain(node, key) == domain(where, key):
                    totals[index] += weight
    low, high = min(totals), max(totals)
    if not found or low == high:
        return None
    return [(total - low) * 100 // (high - low) for total in totals]


def _spread(pod: Obj, nodes: list[Obj], world: World) -> list[int] | None:
    constraints = [
        one for one in pod["spec"].get("topologySpreadConstraints", []) if one["whenUnsatisfiable"] == "ScheduleAnyway"
    ]
    if not constraints:
        return None
    known = [all(domain(node, one["topologyKey"]) is not None for one in constraints) for node in nodes]
    if not any(known):
        return [0] * len(nodes)
    raw = [
        _spread_of(node, constraints, pod, nodes, known, world) if ok else 0
        for node, ok in zip(nodes, known, strict=True)
    ]
    inside = [score for score, ok in zip(raw, known, strict=True) if ok]
    low, high = min(inside), max(inside)
    return [
        (100 if high == 0 else 100 * (high + low - score) // high) if ok else 0
        for score, ok in zip(raw, known, strict=True)
    ]


def _spread_of(node: Obj, constraints: list[Obj], pod: Obj, nodes: list[Obj], known: list[bool], world: World) -> int:
    total = 0.0
    for constraint in constraints:
        key = constraint["topologyKey"]
        domains = {domain(one, key) for one, ok in zip(nodes, known, strict=True) if ok}
        if key == "kubernetes.io/hostname":
            here = sum(counts_for(constraint, pod, other) for other in world.on(node))
            size = sum(known)
        else:
            counted = [
                one
                for one in counted_nodes(constraints, constraint, pod, world)
                if domain(one, key) == domain(node, key)
            ]
            here = sum(counts_for(constraint, pod, other) for one in counted for other in world.on(one))
            size = len(domains)
        total += here * math.log(size + 2) + (constraint["maxSkew"] - 1)
    return math.floor(total + 0.5) if total % 1 != 0.5 else round(total)
