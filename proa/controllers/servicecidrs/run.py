"""Keeps the finalizer and the Ready condition of service ranges."""

from __future__ import annotations

from proa.client.interface import MERGE_PATCH
from proa.client.resources import IPADDRESSES, SERVICECIDRS
from proa.controllers.runtime import Context, Controller, Result, ignore_absent
from proa.controllers.servicecidrs.plan import finalizers, must_stay, status
from proa.meta.objects import Obj, is_deleted, name_of, resource_version_of


class ServiceCidrController(Controller):
    name = "service-cidrs-controller"
    workers = 1

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._cidrs = self.watch(SERVICECIDRS)
        self._addresses = self.need(IPADDRESSES)
        self._addresses.add_handler(self._address_changed)

    def _address_changed(self, old: Obj | None, new: Obj | None) -> None:
        """An address that is given back may let a range go."""
        if new is None:
            for one in self._cidrs.objects():
                if is_deleted(one):
                    self.queue.add(name_of(one))

    async def reconcile(self, key: str) -> Result | None:
        cidr = self._cidrs.get(key)
        if cidr is None:
            return None
        stays = not is_deleted(cidr) or must_stay(cidr, self._cidrs.objects(), self._addresses.objects())
        changed = finalizers(cidr, stays)
        if changed is not None:
            patch = {"metadata": {"finalizers": changed or None, "resourceVersion": resource_version_of(cidr)}}
            cidr = await self.client.patch(SERVICECIDRS, key, patch, patch_type=MERGE_PATCH)
        if stays:
            wanted = status(cidr, not is_deleted(cidr), self.clock.now())
            if wanted is not None:
                await ignore_absent(
                    self.client.patch(
                        SERVICECIDRS, key, {"status": wanted}, patch_type=MERGE_PATCH, subresource="status"
                    )
                )
        return None
