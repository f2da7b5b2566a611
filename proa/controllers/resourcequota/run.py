"""Counts anew what a namespace uses when a quota changes, when something goes, and every five minutes."""

from __future__ import annotations

from proa.client.controller import gathering_seconds
from proa.client.informer import CachedInformer
from proa.client.resources import CUSTOMRESOURCEDEFINITIONS, EVENTS, RESOURCEQUOTAS
from proa.controllers.discovery import Kind, Kinds
from proa.controllers.pods import is_finished
from proa.controllers.resourcequota.plan import concerns, status
from proa.controllers.runtime import Context, Controller, Result, ignore_absent
from proa.meta.gvk import GVR
from proa.meta.objects import Obj, is_deleted, key_of, namespace_of, split_key

_RESYNC_SECONDS = 300.0


class ResourceQuotaController(Controller):
    name = "resourcequota-controller"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._quotas = self.watch(RESOURCEQUOTAS)
        self._kinds = Kinds(self.need(CUSTOMRESOURCEDEFINITIONS))
        self._counted: dict[GVR, CachedInformer] = {}

    def _count(self, kind: Kind) -> CachedInformer:
        """Returns the informer of a resource, watched from its first use on for what gives quota back."""
        found = self._counted.get(kind.resource)
        if found is None:
            found = informer = self._counted[kind.resource] = self.informers.informer(kind.resource)

            def changed(old: Obj | None, new: Obj | None) -> None:
                if old is None:
                    return  # admission has counted it already
                namespace = namespace_of(old)
                if self._quotas.count(namespace) and (new is None or _gives_back(old, new)):
                    for quota in self._quotas.objects(namespace):
                        self.queue.add_after(key_of(quota), gathering_seconds(informer.count(namespace)))

            found.add_handler(changed)
        return found

    async def reconcile(self, key: str) -> Result | None:
        namespace, name = split_key(key)
        quota = self._quotas.get(name, namespace)
        if quota is None or is_deleted(quota):
            return None
        hard = (quota.get("spec") or {}).get("hard") or {}
        objects: list[tuple[str, str, Obj]] = []
        for kind in self._kinds.with_verbs("list", "watch", "create"):
            resource = kind.resource
            if not kind.namespaced or resource == EVENTS or not concerns(hard, resource.group, resource.resource):
                continue
            informer = self._count(kind)
            await informer.wait_synced()
            objects += [(resource.group, resource.resource, one) for one in informer.objects(namespace)]
        changed = status(quota, objects)
        if changed is not None:
            await ignore_absent(self.client.update(RESOURCEQUOTAS, {**quota, "status": changed}, subresource="status"))
        return Result(_RESYNC_SECONDS)


def _gives_back(old: Obj, new: Obj) -> bool:
    """Tells whether an object may use less than before. That a pod gets its node changes nothing."""
    if is_finished(new) and not is_finished(old):
        return True
    before, after = old.get("spec") or {}, new.get("spec") or {}
    if before == after:
        return False
    return bool({**before, "nodeName": ""} != {**after, "nodeName": ""})
