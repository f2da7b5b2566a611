"""Keeps a node's network policies in the kernel. Follows pods only while there is any policy at all."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Sequence

from proa.client.informer import Informer, Informers
from proa.client.resources import NAMESPACES, NETWORKPOLICIES, PODS
from proa.meta.objects import Obj, labels_of, name_of
from proa.network import policy
from proa.network.tools import CommandError, run

log = logging.getLogger("proa.network")
_RETRY_SECONDS = 1.0


class Policies:
    """Enforces policies for the pods of one node, in this network namespace."""

    def __init__(self, informers: Informers, node_name: str, families: Sequence[str]) -> None:
        self._informers = informers
        self._node_name = node_name
        self._families = families
        self._policies: Informer = informers.informer(NETWORKPOLICIES)
        self._namespaces: Informer = informers.informer(NAMESPACES)
        self._pods: Informer | None = None
        self._written: list[str] = []
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._policies.add_handler(lambda old, new: self._wake.set())
        self._namespaces.add_handler(self._on_namespace)
        self._task = asyncio.create_task(self._run(), name="network policies")

    async def stop(self) -> None:
        """Stops following; the rules stay in force."""
        if self._task:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    def _on_namespace(self, old: Obj | None, new: Obj | None) -> None:
        if self._pods is not None and (old is None or new is None or labels_of(old) != labels_of(new)):
            self._wake.set()

    def _on_pod(self, old: Obj | None, new: Obj | None) -> None:
        if old is None or new is None or _facts(old) != _facts(new):
            self._wake.set()

    async def _run(self) -> None:
        await self._policies.wait_synced()
        await self._namespaces.wait_synced()
        while True:
            self._wake.clear()
            try:
                await self._sync()
            except CommandError as error:
                log.error("network policies: %s", error)
                await asyncio.sleep(_RETRY_SECONDS)
                continue
            await self._wake.wait()

    async def _sync(self) -> None:
        policies = self._policies.objects()
        if policies and self._pods is None:
            self._pods = self._informers.informer(PODS)
            self._pods.add_handler(self._on_pod)
            await self._pods.wait_synced()
            policies = self._policies.objects()
        world = policy.World(
            pods=self._pods.objects() if self._pods is not None and policies else [],
            namespaces={name_of(one): labels_of(one) for one in self._namespaces.objects()},
            policies=policies,
        )
        lines = [line for family in self._families for line in policy.table(world, self._node_name, family)]
        if lines != self._written:
            await run("nft", "-f", "-", text="\n".join(lines) + "\n")
            self._written = lines


def _facts(pod: Obj) -> tuple[object, ...]:
    """Returns what of a pod policies depend on."""
    status = pod.get("status") or {}
    return labels_of(pod), status.get("podIPs"), status.get("podIP"), status.get("phase")
