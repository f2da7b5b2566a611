"""Keeps the EndpointSlices of services with a selector."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from proa.client.resources import ENDPOINTSLICES, NODES, PODS, SERVICES
from proa.controllers.endpointslice.plan import MANAGER, plan
from proa.controllers.endpointslice.topology import DISABLED, ENABLED, is_wanted, node_facts, shares
from proa.controllers.runtime import Context, Controller, Result, ignore_absent
from proa.controllers.services import (
    MANAGED_BY_LABEL,
    SELECTOR_INDEX,
    SERVICE_NAME_LABEL,
    by_selector,
    endpoint_facts,
    families,
    selector_of,
    services_of,
)
from proa.meta.objects import Obj, is_deleted, key_of, labels_of, name_of, namespace_of, split_key

SERVICE_INDEX = "service"
_NODES_SECONDS = 1.0  # changes of nodes gather for so long before hints are given anew
_ZONE_LABEL = "topology.kubernetes.io/zone"


def by_service(endpoint_slice: Obj) -> Iterable[str]:
    """Index: manager and service of a slice."""
    labels = labels_of(endpoint_slice)
    name = labels.get(SERVICE_NAME_LABEL)
    if name:
        yield f"{labels.get(MANAGED_BY_LABEL)} {namespace_of(endpoint_slice)}/{name}"


class EndpointSliceController(Controller):
    name = "endpointslice-controller"
    event_source = "endpoint-slice-controller"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._services = self.watch(SERVICES)
        self._services.add_index(SELECTOR_INDEX, by_selector)
        self._pods = self.watch(PODS, lambda pod: services_of(pod, self._services), relevant=endpoint_facts)
        self._slices = self.watch(ENDPOINTSLICES, self._keys_of_slice)
        self._slices.add_index(SERVICE_INDEX, by_service)
        self._nodes = self.need(NODES)
        self._nodes.add_handler(self._node_changed)
        self._hinted: dict[str, frozenset[str]] = {}  # services that ask for hints -> address types that have them

    def _keys_of_slice(self, endpoint_slice: Obj) -> Iterable[str]:
        labels = labels_of(endpoint_slice)
        if labels.get(MANAGED_BY_LABEL) == MANAGER and labels.get(SERVICE_NAME_LABEL):
            yield f"{namespace_of(endpoint_slice)}/{labels[SERVICE_NAME_LABEL]}"

    def _node_changed(self, old: Obj | None, new: Obj | None) -> None:
        if old is not None and new is not None and _zone(old) != _zone(new):
            for service in self._services.objects():
                self.queue.add(key_of(service))
        elif self._hinted and (old and node_facts(old)) != (new and node_facts(new)):
            for key in self._hinted:
                self.queue.add_after(key, _NODES_SECONDS)

    async def reconcile(self, key: str) -> Result | None:
        namespace, name = split_key(key)
        service = self._services.get(name, namespace)
        slices = self._slices.indexed(SERVICE_INDEX, f"{MANAGER} {key}")
        if service is None or is_deleted(service):
            self._hinted.pop(key, None)
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
        hinted = is_wanted(service)
        planned = plan(service, pods, zones, slices, shares(self._nodes.objects()) if hinted else None)
        self._tell(service, key, hinted, planned.refused)
        step = planned.slices
        for made in step.create:
            await self.client.create(ENDPOINTSLICES, made, namespace)
        for changed in step.update:
            await self.client.update(ENDPOINTSLICES, changed)
        for gone in step.delete:
            await ignore_absent(self.client.delete(ENDPOINTSLICES, name_of(gone), namespace))
        return None

    def _tell(self, service: Obj, key: str, hinted: bool, refused: Mapping[str, str]) -> None:
        """Tells what became of the hints that a service asks for."""
        before = self._hinted.pop(key, frozenset())
        types = families(service) if hinted else ()
        for family in types:
            if family in refused:
                text = f"{refused[family]}, addressType: {family}"
                self.events.event(service, "Warning", "TopologyAwareHintsDisabled", text)
            elif family not in before:
                text = f"{ENABLED}, addressType: {family}"
                self.events.event(service, "Normal", "TopologyAwareHintsEnabled", text)
        for family in () if hinted else sorted(before):
            text = f"{DISABLED}, addressType: {family}"
            self.events.event(service, "Warning", "TopologyAwareHintsDisabled", text)
        if hinted:
            self._hinted[key] = frozenset(types) - refused.keys()


def _zone(node: Obj) -> str:
    return labels_of(node).get(_ZONE_LABEL, "")
