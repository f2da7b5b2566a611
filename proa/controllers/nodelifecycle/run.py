"""Hears nodes by their leases and status, and looks every few seconds who has fallen silent: conditions, taints, pods
of lost nodes.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from proa.client.interface import MERGE_PATCH
from proa.client.resources import LEASES, NODES, PODS
from proa.controllers.conditions import find
from proa.controllers.indexes import NODE_INDEX, by_node
from proa.controllers.nodelifecycle.plan import (
    Census,
    Rates,
    conditions,
    evicting,
    evictions_per_second,
    ready_status,
    silenced,
    taints,
    zone_of,
)
from proa.controllers.pods import is_finished
from proa.controllers.runtime import Context, Controller, Result, ignore_absent
from proa.meta.errors import StatusError
from proa.meta.objects import Obj, is_deleted, name_of, namespace_of
from proa.util.clock import Clock, rfc3339

log = logging.getLogger(__name__)

LEASE_NAMESPACE = "kube-node-lease"
# In a large cluster an event for each node, at every start of ours, would be news to nobody.
_GREETED_MAX = 100
_STARTUP_GRACE_SECONDS = 60.0


@dataclass(slots=True)
class _Sign:
    """A node's last sign of life (`seconds` of our own watching time) and what was known of it then.

    `settled`: it has been silent since, all that follows is done.
    """

    seconds: float
    ready: str
    reported: bool
    settled: bool = False


class _WatchingTime:
    """Seconds for which this process could watch. Held up (starved, stopped, its event loop busy) it sees no sign of
    life, which says nothing about the nodes: such spans do not count.
    """

    def __init__(self, clock: Clock, gap_seconds_max: float) -> None:
        self._clock = clock
        self._gap_seconds_max = gap_seconds_max
        self._seconds = 0.0
        self._looked_at = clock.monotonic()

    def look(self) -> float:
        """Returns the seconds until now; to be asked more often than every `gap_seconds_max`."""
        now = self._clock.monotonic()
        self._seconds += min(now - self._looked_at, self._gap_seconds_max)
        self._looked_at = now
        return self._seconds


class NodeLifecycleController(Controller):
    name = "node-lifecycle-controller"
    service_account = "node-controller"
    event_source = "node-controller"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        # Oldest sign first: a round looks at those that may be silent, and at no other.
        self._signs: OrderedDict[str, _Sign] = OrderedDict()
        self._time = _WatchingTime(self.clock, 2 * context.options.node_check_seconds)
        options = context.options
        self._census = Census(options.unhealthy_zone_share)
        self._rates = Rates(
            options.node_evictions_per_second, options.node_secondary_evictions_per_second, options.large_cluster_nodes
        )
        self._waiting: dict[str, dict[str, None]] = {}  # zone -> nodes that are not ready and not tainted for it yet
        self._all_lost = False
        self._tainted_at: dict[str, float] = {}  # by zone, when a node was last tainted for eviction
        self._nodes = self.need(NODES)
        self._nodes.add_handler(self._node_changed)
        self.watch(NODES, relevant=_facts)
        self._leases = self.need(LEASES)
        self._leases.add_handler(self._lease_changed)
        self._pods = self.need(PODS)
        self._pods.add_index(NODE_INDEX, by_node)

    def background(self) -> Iterable[Callable[[], object]]:
        return (self._check_all,)

    # ------------------------------------------------------------ what is seen

    def _lease_changed(self, old: Obj | None, new: Obj | None) -> None:
        if new is None or namespace_of(new) != LEASE_NAMESPACE:
            return
        if old is None or _renewed_at(old) != _renewed_at(new):
            self._heard(name_of(new))

    def _node_changed(self, old: Obj | None, new: Obj | None) -> None:
        self._census.move(old, new)
        node = new or old or {}
        name, zone = name_of(node), zone_of(node)
        if old is not None:
            self._waiting.get(zone_of(old), {}).pop(name, None)
        if new is None:
            self._signs.pop(name, None)
            text = f"Node {name} event: Removing Node {name} from Controller"
            self.events.event(node, "Normal", "RemovingNode", text)
            return
        if old is None and len(self._nodes) <= _GREETED_MAX:
            text = f"Node {name} event: Registered Node {name} in Controller"
            self.events.event(new, "Normal", "RegisteredNode", text)
        if ready_status(new) != "True" and not evicting(new):
            self._waiting.setdefault(zone, {})[name] = None
        sign = self._signs.get(name)
        if sign is None:
            reported = find(conditions(new), "Ready") is not None
            self._signs[name] = _Sign(self._time.look(), ready_status(new), reported)
            return
        sign.reported = sign.reported or find(conditions(new), "Ready") is not None
        sign.settled = False
        if old is not None and _heartbeats(old) != _heartbeats(new):
            self._heard(name)

    def _heard(self, name: str) -> None:
        sign = self._signs.get(name)
        if sign is not None:
            sign.seconds, sign.settled = self._time.look(), False
            self._signs.move_to_end(name)

    def _is_silent(self, sign: _Sign) -> bool:
        grace_seconds = self.context.options.node_grace_seconds if sign.reported else _STARTUP_GRACE_SECONDS
        return self._time.look() - sign.seconds > grace_seconds

    # ------------------------------------------------------------ rounds

    async def _check_all(self) -> None:
        while True:
            self._check()
            await asyncio.sleep(self.context.options.node_check_seconds)

    def _check(self) -> None:
        """One round: queues whom nobody has heard of for too long, and who is next to be given up in each zone."""
        seconds = self._time.look()
        shortest = min(self.context.options.node_grace_seconds, _STARTUP_GRACE_SECONDS)
        for name, sign in self._signs.items():
            if seconds - sign.seconds <= shortest:
                break
            if not sign.settled and self._is_silent(sign):
                self.queue.add(name)
        self._judge_all(seconds)
        if self._all_lost:
            return
        for zone, names in self._waiting.items():
            if names and self._may_evict(zone):
                self.queue.add(next(iter(names)))

    def _judge_all(self, seconds: float) -> None:
        """When every node is lost it is rather we who are cut off: nobody is given up, and who was is taken back. Once
        one is heard again all of them start anew.
        """
        lost = self._census.all_lost()
        if lost and not self._all_lost:
            log.warning("no node is ready any more: none of their pods is moved")
            for node in self._nodes.objects():
                if evicting(node):
                    self.queue.add(name_of(node))
        elif self._all_lost and not lost:
            for sign in self._signs.values():
                sign.seconds = max(sign.seconds, seconds)
            self._tainted_at.clear()
        self._all_lost = lost

    async def reconcile(self, key: str) -> Result | None:
        node, sign = self._nodes.get(key), self._signs.get(key)
        if node is None or sign is None:
            return None
        silent, fell_silent = self._is_silent(sign), False
        if silent:
            changed = silenced(node, self.clock.now())
            if changed is not None:
                fell_silent = True
                status = {**(node.get("status") or {}), "conditions": changed}
                node = await self.client.update(NODES, {**node, "status": status}, subresource="status")
        status_now = ready_status(node)
        if sign.ready == "True" and status_now != "True":
            self.events.event(node, "Normal", "NodeNotReady", f"Node {key} status is now: NodeNotReady")
        if status_now != "True":
            await self._mark_pods(key)
        sign.ready = status_now
        # How many fell silent together is known only once all of them were looked at: the next round decides.
        await self._taint(node, now=not fell_silent)
        sign.settled = silent and self._is_silent(sign)
        return None

    async def _taint(self, node: Obj, *, now: bool) -> None:
        """`now` false: a node that has no eviction taint does not get one yet."""
        zone = zone_of(node)
        spare = self._all_lost and self._census.all_lost()
        evict = now and not spare and ready_status(node) != "True" and not evicting(node) and self._may_evict(zone)
        wanted = taints(node, self.clock.now(), evict=evict, spare=spare)
        if wanted is None:
            return
        before = self._tainted_at.get(zone, -math.inf)
        if evict:
            self._tainted_at[zone] = self.clock.monotonic()  # before others ask, who work at the same time
        patch = {"spec": {"taints": wanted}, "metadata": {"resourceVersion": node["metadata"]["resourceVersion"]}}
        try:
            await ignore_absent(self.client.patch(NODES, name_of(node), patch, patch_type=MERGE_PATCH))
        except BaseException:
            if evict:
                self._tainted_at[zone] = before
            raise

    def _may_evict(self, zone: str) -> bool:
        since = self.clock.monotonic() - self._tainted_at.get(zone, -math.inf)
        rate = evictions_per_second(self._census.zone(zone), self._census.all_lost(), self._rates)
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


def _renewed_at(lease: Obj) -> object:
    return (lease.get("spec") or {}).get("renewTime")


def _heartbeats(node: Obj) -> list[object]:
    return [one.get("lastHeartbeatTime") for one in conditions(node)]


def _facts(node: Obj) -> tuple[Any, ...]:
    """What taints and conditions depend on; heartbeats are looked at in rounds."""
    return (
        [(one.get("type"), one.get("status")) for one in conditions(node)],
        (node.get("spec") or {}).get("taints"),
        (node.get("spec") or {}).get("unschedulable"),
        zone_of(node),
    )
