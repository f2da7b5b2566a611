"""Keeps the Endpoints of services with a selector."""

from __future__ import annotations

from proa.client.controller import gathering_seconds
from proa.client.interface import DeleteOptions
from proa.client.resources import ENDPOINTS, PODS, SERVICES
from proa.controllers.endpoints.plan import MANAGED_BY, plan
from proa.controllers.membership import Members
from proa.controllers.runtime import Context, Controller, Result, ignore_absent
from proa.controllers.services import selector_of
from proa.meta.objects import Obj, annotations_of, is_deleted, labels_of, split_key, uid_of

_LEADER = "control-plane.alpha.kubernetes.io/leader"


class EndpointsController(Controller):
    name = "endpoint-controller"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._services = self.watch(SERVICES)
        self._members = Members(self._services, self.need(PODS), self._gather)
        self._endpoints = self.watch(ENDPOINTS, weigh=self._members.count)

    def _gather(self, service: str) -> None:
        self.queue.add_after(service, gathering_seconds(self._members.count(service)))

    async def reconcile(self, key: str) -> Result | None:
        namespace, name = split_key(key)
        service = self._services.get(name, namespace)
        current = self._endpoints.get(name, namespace)
        if service is None:
            if current is not None and _is_left_over(current):
                options = DeleteOptions(uid=uid_of(current))
                await ignore_absent(self.client.delete(ENDPOINTS, name, namespace, options))
            return None
        if is_deleted(service) or not selector_of(service):
            return None
        wanted = plan(service, self._members.pods(key).values(), current)
        if wanted is not None and current is None:
            await self.client.create(ENDPOINTS, wanted, namespace)
        elif wanted is not None:
            await self.client.update(ENDPOINTS, wanted)
        return None


def _is_left_over(endpoints: Obj) -> bool:
    """Tells whether these Endpoints are ours, not a user's own or a lock of leader election."""
    return MANAGED_BY in labels_of(endpoints) and _LEADER not in annotations_of(endpoints)
