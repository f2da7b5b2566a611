"""The scheduler alone: decisions per second over 5,000 nodes, by workloads named after upstream's performance suite.

No API, no binding: events go into the engine and decisions come out, so this is the share of a pod's way that the
scheduler itself takes. Thresholds in the table are upstream's own for the same workloads on its CI machines.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from proa.meta.objects import Obj
from proa.scheduler.engine import Bind, Engine

NODES = 5000
ZONES = 3
HOSTNAME, ZONE = "kubernetes.io/hostname", "topology.kubernetes.io/zone"


def node(number: int) -> Obj:
    name = f"node-{number}"
    labels = {HOSTNAME: name, ZONE: f"zone-{number % ZONES}"}
    return {
        "metadata": {"name": name, "labels": labels},
        "spec": {},
        "status": {"allocatable": {"cpu": "4", "memory": "32Gi", "pods": "110"}},
    }


def pod(number: int, **spec: object) -> Obj:
    requests = {"cpu": "100m", "memory": "500Mi"}
    return {
        "metadata": {"name": f"pod-{number}", "namespace": "bench", "uid": str(number), "labels": {"color": "blue"}},
        "spec": {"containers": [{"name": "c", "image": "i", "resources": {"requests": requests}}], **spec},
        "status": {},
    }


BLUE = {"labelSelector": {"matchLabels": {"color": "blue"}}}


def _term(key: str) -> Obj:
    return {**BLUE, "topologyKey": key}


def basic(number: int) -> Obj:
    return pod(number)


def node_affinity(number: int) -> Obj:
    expression = {"key": ZONE, "operator": "In", "values": ["zone-0", "zone-1"]}
    terms = {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}
    return pod(number, affinity={"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}})


def pod_affinity(number: int) -> Obj:
    terms = {"requiredDuringSchedulingIgnoredDuringExecution": [_term(ZONE)]}
    return pod(number, affinity={"podAffinity": terms})


def pod_anti_affinity(number: int) -> Obj:
    terms = {"requiredDuringSchedulingIgnoredDuringExecution": [_term(HOSTNAME)]}
    return pod(number, affinity={"podAntiAffinity": terms})


def preferred_affinity(number: int) -> Obj:
    terms = {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1, "podAffinityTerm": _term(HOSTNAME)}]}
    return pod(number, affinity={"podAffinity": terms})


def preferred_anti_affinity(number: int) -> Obj:
    terms = {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1, "podAffinityTerm": _term(HOSTNAME)}]}
    return pod(number, affinity={"podAntiAffinity": terms})


def topology_spread(number: int) -> Obj:
    constraint = {"maxSkew": 5, "topologyKey": ZONE, "whenUnsatisfiable": "DoNotSchedule", **BLUE}
    return pod(number, topologySpreadConstraints=[constraint])


def preferred_spread(number: int) -> Obj:
    constraint = {"maxSkew": 5, "topologyKey": ZONE, "whenUnsatisfiable": "ScheduleAnyway", **BLUE}
    return pod(number, topologySpreadConstraints=[constraint])


# name -> (maker of pods, upstream's threshold in pods per second)
WORKLOADS: dict[str, tuple[Callable[[int], Obj], int]] = {
    "SchedulingBasic": (basic, 680),
    "SchedulingNodeAffinity": (node_affinity, 540),
    "SchedulingPodAffinity": (pod_affinity, 70),
    "SchedulingPodAntiAffinity": (pod_anti_affinity, 60),
    "SchedulingPreferredPodAffinity": (preferred_affinity, 140),
    "SchedulingPreferredPodAntiAffinity": (preferred_anti_affinity, 180),
    "TopologySpreading": (topology_spread, 460),
    "PreferredTopologySpreading": (preferred_spread, 340),
}


def rate(make: Callable[[int], Obj], nodes: int = NODES, pods: int = 2000) -> float:
    """Returns pods decided per second, with 1,000 pods placed before the clock starts."""
    engine = Engine()
    for number in range(nodes):
        engine.node(None, node(number), 0.0)
    place(engine, make, range(1000))
    started = time.perf_counter()
    place(engine, make, range(1000, 1000 + pods))
    return pods / (time.perf_counter() - started)


def place(engine: Engine, make: Callable[[int], Obj], numbers: range) -> None:
    """Lets pods appear, be decided and be reported as bound."""
    for number in numbers:
        engine.pod(None, make(number), 0.0)
    while (waiting := engine.pop(0.0)) is not None:
        decision = engine.decide(waiting, [])
        assert isinstance(decision, Bind), decision
        engine.bound(waiting)
        bound = {**waiting.obj, "spec": {**waiting.obj["spec"], "nodeName": decision.node}}
        engine.pod(waiting.obj, bound, 0.0)


def rows() -> Iterator[tuple[str, float, int]]:
    """Yields (workload, pods per second, upstream's threshold)."""
    for name, (make, threshold) in WORKLOADS.items():
        yield name, rate(make), threshold


if __name__ == "__main__":
    for name, measured, threshold in rows():
        print(f"{name:36} {measured:8.0f} pods/s   upstream's threshold {threshold}")
