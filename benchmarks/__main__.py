"""`python -m benchmarks [NAME…]`: takes the measures named (all but the long ones by default), prints a table."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator

from benchmarks import api, cel, definitions, nodes, ownership, pod_cost, proxy, scale, scheduling, simulated
from benchmarks.figures import Figure, table
from benchmarks.lab import ROOT, Lab

# Upstream's suite has other workloads too; DESIGN budgets 1,000 for the basic one and 300 for the rest.
_SCHEDULING_BUDGETS = {"SchedulingBasic": 1000, "SchedulingNodeAffinity": 1000}


def scheduler(lab: Lab) -> Iterator[Figure]:
    for name, measured, bare, threshold in scheduling.rows():
        budget = _SCHEDULING_BUDGETS.get(name, 300)
        yield Figure(
            what=f"scheduler alone, {scheduling.NODES:,} nodes: {name}",
            value=measured,
            unit="pods/s",
            floor=bare,
            floor_is="NumPy alone",
            budget=budget,
            upstream=threshold,
        )


# In this order: what looks at an undisturbed cluster comes before what leaves traces in one.
MEASURES: dict[str, Callable[[Lab], Iterator[Figure]]] = {
    "start": nodes.start,
    "memory": nodes.memory,
    "idle": nodes.idle,
    "pod-start": nodes.pods,
    "reads": api.reads,
    "creates": api.creates,
    "fan-out": api.fan_out,
    "idle-watch": api.idle_watches,
    "stall": api.stall,
    "pods": simulated.pods,
    "pod-cost": pod_cost.costs,
    "scheduler": scheduler,
    "definitions": definitions.growth,
    "cel": cel.rules,
    "managed-fields": ownership.status_updates,
    "proxy": proxy.sync,
    "scale": scale.rates,
    "scale-workloads": scale.workloads,
    "scale-full": scale.full,
}
# Minutes each, on thousands of nodes: taken when they are named.
LONG = {"scale", "scale-workloads", "scale-full"}


def main(names: list[str]) -> int:
    if unknown := set(names) - set(MEASURES):
        print(f"no measure is called {', '.join(sorted(unknown))}; there are: {', '.join(MEASURES)}", file=sys.stderr)
        return 2
    if os.geteuid() != 0:
        print("measures make clusters and network namespaces: run as root", file=sys.stderr)
        return 1
    os.chdir(ROOT)
    # Python would compile every module anew at every start, which no installation does.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    lab, figures, failures = Lab(), [], 0
    try:
        for name in [one for one in MEASURES if (one in names if names else one not in LONG)]:
            begun = time.monotonic()
            print(f"{name} … ", end="", file=sys.stderr, flush=True)
            try:
                figures += list(MEASURES[name](lab))
                print(f"{time.monotonic() - begun:.0f} s", file=sys.stderr)
            except (RuntimeError, OSError) as error:
                failures += 1
                print(f"failed: {error}", file=sys.stderr)
    finally:
        lab.close()
    print(table(figures))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
