"""The service proxy of a node: follows services and endpoint slices, and keeps the kernel's rules as the plan says.

Changes are collected while a transaction runs and go out together in the next one, so a burst costs few transactions
and a single change goes out at once. After a failed transaction everything is written anew.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Mapping

from proa.client.informer import Informer, Informers
from proa.client.resources import ENDPOINTSLICES, NODES, SERVICES
from proa.meta.objects import Obj, key_of, labels_of, namespace_of, split_key
from proa.proxy import nft
from proa.proxy.health import HealthServers
from proa.proxy.plan import EMPTY, SERVICE_NAME_LABEL, NodeFacts, Share, service_share
from proa.proxy.ruleset import Ruleset

log = logging.getLogger("proa.proxy")
_BY_SERVICE = "service"
_RETRY_SECONDS = 1.0


class Proxy:
    """Serves this network namespace. `facts` describe the node; its zone follows the node's labels."""

    def __init__(self, informers: Informers, facts: NodeFacts, pod_ranges: Mapping[str, str]) -> None:
        self._services: Informer = informers.informer(SERVICES)
        self._slices: Informer = informers.informer(ENDPOINTSLICES)
        self._node: Informer = informers.informer(NODES)
        self._facts = facts
        self._rules = Ruleset(pod_ranges)
        self._dirty: set[str] = set()
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._health = HealthServers()
        self.synced = asyncio.Event()

    async def start(self) -> None:
        """Begins; `synced` is set once the first full set of rules is in the kernel."""
        self._slices.add_index(_BY_SERVICE, _service_of_slice)
        self._services.add_handler(self._on_service)
        self._slices.add_handler(self._on_slice)
        self._node.add_handler(self._on_node)
        self._task = asyncio.create_task(self._run(), name="proxy")

    async def stop(self) -> None:
        """Stops following; the rules stay, so that traffic goes on while the agent restarts."""
        if self._task:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        await self._health.close()

    def _on_service(self, old: Obj | None, new: Obj | None) -> None:
        self._mark(key_of(new or old or {}))

    def _on_slice(self, old: Obj | None, new: Obj | None) -> None:
        for one in (old, new):
            if one is not None:
                for key in _service_of_slice(one):
                    self._mark(key)

    def _on_node(self, old: Obj | None, new: Obj | None) -> None:
        if new is None or new["metadata"]["name"] != self._facts.name:
            return
        zone = labels_of(new).get("topology.kubernetes.io/zone", "")
        if zone != self._facts.zone:
            self._facts = NodeFacts(
                name=self._facts.name,
                addresses=self._facts.addresses,
                zone=zone,
                own_addresses=self._facts.own_addresses,
            )
            for service in self._services.objects():
                self._mark(key_of(service))

    def _mark(self, key: str) -> None:
        self._dirty.add(key)
        self._wake.set()

    async def _run(self) -> None:
        for informer in (self._services, self._slices, self._node):
            await informer.wait_synced()
        fresh = True
        while True:
            try:
                if fresh:
                    lines = self._rules.start()
                    self._dirty.update(key_of(one) for one in self._services.objects())
                else:
                    lines = []
                await self._sync(lines)
                fresh = False
                self.synced.set()
            except nft.NftError as error:
                log.error("nftables: %s; writing all rules anew", error)
                fresh = True
                await asyncio.sleep(_RETRY_SECONDS)
                continue
            await self._wake.wait()
            self._wake.clear()

    async def _sync(self, lines: list[str]) -> None:
        dirty, self._dirty = self._dirty, set()
        changes = {key: self._share(key) for key in dirty}
        before = {key: self._rules.shares.get(key, EMPTY) for key in changes}
        await nft.apply([*lines, *self._rules.replace(changes)])
        for key, share in changes.items():
            await self._forget_flows(before[key], share or EMPTY)
            await self._health.set(key, share.health_port if share else 0, share.local_endpoints if share else 0)

    def _share(self, key: str) -> Share | None:
        namespace, name = split_key(key)
        service = self._services.get(name, namespace)
        if service is None:
            return None
        share = service_share(service, self._slices.indexed(_BY_SERVICE, key), self._facts)
        return None if share == EMPTY else share

    async def _forget_flows(self, old: Share, new: Share) -> None:
        """Clears UDP flows to endpoints that are gone, and those that were refused before there were any."""
        for (address, port), endpoints in old.datagrams.items():
            for gone in endpoints - new.datagrams.get((address, port), frozenset()):
                await nft.forget_connections(address, port, gone)
        for (address, port), endpoints in new.datagrams.items():
            if endpoints and not old.datagrams.get((address, port)):
                await nft.forget_connections(address, port, "")


def _service_of_slice(endpoint_slice: Obj) -> tuple[str, ...]:
    name = labels_of(endpoint_slice).get(SERVICE_NAME_LABEL)
    return (f"{namespace_of(endpoint_slice)}/{name}",) if name else ()
