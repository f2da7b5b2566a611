"""Keeps the EndpointSlices of services with a selector."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from proa.client.controller import gathering_seconds
from proa.client.resources import ENDPOINTSLICES, NODES, PODS, SERVICES
from proa.controllers.endpointslice.plan import MANAGER, Part, parts, plan
from proa.controllers.endpointslice.topology import DISABLED, ENABLED, is_wanted, node_facts, shares
from proa.controllers.membership import Members
from proa.controllers.runtime import Context, Controller, Result, ignore_absent
from proa.controllers.services import MANAGED_BY_LABEL, SERVICE_NAME_LABEL, families, selector_of
from proa.controllers.slices import endpoint_key
from proa.meta.objects import Obj, is_deleted, key_of, labels_of, name_of, namespace_of, split_key, uid_of

SERVICE_INDEX = "service"
_PODS_AT_ONCE = 500
_NODES_SECONDS = 1.0  # changes of nodes gather for so long before hints are given anew
_ZONE_LABEL = "topology.kubernetes.io/zone"


def by_service(endpoint_slice: Obj) -> Iterable[str]:
    """Index: manager and service of a slice."""
    labels = labels_of(endpoint_slice)
    name = labels.get(SERVICE_NAME_LABEL)
    if name:
        yield f"{labels.get(MANAGED_BY_LABEL)} {namespace_of(endpoint_slice)}/{name}"


@dataclass(slots=True)
class _Made:
    """What was made of a service's pods: `parts` by the pod's key, with the pod and zone of which they were made."""

    service: Obj
    parts: dict[str, tuple[Obj, str, tuple[Part, ...]]]


class EndpointSliceController(Controller):
    name = "endpointslice-controller"
    event_source = "endpoint-slice-controller"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._services = self.watch(SERVICES)
        self._members = Members(self._services, self.need(PODS), self._gather)
        self._slices = self.watch(ENDPOINTSLICES, self._keys_of_slice, weigh=self._members.count)
        self._slices.add_index(SERVICE_INDEX, by_service)
        self._nodes = self.need(NODES)
        self._nodes.add_handler(self._node_changed)
        self._hinted: dict[str, frozenset[str]] = {}  # services that ask for hints -> address types that have them
        self._made: dict[str, _Made] = {}

    def _gather(self, service: str) -> None:
        self.queue.add_after(service, gathering_seconds(self._members.count(service)))

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
            self._made.pop(key, None)
            return None  # the garbage collector deletes slices with their service
        if not selector_of(service):
            self._made.pop(key, None)
            return None
        hinted = is_wanted(service)
        found = await self._parts(key, service, slices)
        planned = plan(service, found, slices, shares(self._nodes.objects()) if hinted else None)
        self._tell(service, key, hinted, planned.refused)
        step = planned.slices
        for made in step.create:
            await self.client.create(ENDPOINTSLICES, made, namespace)
        for changed in step.update:
            await self.client.update(ENDPOINTSLICES, changed)
        for gone in step.delete:
            await ignore_absent(self.client.delete(ENDPOINTSLICES, name_of(gone), namespace))
        return None

    async def _parts(self, key: str, service: Obj, slices: Sequence[Obj]) -> list[Part]:
        """Returns the parts of all pods, anew for those that have changed.

        What is in a slice already is not kept twice, and compares by identity.
        """
        known = self._made.get(key)
        before = known.parts if known is not None and known.service is service else {}
        current = {endpoint_key(one): one for found in slices for one in found.get("endpoints") or ()}
        made: dict[str, tuple[Obj, str, tuple[Part, ...]]] = {}
        result: list[Part] = []
        for number, (pod_key, pod) in enumerate(list(self._members.pods(key).items())):
            if number % _PODS_AT_ONCE == _PODS_AT_ONCE - 1:
                await asyncio.sleep(0)  # others have their turn
            node = self._nodes.get((pod.get("spec") or {}).get("nodeName") or "")
            zone = _zone(node) if node is not None else ""
            entry = before.get(pod_key)
            found = entry[2] if entry is not None and entry[0] is pod and entry[1] == zone else None
            if found is None:
                found = parts(service, pod, zone)
            if len(found) == 1:
                shown = current.get(uid_of(pod))
                if shown is not found[0].endpoint and shown == found[0].endpoint:
                    found = (replace(found[0], endpoint=shown),)
            made[pod_key] = pod, zone, found
            result += found
        self._made[key] = _Made(service, made)
        return result

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
