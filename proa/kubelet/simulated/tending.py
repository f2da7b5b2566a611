"""The nodes' own part: registration, leases, status, and the faults that users give them.

Leases are renewed all the time; a status is written when it changes and every few minutes, as a kubelet does. A node
that is silent (failed, hung, cut off) does neither, and its pods are left alone until it is back.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from proa.client.informer import Informer
from proa.client.interface import MERGE_PATCH, Client
from proa.client.resources import LEASES, NODES
from proa.client.workqueue import ShutDown, WorkQueue
from proa.kubelet.simulated.nodes import (
    SILENT,
    Group,
    NodeTemplate,
    check_fault,
    conditions,
    fault_of,
    lease,
    new_node,
    node_info,
    statuses,
    transitions,
)
from proa.kubelet.simulated.outages import FAIL, Outage
from proa.kubelet.simulated.telling import Telling
from proa.meta.errors import StatusError
from proa.meta.objects import Obj, name_of, resource_version_of, uid_of
from proa.util.clock import Clock, rfc3339_micro

log = logging.getLogger(__name__)

LEASE_NAMESPACE = "kube-node-lease"
LEASE_SECONDS = 40
# As upstream's nodeStatusReportFrequency; less often with thousands of nodes, since each write goes to every watcher.
STATUS_SECONDS = 300.0
STATUS_SECONDS_PER_NODE = 0.3
_OUTAGES_KEPT = 16
_WORKERS = 8
_AT_ONCE = 64


class Network(Protocol):
    """Who has which address; nodes count from 0."""

    def node(self, number: int) -> str: ...

    def part(self, number: int) -> str: ...


@dataclass(frozen=True, slots=True)
class _Kind:
    """What a node is made from, and its number among those of its kind."""

    template: NodeTemplate
    number: int


class Tending:
    """Keeps the Node objects of `groups`; `back` is called with the nodes that are heard again, for their pods."""

    def __init__(
        self,
        client: Client,
        nodes: Informer,
        clock: Clock,
        groups: Sequence[Group],
        network: Network,
        telling: Telling,
        back: Callable[[set[str]], None],
    ) -> None:
        self._client = client
        self._nodes = nodes
        self._clock = clock
        self._network = network
        self._telling = telling
        self._back = back
        self.numbers: dict[str, int] = {}
        self._kinds: dict[str, _Kind] = {}
        for group in groups:
            for number, name in enumerate(group.names()):
                self.numbers[name] = len(self.numbers)
                self._kinds[name] = _Kind(group.template, number)
        self._annotated: dict[str, str] = {}  # what a node's annotation said last
        self._faults: dict[str, str] = {}
        self._outages: dict[str, tuple[Outage, ...]] = {}
        self._heard_again: set[str] = set()
        self._status_seconds = max(STATUS_SECONDS, len(self.numbers) * STATUS_SECONDS_PER_NODE)
        self._status_due: dict[str, float] = {}
        self._written: dict[str, int] = {}  # the revisions of statuses of which the watch has not told yet
        self._queue: WorkQueue[str] = WorkQueue("simulated nodes")
        self._tasks: list[asyncio.Task[None]] = []

    # ------------------------------------------------------------ life

    async def start(self) -> None:
        """Registers the nodes; returns when all exist."""
        await self._nodes.wait_synced()
        for name in self.numbers:
            node = self._nodes.get(name)
            if node is not None:
                self._heed(name, node)
        await everywhere(self._register, self.numbers)
        now, count = self._clock.monotonic(), max(1, len(self.numbers))
        for name, number in self.numbers.items():
            self._status_due[name] = now + self._status_seconds * (1 + number / count)
        self._nodes.add_handler(self._node_changed)
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._work(), name="simulated nodes") for _ in range(_WORKERS)]

    async def stop(self) -> None:
        self._queue.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _register(self, name: str) -> None:
        number, kind, now = self.numbers[name], self._kinds[name], self._clock.now()
        node = new_node(name, kind.number, kind.template, self._network.node(number), self._network.part(number), now)
        try:
            node = await self._client.create(NODES, node)
        except StatusError as error:
            if error.code != 409:
                raise
            if self.is_silent(name):
                return
            await self._client.patch(NODES, name, {"status": node["status"]}, subresource="status")
            node = self._nodes.get(name) or node
        self._telling.about_node(name, "Normal", "Starting", "Starting kubelet.", of_start=True)
        self._tell_transitions(name, (), node["status"]["conditions"], of_start=True)
        try:
            await self._client.create(LEASES, self._lease(name, node), LEASE_NAMESPACE)
        except StatusError as error:
            if error.code != 409:
                raise
            await self._renew_lease(name)

    # ------------------------------------------------------------ faults

    def is_silent(self, name: str) -> bool:
        return self._faults.get(name) in SILENT

    def outages(self, name: str) -> Sequence[Outage]:
        """Returns what silenced the node so far."""
        return self._outages.get(name, ())

    def fault(self, name: str, kind: str) -> None:
        """Gives a node a fault (one of FAULTS), or takes it away (empty). Raises ValueError for what is neither."""
        check_fault(kind)
        before = self._faults.get(name, "")
        if kind == before:
            return
        now = self._clock.now().timestamp()
        past = self._outages.get(name, ())
        if before in SILENT:
            past = (*past[:-1], replace(past[-1], end=now))
        if kind in SILENT:
            past = (*past, Outage(kind, now))
        if past:
            self._outages[name] = past[-_OUTAGES_KEPT:]
        if kind:
            self._faults[name] = kind
        else:
            del self._faults[name]
        if kind in SILENT:
            return
        if before == FAIL:
            boot = node_info(name, self._boots(name))["bootID"]
            self._telling.about_node(name, "Normal", "Starting", "Starting kubelet.")
            text = f"Node {name} has been rebooted, boot id: {boot}"
            self._telling.about_node(name, "Warning", "Rebooted", text)
        self._queue.add(name)
        if before in SILENT:
            if not self._heard_again:
                asyncio.get_running_loop().call_soon(self._tell_back)
            self._heard_again.add(name)

    def _tell_back(self) -> None:
        """Thousands of nodes may be back at once: their pods are gone through once."""
        names, self._heard_again = self._heard_again, set()
        self._back(names)

    def _boots(self, name: str) -> int:
        return sum(one.kind == FAIL for one in self.outages(name))

    def _heed(self, name: str, node: Obj) -> None:
        """Does what the node's annotation says, when it says something new."""
        wanted = fault_of(node)
        if wanted == self._annotated.get(name, ""):
            return
        self._annotated[name] = wanted
        try:
            self.fault(name, wanted)
        except ValueError as error:
            self._telling.about_node(name, "Warning", "InvalidFault", f"annotation proa.dev/fault: {error}")

    def _node_changed(self, old: Obj | None, new: Obj | None) -> None:
        if new is None or name_of(new) not in self.numbers:
            return
        name = name_of(new)
        self._heed(name, new)
        # Somebody who has not heard of the node in time says that it is Unknown: it is not. What it looked like before
        # its status was written says nothing.
        if self.is_silent(name) or self._is_shown(name, new):
            self._written.pop(name, None)
        elif int(resource_version_of(new) or 0) >= self._written.get(name, 0):
            self._queue.add(name)

    def _is_shown(self, name: str, node: Obj) -> bool:
        shown = {one.get("type"): one.get("status") for one in (node.get("status") or {}).get("conditions") or ()}
        return all(shown.get(kind) == status for kind, status in statuses(self._faults.get(name, "")).items())

    # ------------------------------------------------------------ leases and status

    async def renew(self, name: str) -> None:
        """Renews a node's lease, and its status if that is due."""
        if self.is_silent(name):
            return
        await self._renew_lease(name)
        if self._clock.monotonic() >= self._status_due[name]:
            await self._write_status(name)

    def _lease(self, name: str, node: Obj | None) -> Obj:
        stamp = rfc3339_micro(self._clock.now())
        return lease(name, uid_of(node) if node else "", LEASE_NAMESPACE, LEASE_SECONDS, stamp)

    async def _renew_lease(self, name: str) -> None:
        patch = {"spec": self._lease(name, None)["spec"]}
        try:
            await self._client.patch(LEASES, name, patch, LEASE_NAMESPACE, patch_type=MERGE_PATCH)
        except StatusError as error:
            node = self._nodes.get(name)
            if error.code != 404 or node is None:
                raise
            await self._client.create(LEASES, self._lease(name, node), LEASE_NAMESPACE)

    async def _write_status(self, name: str) -> None:
        node = self._nodes.get(name)
        if node is None:
            return  # deleted: as with upstream's kubelet, it does not come back by itself
        before = (node.get("status") or {}).get("conditions") or ()
        after = conditions(self._faults.get(name, ""), before, self._clock.now())
        status: Obj = {"conditions": after}
        boots = self._boots(name)
        if boots:
            status["nodeInfo"] = node_info(name, boots)
        written = await self._client.patch(NODES, name, {"status": status}, subresource="status")
        self._written[name] = int(resource_version_of(written) or 0)
        self._status_due[name] = self._clock.monotonic() + self._status_seconds
        self._tell_transitions(name, before, after)

    def _tell_transitions(
        self, name: str, before: Sequence[Obj], after: Sequence[Obj], *, of_start: bool = False
    ) -> None:
        for reason in transitions(before, after):
            text = f"Node {name} status is now: {reason}"
            self._telling.about_node(name, "Normal", reason, text, of_start=of_start)

    async def _work(self) -> None:
        while True:
            try:
                name = await self._queue.get()
            except ShutDown:
                return
            try:
                if not self.is_silent(name):
                    await self._renew_lease(name)
                    await self._write_status(name)
                self._queue.forget(name)
            except (StatusError, OSError, EOFError) as error:
                log.debug("simulated node %s: %s", name, error)
                if not (isinstance(error, StatusError) and error.code == 404):
                    self._queue.add_rate_limited(name)
            finally:
                self._queue.done(name)


async def everywhere(action: Callable[[str], Awaitable[None]], names: Iterable[str]) -> None:
    """Does something for each name, many at once."""
    waiting = iter(names)

    async def some() -> None:
        for name in waiting:
            await action(name)

    await asyncio.gather(*(some() for _ in range(_AT_ONCE)))
