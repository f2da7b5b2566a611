"""Keeps a node's network policies in the kernel. Follows pods only while there is any policy at all.

A pod that policies select is isolated before its first container starts, when the API does not tell its address yet:
the kubelet says what it is about to start (`before_start`) and waits for the rules.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Sequence

from proa.client.informer import Informer, Informers
from proa.client.resources import NAMESPACES, NETWORKPOLICIES, PODS
from proa.meta.objects import Obj, labels_of, name_of, namespace_of, uid_of
from proa.network import policy
from proa.network.tools import CommandError, run

log = logging.getLogger("proa.network")
_RETRY_SECONDS = 1.0
_SYNC_SECONDS_MAX = 10.0
_STARTING_SECONDS_MAX = 60.0  # how long a pod that the API does not show may be about to start


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
        self._starting: dict[str, tuple[Obj, float]] = {}  # by uid: pods with addresses that the API does not tell yet
        self._waiting: list[asyncio.Future[None]] = []  # for the next writing of the rules
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

    async def before_start(self, pod: Obj, addresses: Sequence[str]) -> None:
        """Returns once the rules that concern a pod of this node with these addresses are in force.

        Without such rules that is at once. The kubelet may ask again for each container.
        """
        if not self._policies.synced:
            # Where policies cannot be read at all, none is enforced: pods start nevertheless.
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._policies.wait_synced(), _SYNC_SECONDS_MAX)
        if not any(policy.selects(one, pod) for one in self._policies.objects(namespace_of(pod))):
            return
        loop = asyncio.get_running_loop()
        status = {**(pod.get("status") or {}), "podIPs": [{"ip": one} for one in addresses]}
        self._starting[uid_of(pod)] = ({**pod, "status": status}, loop.time())
        written: asyncio.Future[None] = loop.create_future()
        self._waiting.append(written)
        self._wake.set()
        await written

    def _known_pods(self) -> list[Obj]:
        """Returns the pods as the API tells them, but for those about to start with the addresses that they have."""
        if self._pods is None:
            return []
        pods = {uid_of(one): one for one in self._pods.objects()}
        now = asyncio.get_running_loop().time()
        for uid, (pod, since) in list(self._starting.items()):
            told = pods.get(uid)
            if (told is None and now - since > _STARTING_SECONDS_MAX) or (
                told and (told.get("status") or {}).get("podIPs")
            ):
                del self._starting[uid]
            else:
                pods[uid] = pod if told is None else {**told, "status": pod["status"]}
        return list(pods.values())

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
            waiting, self._waiting = self._waiting, []
            try:
                await self._sync()
            except CommandError as error:
                log.error("network policies: %s", error)
                self._waiting += waiting
                await asyncio.sleep(_RETRY_SECONDS)
                continue
            for one in waiting:
                if not one.done():
                    one.set_result(None)
            await self._wake.wait()

    async def _sync(self) -> None:
        policies = self._policies.objects()
        if policies and self._pods is None:
            self._pods = self._informers.informer(PODS)
            self._pods.add_handler(self._on_pod)
            await self._pods.wait_synced()
            policies = self._policies.objects()
        world = policy.World(
            pods=self._known_pods() if policies else [],
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
