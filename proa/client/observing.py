"""A client that shows its own writes to the informers at once.

Controllers decide from informers, which lag behind writes. Upstream bridges the gap with expectations per controller;
here a write's result goes into the cache as soon as it returns, so a controller never creates twice what it has
just created. An informer refuses results that its watch has already passed.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

from proa.client.informer import SharedInformers
from proa.client.interface import STRATEGIC_PATCH, Client, DeleteOptions, ListOptions, ObjectList, WatchEvent
from proa.meta.gvk import GVR
from proa.meta.objects import Obj, uid_of
from proa.util.clock import Clock, rfc3339

_LIST = ListOptions()
_DELETE = DeleteOptions()
_SAME_OBJECT = ("", "status", "finalize")  # subresources that answer with the object itself


class ObservingClient:
    """Wraps `client`; reads pass through."""

    def __init__(self, client: Client, informers: SharedInformers, clock: Clock) -> None:
        self._client = client
        self._informers = informers
        self._clock = clock

    async def get(
        self,
        resource: GVR,
        name: str,
        namespace: str = "",
        *,
        subresource: str = "",
        parameters: Mapping[str, str] | None = None,
    ) -> Obj:
        return await self._client.get(resource, name, namespace, subresource=subresource, parameters=parameters)

    async def list(self, resource: GVR, namespace: str = "", options: ListOptions = _LIST) -> ObjectList:
        return await self._client.list(resource, namespace, options)

    def watch(self, resource: GVR, namespace: str = "", options: ListOptions = _LIST) -> AsyncIterator[WatchEvent]:
        return self._client.watch(resource, namespace, options)

    async def create(
        self,
        resource: GVR,
        obj: Obj,
        namespace: str = "",
        *,
        name: str = "",
        subresource: str = "",
        dry_run: bool = False,
    ) -> Obj:
        result = await self._client.create(
            resource, obj, namespace, name=name, subresource=subresource, dry_run=dry_run
        )
        return self._observed(resource, result, subresource, dry_run)

    async def update(self, resource: GVR, obj: Obj, *, subresource: str = "", dry_run: bool = False) -> Obj:
        result = await self._client.update(resource, obj, subresource=subresource, dry_run=dry_run)
        return self._observed(resource, result, subresource, dry_run)

    async def patch(
        self,
        resource: GVR,
        name: str,
        patch: Any,
        namespace: str = "",
        *,
        patch_type: str = STRATEGIC_PATCH,
        subresource: str = "",
        force: bool = False,
        dry_run: bool = False,
    ) -> Obj:
        result = await self._client.patch(
            resource,
            name,
            patch,
            namespace,
            patch_type=patch_type,
            subresource=subresource,
            force=force,
            dry_run=dry_run,
        )
        return self._observed(resource, result, subresource, dry_run)

    async def delete(self, resource: GVR, name: str, namespace: str = "", options: DeleteOptions = _DELETE) -> Obj:
        result = await self._client.delete(resource, name, namespace, options)
        # The answer is the object, or a Status whose details name it.
        uid = uid_of(result) or (result.get("details") or {}).get("uid") or options.uid or ""
        if uid and not options.dry_run:
            self._informers.observe_deletion(resource, uid, name, namespace, rfc3339(self._clock.now()))
        return result

    async def delete_collection(
        self,
        resource: GVR,
        namespace: str = "",
        options: DeleteOptions = _DELETE,
        selection: ListOptions = _LIST,
    ) -> None:
        await self._client.delete_collection(resource, namespace, options, selection)

    async def resource_list(self, group: str, version: str) -> Obj:
        return await self._client.resource_list(group, version)

    def _observed(self, resource: GVR, result: Obj, subresource: str, dry_run: bool) -> Obj:
        if subresource in _SAME_OBJECT and not dry_run and uid_of(result):
            self._informers.observe(resource, result)
        return result
