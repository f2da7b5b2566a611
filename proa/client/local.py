"""The in-process client: the same requests as over HTTPS, but decoded objects instead of bytes.

Identity, authorization, admission and validation are the server's own; this only phrases the request. Objects given
to `create` and `update` are copied by value at the first level the server changes, so callers keep theirs.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

from proa.client.interface import (
    MERGE_PATCH,
    STRATEGIC_PATCH,
    Api,
    ApiRequest,
    DeleteOptions,
    ListOptions,
    ObjectList,
    UserInfo,
    WatchEvent,
)
from proa.client.options import delete_body, list_parameters, object_list, write_parameters
from proa.meta.gvk import GVR
from proa.meta.objects import Obj, copy_for_change, copy_object, name_of, namespace_of

_LIST = ListOptions()
_DELETE = DeleteOptions()


class LocalClient:
    """A `Client` over an `Api` in the same process, as one user."""

    # Streams in process never break, so they need no timeout of their own.
    watch_timeout_seconds: int | None = None

    def __init__(self, api: Api, user: UserInfo, *, field_manager: str = "") -> None:
        self.user = user
        self._api = api
        self._field_manager = field_manager

    async def get(
        self,
        resource: GVR,
        name: str,
        namespace: str = "",
        *,
        subresource: str = "",
        parameters: Mapping[str, str] | None = None,
    ) -> Obj:
        return await self._api.call(
            ApiRequest(
                user=self.user,
                verb="get",
                resource=resource,
                namespace=namespace,
                name=name,
                subresource=subresource,
                parameters=parameters or {},
            )
        )

    async def list(self, resource: GVR, namespace: str = "", options: ListOptions = _LIST) -> ObjectList:
        listing = await self._api.call(
            ApiRequest(
                user=self.user,
                verb="list",
                resource=resource,
                namespace=namespace,
                parameters=list_parameters(options),
            )
        )
        return object_list(listing)

    def watch(self, resource: GVR, namespace: str = "", options: ListOptions = _LIST) -> AsyncIterator[WatchEvent]:
        return self._api.watch(
            ApiRequest(
                user=self.user,
                verb="watch",
                resource=resource,
                namespace=namespace,
                parameters=list_parameters(options, watch=True),
            )
        )

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
        return await self._write(
            "create", resource, copy_for_change(obj), namespace or namespace_of(obj), name, subresource, dry_run
        )

    async def update(self, resource: GVR, obj: Obj, *, subresource: str = "", dry_run: bool = False) -> Obj:
        return await self._write(
            "update", resource, copy_for_change(obj), namespace_of(obj), name_of(obj), subresource, dry_run
        )

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
        if patch_type != MERGE_PATCH:  # whose parts are copied where it is applied
            patch = copy_object(patch)
        return await self._write("patch", resource, patch, namespace, name, subresource, dry_run, patch_type, force)

    async def delete(self, resource: GVR, name: str, namespace: str = "", options: DeleteOptions = _DELETE) -> Obj:
        return await self._api.call(
            ApiRequest(
                user=self.user,
                verb="delete",
                resource=resource,
                namespace=namespace,
                name=name,
                body=delete_body(options),
            )
        )

    async def delete_collection(
        self,
        resource: GVR,
        namespace: str = "",
        options: DeleteOptions = _DELETE,
        selection: ListOptions = _LIST,
    ) -> None:
        await self._api.call(
            ApiRequest(
                user=self.user,
                verb="deletecollection",
                resource=resource,
                namespace=namespace,
                parameters=list_parameters(selection),
                body=delete_body(options),
            )
        )

    async def resource_list(self, group: str, version: str) -> Obj:
        return await self._api.resource_list(self.user, group, version)

    async def _write(
        self,
        verb: str,
        resource: GVR,
        body: Any,
        namespace: str,
        name: str,
        subresource: str,
        dry_run: bool,
        patch_type: str = "",
        force: bool = False,
    ) -> Obj:
        return await self._api.call(
            ApiRequest(
                user=self.user,
                verb=verb,
                resource=resource,
                namespace=namespace,
                name=name,
                subresource=subresource,
                parameters=write_parameters(self._field_manager, dry_run, force),
                body=body,
                patch_type=patch_type,
                field_manager=self._field_manager,
            )
        )
