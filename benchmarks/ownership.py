"""What managedFields cost where controllers write most: updates of a pod's status, with and without them.

`python -m benchmarks.ownership '{}'` is the process that is measured: an API server in memory, without a network, and
one pod whose status is written by turns to a server that keeps managedFields and to one that does not.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Iterator

from benchmarks.figures import Figure
from benchmarks.lab import Lab, module

ROUNDS = 10
UPDATES = 100
CONTAINERS = 2


def status_updates(lab: Lab) -> Iterator[Figure]:
    """Yields how much CPU time one update takes; the floor is the same without managedFields."""
    measured = module("benchmarks.ownership", {})
    yield Figure(
        what="update of a pod's status, in process",
        value=measured["tracked"],
        unit="µs",
        floor=measured["untracked"],
        floor_is="without managedFields",
    )


async def _measure() -> dict[str, float]:
    from proa.apiserver.app import ApiServer, Options
    from proa.client.interface import UserInfo
    from proa.client.local import LocalClient
    from proa.client.resources import PODS, SERVICEACCOUNTS
    from proa.meta.objects import Obj, copy_object

    clients = []
    for tracked in (True, False):
        server = ApiServer(Options())
        if not tracked:
            server.api.shared.manage_fields = None
        await server.start()
        client = LocalClient(server.api, UserInfo("benchmark", ("system:masters", "system:authenticated")))
        await client.create(SERVICEACCOUNTS, {"metadata": {"name": "default"}}, "default")
        await client.create(PODS, _pod(), "default")
        clients.append(client)

    async def updates(client: LocalClient, round_: int) -> float:
        obj: Obj = await client.get(PODS, "measured", "default")
        began = time.process_time()
        for number in range(UPDATES):
            new = copy_object(obj)
            new["status"] = _status(f"{round_}-{number}")
            obj = await client.update(PODS, new, subresource="status")
        return (time.process_time() - began) / UPDATES * 1e6

    best = [float("inf"), float("inf")]
    for round_ in range(ROUNDS):
        for place, client in enumerate(clients):
            best[place] = min(best[place], await updates(client, round_))
    return {"tracked": best[0], "untracked": best[1]}


def _pod() -> dict[str, object]:
    probe = {"httpGet": {"path": "/", "port": 80}}
    resources = {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"memory": "64Mi"}}
    containers = [
        {"name": f"c{number}", "image": "nginx", "resources": resources, "readinessProbe": probe}
        for number in range(CONTAINERS)
    ]
    return {"metadata": {"name": "measured", "labels": {"app": "web"}}, "spec": {"containers": containers}}


def _status(message: str) -> dict[str, object]:
    kinds = ("PodScheduled", "Initialized", "ContainersReady", "Ready")
    moment = "2026-01-01T00:00:00Z"
    conditions = [{"type": kind, "status": "True", "lastTransitionTime": moment, "message": message} for kind in kinds]
    state = {"running": {"startedAt": moment}}
    containers = [
        {"name": f"c{number}", "ready": True, "image": "nginx", "imageID": "nginx", "restartCount": 0, "state": state}
        for number in range(CONTAINERS)
    ]
    addresses = {"podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}], "hostIP": "10.0.0.2"}
    return {"phase": "Running", "conditions": conditions, "containerStatuses": containers, **addresses}


if __name__ == "__main__":
    json.loads(sys.argv[1])
    print(json.dumps(asyncio.run(_measure())))
