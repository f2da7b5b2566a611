"""The scheduler alone: decisions per second over 5,000 nodes, by workloads named after upstream's performance suite.

No API, no binding: events go into the engine and decisions come out, so this is the share of a pod's way that the
scheduler itself takes. Thresholds in the table are upstream's own for the same workloads on its CI machines.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator

import numpy as np

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
MIXED = (basic, pod_affinity, pod_anti_affinity, preferred_affinity, preferred_anti_affinity, topology_spread)


def rate(make: Callable[[int], Obj], nodes: int = NODES, pods: int = 2000) -> float:
    """Returns pods decided per second, with 1,000 pods placed before the clock starts."""
    engine = filled(nodes)
    place(engine, make, range(1000))
    return timed(pods, lambda: place(engine, make, range(1000, 1000 + pods)))


def filled(nodes: int) -> Engine:
    engine = Engine()
    for number in range(nodes):
        engine.node(None, node(number), 0.0)
    return engine


def timed(pods: int, work: Callable[[], None]) -> float:
    """Returns pods per second of this thread's own time: what else the machine does does not count."""
    started = time.process_time()
    work()
    return pods / (time.process_time() - started)


def place(engine: Engine, make: Callable[[int], Obj], numbers: range) -> None:
    """Lets pods appear, be decided and be reported as bound; victims leave at once."""
    for number in numbers:
        engine.pod(None, make(number), 0.0)
    decide_all(engine)


def decide_all(engine: Engine) -> None:
    clock = 0.0
    while (waiting := engine.pop(clock)) is not None:
        decision = engine.decide(waiting, [])
        if isinstance(decision, Bind):
            engine.bound(decision.pod)
            bound = {**waiting.obj, "spec": {**waiting.obj["spec"], "nodeName": decision.node}}
            engine.pod(waiting.obj, bound, clock)
            continue
        engine.failed(waiting.key, decision.plugins, clock)
        if decision.victims:
            engine.nominate(waiting, decision.nominated or "")
            for victim in decision.victims:
                engine.pod(victim.obj, None, clock)
            clock += 2.0  # its back-off is over


def sized(number: int, cpu: str, priority: int = 0) -> Obj:
    made = pod(number, priority=priority)
    made["spec"]["containers"][0]["resources"] = {"requests": {"cpu": cpu, "memory": "500Mi"}}
    return made


def preemption(nodes: int = 500) -> float:
    """As PreemptionBasic: nodes full of four unimportant pods each; each important pod takes the place of three."""
    engine = filled(nodes)
    place(engine, lambda number: sized(number, "900m"), range(4 * nodes))
    first = 4 * nodes
    return timed(nodes, lambda: place(engine, lambda number: sized(number, "3", 10), range(first, first + nodes)))


def unschedulable(pods: int = 2000) -> float:
    """As Unschedulable: 200 pods that fit nowhere wait while others are placed."""
    engine = filled(NODES)
    place(engine, lambda number: sized(number, "9"), range(200))
    return timed(pods, lambda: place(engine, basic, range(200, 200 + pods)))


def churn(pods: int = 2000) -> float:
    """As SchedulingWithMixedChurn: nodes and pods come and go while others are placed."""
    engine = filled(NODES)
    place(engine, basic, range(1000))

    def work() -> None:
        for number in range(1000, 1000 + pods):
            if number % 10 == 0:
                extra = node(NODES)
                engine.node(None, extra, 0.0)
                engine.node(extra, {**extra, "spec": {"unschedulable": True}}, 0.0)
                engine.node(extra, None, 0.0)
                hopeless = sized(10**6 + number, "9", 10)
                engine.pod(None, hopeless, 0.0)
                decide_all(engine)
                engine.pod(hopeless, None, 0.0)
            place(engine, basic, range(number, number + 1))

    return timed(pods, work)


def mixed(number: int) -> Obj:
    return MIXED[number % len(MIXED)](number)


def floor(pods: int = 2000) -> float:
    """Returns how often per second NumPy alone can find the emptiest of the nodes that have room, by two resources."""
    has = np.full((2, NODES), 4000, dtype=np.int64)
    used = np.zeros((2, NODES), dtype=np.int64)

    def work() -> None:
        for _ in range(pods):
            free = has - used - 100
            rows = np.flatnonzero((free >= 0).all(axis=0))
            used[:, rows[free.sum(axis=0)[rows].argmax()]] += 100

    return timed(pods, work)


# name -> (a run's pods per second, upstream's threshold or None)
RUNS: dict[str, tuple[Callable[[], float], int | None]] = {
    **{name: (lambda make=make: rate(make), threshold) for name, (make, threshold) in WORKLOADS.items()},
    "MixedSchedulingBasePod": (lambda: rate(mixed), None),
    "PreemptionBasic, 500 nodes": (preemption, None),
    "Unschedulable": (unschedulable, None),
    "SchedulingWithMixedChurn": (churn, None),
}
ROUNDS = 3


def rows() -> Iterator[tuple[str, float, float, int | None]]:
    """Yields (workload, pods per second, the floor's, upstream's threshold); medians."""
    for name, (run, threshold) in RUNS.items():
        bare = statistics.median(floor() for _ in range(ROUNDS))
        yield name, statistics.median(run() for _ in range(ROUNDS)), bare, threshold


if __name__ == "__main__":
    for name, measured, bare, threshold in rows():
        share = f"{measured / bare:.2f} of NumPy alone"
        print(f"{name:36} {measured:8.0f} pods/s   {share}   upstream's threshold {threshold or 'unknown'}")
