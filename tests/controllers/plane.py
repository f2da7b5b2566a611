"""A control plane for tests: API server and controllers in this process, memory store, virtual time, no nodes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

from proa.apiserver.app import ApiServer
from proa.apiserver.app import Options as ServerOptions
from proa.client.informer import SharedInformers
from proa.client.interface import MERGE_PATCH, UserInfo
from proa.client.local import LocalClient
from proa.client.resources import NAMESPACES, PODS, SERVICEACCOUNTS
from proa.controllers.manager import Manager, service_account
from proa.controllers.runtime import Options
from proa.meta.errors import StatusError
from proa.meta.gvk import GVR
from proa.meta.objects import Obj
from proa.util.clock import rfc3339
from proa.util.virtualtime import LoopClock, run_virtual

ADMIN = UserInfo("admin", ("system:masters", "system:authenticated"))


# Most tests are about controllers, not about what their roles allow; `roles` puts the real ones to work.
MANAGER = UserInfo("system:kube-controller-manager", ("system:authenticated",))


class Plane:
    """What tests do: act as an administrator, wait for what should become true, play the kubelet."""

    def __init__(self, client: LocalClient, clock: LoopClock, manager: Manager) -> None:
        self.client = client
        self.clock = clock
        self.manager = manager

    async def until(self, what: Callable[[], Awaitable[Any]], seconds: float = 60) -> Any:
        """Asks again, in virtual time, until the answer is true; returns it. StatusErrors count as no."""
        deadline = self.clock.monotonic() + seconds
        while True:
            try:
                answer = await what()
            except StatusError:
                answer = None
            if answer:
                return answer
            assert self.clock.monotonic() < deadline, f"not within {seconds} s"
            await asyncio.sleep(0.05)

    async def gone(self, resource: GVR, name: str, namespace: str = "ns", seconds: float = 60) -> None:
        async def absent() -> bool:
            try:
                await self.client.get(resource, name, namespace)
            except StatusError as error:
                return error.code == 404
            return False

        await self.until(absent, seconds)

    async def names(self, resource: GVR, namespace: str = "ns") -> list[str]:
        return sorted(one["metadata"]["name"] for one in (await self.client.list(resource, namespace)).items)

    async def patch(self, resource: GVR, name: str, patch: Obj, namespace: str = "ns", subresource: str = "") -> Obj:
        return await self.client.patch(
            resource, name, patch, namespace, patch_type=MERGE_PATCH, subresource=subresource
        )

    async def run_pod(self, pod: Obj, *, ready: bool = True, ip: str = "", node: str = "") -> None:
        """Plays scheduler and kubelet: the pod runs and is ready."""
        meta = pod["metadata"]
        if node:
            binding = {
                "apiVersion": "v1",
                "kind": "Binding",
                "metadata": {"name": meta["name"], "namespace": meta["namespace"]},
                "target": {"apiVersion": "v1", "kind": "Node", "name": node},
            }
            await self.client.create(PODS, binding, meta["namespace"], name=meta["name"], subresource="binding")
        status: Obj = {
            "phase": "Running",
            "startTime": rfc3339(self.clock.now()),
            "conditions": [
                {
                    "type": "Ready",
                    "status": "True" if ready else "False",
                    "lastTransitionTime": rfc3339(self.clock.now()),
                }
            ],
        }
        if ip:
            status |= {"podIP": ip, "podIPs": [{"ip": ip}]}
        await self.patch(PODS, meta["name"], {"status": status}, meta["namespace"], "status")

    async def run_pods(self, namespace: str = "ns") -> None:
        """Makes every pending pod run; ends pods that are being deleted."""
        for pod in (await self.client.list(PODS, namespace)).items:
            if (pod.get("status") or {}).get("phase") == "Pending" and not pod["metadata"].get("deletionTimestamp"):
                await self.run_pod(pod)


@asynccontextmanager
async def plane(
    only: Iterable[str] | None = None,
    options: Options | None = None,
    namespaces: Iterable[str] = ("ns",),
    roles: bool = True,
    **more: Any,
) -> AsyncIterator[Plane]:
    clock = LoopClock(asyncio.get_running_loop())
    server = ApiServer(ServerOptions(advertise_address="192.0.2.1"), clock)
    await server.start()
    client = LocalClient(server.api, ADMIN)
    for name in namespaces:
        await client.create(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
        account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}}
        await client.create(SERVICEACCOUNTS, account, name)
    informers = SharedInformers(LocalClient(server.api, MANAGER if roles else ADMIN))
    manager = Manager(
        informers,
        clock,
        lambda name: LocalClient(server.api, service_account(name) if roles else ADMIN),
        options,
        only=only,
        **more,
    )
    await manager.start()
    try:
        yield Plane(client, clock, manager)
    finally:
        await manager.stop()
        await informers.stop()
        await server.stop()


def run(test: Callable[[], Any]) -> None:
    """Runs a test's coroutine function in virtual time."""
    run_virtual(test())
