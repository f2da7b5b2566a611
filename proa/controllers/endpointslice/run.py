"""Keeps the EndpointSlices of services with a selector."""

from __future__ import annotations

from collections.abc import Iterable

from proa.client.resources import ENDPOINTSLICES, NODES, PODS, SERVICES
from proa.controllers.endpointslice.plan import MANAGER, plan
from proa.controllers.runtime import Context, Controller, Result, ignore_absent
from proa.controllers.services import (
    MANAGED_BY_LABEL,
    SELECTOR_INDEX,
    SERVICE_NAME_LABEL,
    by_selector,
    endpoint_facts,
    selector_of,
    services_of,
)
from proa.meta.objects import Obj, is_deleted, key_of, labels_of, name_of, namespace_of, split_key

SERVICE_INDEX = "service"
_ZONE_LABEL = "topology.kubernetes.io/zone"


def by_service(endpoint_slice: Obj) -> Iterable[str]:
    """Index: manager and service of a slice."""
    labels = labels_of(endpoint_slice)
    name = labels.get(SERVICE_NAME_LABEL)
    if name:
        yield f"{labels.get(MANAGED_BY_LABEL)} {namespace_of(endpoint_slice)}/{name}"


class EndpointSliceController(Controller):
    name = "endpointslice-controller"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._services = self.watch(SERVICES)
        self._services.add_index(SELECTOR_INDEX, by_selector)
        self._pods = self.watch(PODS, lambda pod: services_of(pod, self._services), relevant=endpoint_facts)
        self._slices = self.watch(ENDPOINTSLICES, self._keys_of_slice)
        self._slices.add_index(SERVICE_INDEX, by_service)
        self._nodes = self.need(NODES)
        self._nodes.add_handler(self._node_changed)

    def _keys_of_slice(self, endpoint_slice: Obj) -> Iterable[str]:
        labels = labels_of(endpoint_slice)
        if labels.get(MANAGED_BY_LABEL) == MANAGER and labels.get(SERVICE_NAME_LABEL):
            yield f"{namespace_of(endpoint_slice)}/{labels[SERVICE_NAME_LABEL]}"

    def _node_changed(self, old: Obj | None, new: Obj | None) -> None:
        if old is not None and new is not None and _zone(old) != _zone(new):
            for service in self._services.objects():
                self.queue.add(key_of(service))

    async def reconcile(self, key: str) -> Result | None:
        namespace, name = split_key(key)
        service = self._services.get(name, namespace)
        slices = self._slices.indexed(SERVICE_INDEX, f"{MANAGER} {key}")
        if service is None or is_deleted(service):
            return None  # the garbage collector deletes slices with their service
        selector = selector_of(service)
        if not selector:
            return None
        pods = [pod for pod in self._pods.objects(namespace) if selector.items() <= labels_of(pod).items()]
        zones = {
            node: _zone(found)
            for node in {(pod.get("spec") or {}).get("nodeName") or "" for pod in pods}
            if (found := self._nodes.get(node)) is not None
        }
        step = plan(service, pods, zones, slices)
        for made in step.create:
            await self.client.create(ENDPOINTSLICES, made, namespace)
        for changed in step.update:
            await self.client.update(ENDPOINTSLICES, changed)
        for gone in step.delete:
            await ignore_absent(self.client.delete(ENDPOINTSLICES, name_of(gone), namespace))
        return None


def _zone(node: Obj) -> str:
    return labels_of(node).get(_ZONE_LABEL, "")
