"""Checks every node every few seconds: leases and status, conditions, taints, pods of lost nodes."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from proa.client.interface import MERGE_PATCH
from proa.client.resources import LEASES, NODES, PODS
from proa.controllers.conditions import find
from proa.controllers.indexes import NODE_INDEX, by_node
from proa.controllers.nodelifecycle.plan import (
    EVICTIONS_PER_SECOND_MAX,
    Disruption,
    conditions,
    evicting,
    evictions_per_second,
    ready_status,
    silenced,
    taints,
    zone_of,
    zones,
)
from proa.controllers.pods import is_finished
from proa.controllers.runtime import Context, Controller, Result, ignore_absent
from proa.meta.errors import StatusError
from proa.meta.objects import Obj, is_deleted, name_of, namespace_of
from proa.util.clock import rfc3339

log = logging.getLogger(__name__)

LEASE_NAMESPACE = "kube-node-lease"
_STARTUP_GRACE_SECONDS = 60.0


@dataclass(slots=True)
class _Sign:
    """The last sign of life: what it was, and when (on our own clock) it was first seen."""

    signature: tuple[Any, ...]
    seconds: float
    ready: str
    reported: bool


class NodeLifecycleController(Controller):
    name = "node-lifecycle-controller"
    service_account = "node-controller"
    event_source = "node-controller"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._nodes = self.watch(NODES, relevant=_facts)
        self._leases = self.need(LEASES)
        self._pods = self.need(PODS)
        self._pods.add_index(NODE_INDEX, by_node)
        self._signs: dict[str, _Sign] = {}
        self._tainted_at: dict[str, float] = {}  # by zone, when a node was last tainted for eviction

    def background(self) -> Iterable[Callable[[], object]]:
        return (self._check_all,)

    async def _check_all(self) -> None:
        while True:
            present = set()
            for node in self._nodes.objects():
                present.add(name_of(node))
                if self._needs_a_look(node):
                    self.queue.add(name_of(node))
            for name in self._signs.keys() - present:
                del self._signs[name]
            await asyncio.sleep(self.context.options.node_check_seconds)

    def _needs_a_look(self, node: Obj) -> bool:
        self._observe(node)
        return self._is_silent(node) or (ready_status(node) != "True" and not evicting(node))

    def _observe(self, node: Obj) -> _Sign:
        """Notes a new sign of life: a renewed lease or a status of which the heartbeat has moved."""
        name = name_of(node)
        lease = self._leases.get(name, LEASE_NAMESPACE)
        heartbeats = tuple(one.get("lastHeartbeatTime") for one in conditions(node))
        signature = (((lease or {}).get("spec") or {}).get("renewTime"), heartbeats)
        sign = self._signs.get(name)
        if sign is None:
            reported = find(conditions(node), "Ready") is not None
            sign = self._signs[name] = _Sign(signature, self.clock.monotonic(), ready_status(node), reported)
        elif sign.signature != signature:
            sign.signature, sign.seconds = signature, self.clock.monotonic()
            sign.reported = sign.reported or find(conditions(node), "Ready") is not None
        return sign

    def _is_silent(self, node: Obj) -> bool:
        sign = self._observe(node)
        grace_seconds = self.context.options.node_grace_seconds if sign.reported else _STARTUP_GRACE_SECONDS
        return self.clock.monotonic() - sign.seconds > grace_seconds

    async def reconcile(self, key: str) -> Result | None:
        node = self._nodes.get(key)
        if node is None:
            self._signs.pop(key, None)
            return None
        sign = self._observe(node)
        if self._is_silent(node):
            changed = silenced(node, self.clock.now())
            if changed is not None:
                status = {**(node.get("status") or {}), "conditions": changed}
                node = await self.client.update(NODES, {**node, "status": status}, subresource="status")
        status_now = ready_status(node)
        if sign.ready == "True" and status_now != "True":
            self.events.event(node, "Normal", "NodeNotReady", f"Node {key} status is now: NodeNotReady")
        if status_now != "True":
            await self._mark_pods(key)
        sign.ready = status_now
        await self._taint(node)
        return None

    async def _taint(self, node: Obj) -> None:
        evict = ready_status(node) != "True" and not evicting(node) and self._may_evict(node)
        wanted = taints(node, self.clock.now(), evict=evict)
        if wanted is None:
            return
        patch = {"spec": {"taints": wanted}, "metadata": {"resourceVersion": node["metadata"]["resourceVersion"]}}
        await ignore_absent(self.client.patch(NODES, name_of(node), patch, patch_type=MERGE_PATCH))
        if evict:
            self._tainted_at[zone_of(node)] = self.clock.monotonic()

    def _may_evict(self, node: Obj) -> bool:
        since = self.clock.monotonic() - self._tainted_at.get(zone_of(node), -math.inf)
        if since < 1 / EVICTIONS_PER_SECOND_MAX:
            return False  # without a look at thousands of nodes
        found = zones(self._nodes.objects())
        zone = found[zone_of(node)]
        rate = evictions_per_second(zone, all(one.disruption is Disruption.FULL for one in found.values()))
        return rate > 0 and since >= 1 / rate

    async def _mark_pods(self, node: str) -> None:
        """Takes the pods of a node that is not ready out of service."""
        for pod in self._pods.indexed(NODE_INDEX, node):
            listed = (pod.get("status") or {}).get("conditions") or []
            ready = find(listed, "Ready")
            if ready is None or ready.get("status") != "True" or is_finished(pod) or is_deleted(pod):
                continue
            changed = [
                {**one, "status": "False", "lastTransitionTime": rfc3339(self.clock.now())} if one is ready else one
                for one in listed
            ]
            updated = {**pod, "status": {**pod["status"], "conditions": changed}}
            try:
                await self.client.update(PODS, updated, subresource="status")
            except StatusError as error:
                if error.code not in (404, 409):
                    raise
            else:
                self.events.event(pod, "Warning", "NodeNotReady", "Node is not ready")
            log.info("pod %s/%s is not ready: node %s is not", namespace_of(pod), name_of(pod), node)


def _facts(node: Obj) -> tuple[Any, ...]:
    """What taints and conditions depend on; heartbeats are looked at in rounds."""
    return (
        [(one.get("type"), one.get("status")) for one in conditions(node)],
        (node.get("spec") or {}).get("taints"),
        (node.get("spec") or {}).get("unschedulable"),
        zone_of(node),
    )
