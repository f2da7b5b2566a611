"""The service proxy in a network namespace of its own: 10,000 services from nothing, then one change."""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping

from benchmarks.figures import Figure
from benchmarks.lab import Lab, module
from proa.meta.objects import Obj
from proa.proxy import nft
from proa.proxy.plan import NodeFacts, Share, service_share
from proa.proxy.ruleset import Ruleset

SERVICES = 10_000
ROUNDS = 3
CHANGES = 15
NODE = NodeFacts(name="node-1", addresses=("10.213.0.2",))


def sync(lab: Lab) -> Iterator[Figure]:
    name = f"bench-{uuid.uuid4().hex[:6]}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        inside = ("nsenter", f"--net=/run/netns/{name}", "--")
        found = module("benchmarks.proxy", {"rounds": ROUNDS, "changes": CHANGES}, *inside)
    finally:
        subprocess.run(["ip", "netns", "delete", name], check=False)
    for what, kind, unit, budget in (
        (f"proxy: full sync of {SERVICES:,} services", "full", "s", 1.0),
        ("proxy: one change", "change", "ms", 10.0),
    ):
        yield Figure(
            what=what, value=found[kind], unit=unit, floor=found[f"{kind}_nft"], floor_is="nft alone", budget=budget
        )


def service(number: int) -> Obj:
    address = f"10.96.{number >> 8}.{number & 255}"
    spec = {"clusterIP": address, "clusterIPs": [address], "ports": [{"port": 80, "protocol": "TCP"}]}
    return {"metadata": {"name": f"s{number}", "namespace": "default"}, "spec": spec, "status": {}}


def slice_of(number: int, *last_bytes: int) -> Obj:
    endpoints = [
        {"addresses": [f"10.244.{number & 127}.{last}"], "nodeName": "node-1", "conditions": {"ready": True}}
        for last in last_bytes
    ]
    meta = {"name": f"s{number}-x", "namespace": "default", "labels": {"kubernetes.io/service-name": f"s{number}"}}
    ports = [{"name": "", "port": 8080, "protocol": "TCP"}]
    return {"metadata": meta, "addressType": "IPv4", "ports": ports, "endpoints": endpoints}


def share(number: int, *last_bytes: int) -> Share:
    return service_share(service(number), [slice_of(number, *last_bytes)], NODE)


async def measure(rounds: int, changes: int) -> dict[str, float]:
    """Returns medians: `full` in seconds, `change` in milliseconds, and of each the part that is nft's own."""
    seconds: dict[str, list[float]] = {"full": [], "full_nft": [], "change": [], "change_nft": []}

    async def timed(kind: str, rules: Ruleset, shares: Mapping[str, tuple[int, ...]], *, fresh: bool = False) -> None:
        begun = time.perf_counter()
        changes = {f"s{number}": share(int(number), *last_bytes) for number, last_bytes in shares.items()}
        lines = [*(rules.start() if fresh else []), *rules.replace(changes)]
        planned = time.perf_counter()
        await nft.apply(lines)
        ended = time.perf_counter()
        seconds[kind].append(ended - begun)
        seconds[f"{kind}_nft"].append(ended - planned)

    everything = {str(number): (5, 6) for number in range(SERVICES)}
    rules = Ruleset({})
    for _ in range(rounds):
        rules = Ruleset({"ip": "10.244.0.0/16"})
        await timed("full", rules, everything, fresh=True)
    for turn in range(changes):
        await timed("change", rules, {"77": (5, 7 + turn)})
    medians = {kind: statistics.median(values) for kind, values in seconds.items()}
    return {kind: value * (1000 if kind.startswith("change") else 1) for kind, value in medians.items()}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(measure(**json.loads(sys.argv[1])))))
