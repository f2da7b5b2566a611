"""Routes to the nodes' pod addresses in the cloud's network. Follows upstream's route controller.

All nodes are looked at together: routes of nodes that are gone must go too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from proa.client.controller import Context, Controller, Result, ignore_absent
from proa.client.resources import NODES
from proa.cloud.interface import CloudError, Provider, Route
from proa.meta.errors import StatusError
from proa.meta.objects import Obj, is_deleted, name_of
from proa.util.clock import rfc3339

_ALL = "all"
_RECHECK_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Plan:
    create: tuple[Route, ...]
    delete: tuple[Route, ...]


def pod_ranges(node: Obj) -> list[str]:
    spec = node.get("spec") or {}
    return list(spec.get("podCIDRs") or ([spec["podCIDR"]] if spec.get("podCIDR") else []))


def plan(nodes: Sequence[Obj], routes: Sequence[Route]) -> Plan:
    """Compares the routes there are with those that the nodes' ranges need (pure)."""
    wanted = {Route(name_of(node), part) for node in nodes if not is_deleted(node) for part in pod_ranges(node)}
    present = set(routes)
    ordered = sorted(wanted - present, key=lambda one: (one.node, one.destination))
    return Plan(tuple(ordered), tuple(sorted(present - wanted, key=lambda one: (one.node, one.destination))))


class RouteController(Controller):
    name = "route-controller"
    workers = 1

    def __init__(self, context: Context, provider: Provider) -> None:
        super().__init__(context)
        self._provider = provider
        self._nodes = self.watch(NODES, lambda _: (_ALL,), relevant=pod_ranges)

    async def reconcile(self, key: str) -> Result | None:
        routes = self._provider.routes
        if routes is None:
            return None
        nodes = self._nodes.objects()
        try:
            step = plan(nodes, await routes.list())
            for route in step.delete:
                await routes.delete(route)
        except CloudError as error:
            raise StatusError(503, "ServiceUnavailable", f"routes: {error}") from error
        missing: set[str] = set()
        for route in step.create:
            node = self._nodes.get(route.node) or {}
            listed = (node.get("status") or {}).get("addresses") or ()
            try:
                await routes.create(route, [one["address"] for one in listed])
            except CloudError as error:
                missing.add(route.node)
                text = f"Could not create route to {route.destination} on node {route.node}: {error}"
                self.events.event(node, "Warning", "FailedToCreateRoute", text)
        for node in nodes:
            await self._tell(node, name_of(node) not in missing and bool(pod_ranges(node)))
        return Result(_RECHECK_SECONDS) if missing else None

    async def _tell(self, node: Obj, reachable: bool) -> None:
        """Keeps the node's condition NetworkUnavailable, which keeps pods away until its routes exist."""
        status = "False" if reachable else "True"
        for one in (node.get("status") or {}).get("conditions") or ():
            if one.get("type") == "NetworkUnavailable" and one.get("status") == status:
                return
        stamp = rfc3339(self.clock.now())
        condition = {
            "type": "NetworkUnavailable",
            "status": status,
            "reason": "RouteCreated" if reachable else "NoRouteCreated",
            "message": "RouteController created a route" if reachable else "RouteController failed to create a route",
            "lastHeartbeatTime": stamp,
            "lastTransitionTime": stamp,
        }
        patch = {"status": {"conditions": [condition]}}
        await ignore_absent(self.client.patch(NODES, name_of(node), patch, subresource="status"))
