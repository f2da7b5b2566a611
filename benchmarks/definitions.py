"""Hundreds of custom resource definitions: what they add to start and memory, and whether the last costs as the first.

`python -m benchmarks.definitions ARGUMENTS` is the process that is measured: an API server over SQLite, without a
network, that creates definitions, or finds them at start.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Iterator
from typing import Any

from benchmarks.figures import Figure
from benchmarks.lab import Lab, module

COUNT = 500
GROUPS = 50
KIBIBYTES = 20
_PART = 100
_PAGE_KIB = os.sysconf("SC_PAGE_SIZE") // 1024


def growth(lab: Lab) -> Iterator[Figure]:
    store = f"sqlite:{lab.path / 'definitions.db'}"
    made = module("benchmarks.definitions", {"store": store, "create": COUNT})
    found = module("benchmarks.definitions", {"store": store, "create": 0})
    what = f"{COUNT} definitions of {KIBIBYTES} KiB"
    size = COUNT * KIBIBYTES / 1024
    yield Figure(
        what=f"{what}: start", value=found["start"], unit="s", floor=made["start"], floor_is="without definitions"
    )
    yield Figure(
        what=f"{what}: resident memory added",
        value=(found["memory"] - made["memory"]) / 1024,
        unit="MiB",
        floor=size,
        floor_is="their bytes",
    )
    yield Figure(
        what=f"creation of one, after {COUNT - _PART}",
        value=made["last"],
        unit="ms",
        floor=made["first"],
        floor_is=f"of the first {_PART}",
    )
    yield Figure(
        what=f"{what}: OpenAPI v2 after one change",
        value=made["again"],
        unit="ms",
        floor=made["whole"],
        floor_is="the first time",
    )


def main(arguments: dict[str, Any]) -> dict[str, float]:
    return asyncio.run(_measure(arguments["store"], arguments["create"]))


async def _measure(store: str, create: int) -> dict[str, float]:
    from proa.apiserver.app import ApiServer, Options
    from proa.client.interface import UserInfo
    from proa.client.local import LocalClient

    server = ApiServer(Options(store=store))
    begun = time.perf_counter()
    await server.start()
    measured = {"start": time.perf_counter() - begun, "memory": _resident_kib()}
    client = LocalClient(server.api, UserInfo("bench", ("system:masters",)))
    for first in range(0, create, _PART):
        begun = time.perf_counter()
        for number in range(first, first + _PART):
            await _create(server, client, number)
        each = 1000 * (time.perf_counter() - begun) / _PART
        measured.setdefault("first", each)
        measured["last"] = each
    if create:
        measured["whole"] = await _openapi(server)
        await _create(server, client, create)
        measured["again"] = await _openapi(server)
    await server.stop()
    return measured


async def _create(server: Any, client: Any, number: int) -> None:
    """Creates a definition and waits until its resource is served."""
    from proa.apiserver.crd.host import DEFINITIONS
    from proa.meta.gvk import GVR

    group = f"g{number % GROUPS}.example.com"
    fields = {f"field{one}": {"type": "string", "description": "x" * 150} for one in range(KIBIBYTES * 1024 // 205)}
    schema = {"type": "object", "properties": {"spec": {"type": "object", "properties": fields}}}
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    names = {"plural": f"things{number}", "kind": f"Thing{number}"}
    spec = {"group": group, "scope": "Namespaced", "names": names, "versions": [version]}
    await client.create(DEFINITIONS, {"metadata": {"name": f"things{number}.{group}"}, "spec": spec})
    while server.resources.find(GVR(group, "v1", f"things{number}")) is None:
        await asyncio.sleep(0)


async def _openapi(server: Any) -> float:
    """Returns the milliseconds of making the v2 document."""
    from proa.apiserver.openapi import PartsV2

    parts = server.__dict__.setdefault("_bench_parts", PartsV2())
    builtin = [one for one in server.resources.builtin() if one.schema]
    begun = time.perf_counter()
    await parts.json(builtin, [one for one in server.resources.all() if one.custom])
    return 1000 * (time.perf_counter() - begun)


def _resident_kib() -> float:
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * _PAGE_KIB


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
