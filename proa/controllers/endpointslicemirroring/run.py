"""Mirrors Endpoints that users keep into EndpointSlices."""

from __future__ import annotations

from collections.abc import Iterable

from proa.client.resources import ENDPOINTS, ENDPOINTSLICES, SERVICES
from proa.controllers.endpointslicemirroring.plan import MANAGER, is_mirrored, plan
from proa.controllers.runtime import Context, Controller, Result, ignore_absent
from proa.controllers.services import MANAGED_BY_LABEL, SERVICE_NAME_LABEL
from proa.meta.objects import Obj, labels_of, name_of, namespace_of, split_key


def _keys_of_slice(endpoint_slice: Obj) -> Iterable[str]:
    labels = labels_of(endpoint_slice)
    if labels.get(MANAGED_BY_LABEL) == MANAGER and labels.get(SERVICE_NAME_LABEL):
        yield f"{namespace_of(endpoint_slice)}/{labels[SERVICE_NAME_LABEL]}"


class EndpointSliceMirroringController(Controller):
    name = "endpointslicemirroring-controller"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._endpoints = self.watch(ENDPOINTS)
        self._services = self.watch(SERVICES)
        self._slices = self.watch(ENDPOINTSLICES, _keys_of_slice)
        self._slices.add_index("mirrored", _keys_of_slice)

    async def reconcile(self, key: str) -> Result | None:
        namespace, name = split_key(key)
        endpoints = self._endpoints.get(name, namespace)
        slices = self._slices.indexed("mirrored", key)
        if endpoints is None or not is_mirrored(endpoints, self._services.get(name, namespace)):
            for gone in slices:
                await ignore_absent(self.client.delete(ENDPOINTSLICES, name_of(gone), namespace))
            return None
        step = plan(endpoints, slices)
        for made in step.create:
            await self.client.create(ENDPOINTSLICES, made, namespace)
        for changed in step.update:
            await self.client.update(ENDPOINTSLICES, changed)
        for gone in step.delete:
            await ignore_absent(self.client.delete(ENDPOINTSLICES, name_of(gone), namespace))
        return None
