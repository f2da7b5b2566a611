"""Follows the definitions of custom resources: accepts their names, serves their resources, clears them away.

Follows upstream's apiextensions controllers (naming, establishing, finalizer) by behaviour. Every API server runs one;
what they write is the same, so they need no leader.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging

from proa.apis.apiextensions.custom_resources import resources_of
from proa.apis.apiextensions.naming import CLEANUP, is_established, names_status, with_condition
from proa.apis.registry import ResourceDef
from proa.apiserver.api import Core
from proa.apiserver.generic.deletion import DeleteRequest, delete_collection
from proa.apiserver.generic.selection import ListQuery, selection
from proa.apiserver.generic.shared import Call
from proa.apiserver.generic.watching import open_watch
from proa.apiserver.live import Live
from proa.client.interface import UserInfo
from proa.meta.errors import StatusError
from proa.meta.gvk import GVR
from proa.meta.objects import Obj, copy_object, is_deleted, metadata, name_of
from proa.util.clock import rfc3339

log = logging.getLogger("proa.apiserver.crd")

DEFINITIONS = GVR("apiextensions.k8s.io", "v1", "customresourcedefinitions")
_USER = UserInfo("system:apiserver", ("system:masters",))
_RETRY_SECONDS = 1.0


class CustomResources:
    """Keeps `core.resources` in step with the stored definitions, from `start` to `stop`."""

    def __init__(self, core: Core, live: Live) -> None:
        self._core = core
        self._live = live
        self._made: dict[str, tuple[Obj, list[ResourceDef]]] = {}
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Serves what is stored already, then follows changes."""
        await self._reconcile()
        self._task = asyncio.create_task(self._run(), name="custom resource definitions")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        store = self._core.store(self._core.resources.get(DEFINITIONS))
        while True:
            with contextlib.suppress(StatusError):
                watch = await open_watch(store, "", selection(store.resource, {}), "", send_initial=False)
                waiting = await self._reconcile()
                while True:
                    await watch.next(_RETRY_SECONDS if waiting else None)
                    waiting = await self._reconcile()
            await asyncio.sleep(_RETRY_SECONDS)

    async def _reconcile(self) -> bool:
        """Brings everything into step; returns whether something must be tried again soon."""
        definitions = sorted(
            self._live.list(DEFINITIONS), key=lambda one: (metadata(one).get("creationTimestamp", ""), name_of(one))
        )
        waiting = False
        for definition in definitions:
            try:
                waiting |= await self._one(definition, definitions)
            except StatusError as error:
                log.warning("custom resource definition %s: %s", name_of(definition), error)
                waiting = True
        names = {name_of(one) for one in definitions}
        for gone in set(self._made) - names:
            del self._made[gone]
            self._core.resources.set_custom(gone, ())
        return waiting

    async def _one(self, definition: Obj, definitions: list[Obj]) -> bool:
        if is_deleted(definition):
            self._serve(definition)
            return await self._clear(definition)
        others = [self._live.get(DEFINITIONS, name_of(one)) or one for one in definitions]
        status = names_status(definition, others, rfc3339(self._core.shared.clock.now()))
        if status != definition.get("status"):
            await self._write_status(definition, status)
            definition = self._live.get(DEFINITIONS, name_of(definition)) or definition
        self._serve(definition)
        return False

    def _serve(self, definition: Obj) -> None:
        name = name_of(definition)
        relevant = {"spec": definition.get("spec"), "status": definition.get("status")}
        kept = self._made.get(name)
        if kept is not None and kept[0] == relevant:
            return
        made = resources_of(definition) if is_established(definition) else []
        self._made[name] = relevant, made
        self._core.resources.set_custom(name, made)

    async def _write_status(self, definition: Obj, status: Obj) -> None:
        resource = self._core.resources.get(DEFINITIONS)

        async def produce(old: Obj | None) -> Obj:
            changed: Obj = copy_object(old)
            changed["status"] = status
            return changed

        call = Call(user=_USER, name=name_of(definition), subresource="status")
        await self._core.store(resource).update(call, produce, sub=resource.subresource("status"))

    async def _clear(self, definition: Obj) -> bool:
        """Deletes the objects of a definition that goes; with the last one goes the definition. Returns if any stay."""
        if CLEANUP not in (metadata(definition).get("finalizers") or ()):
            return False
        _, made = self._made.get(name_of(definition), ({}, []))
        for resource in made[:1]:
            store = self._core.store(resource)
            await delete_collection(store, Call(user=_USER), selection(resource, {}), ListQuery(), DeleteRequest())
            if self._core.shared.store.currents(store.prefix("")):
                now = rfc3339(self._core.shared.clock.now())
                status: Obj = copy_object(definition.get("status") or {})
                message = "CustomResource deletion is in progress"
                why = "InstanceDeletionInProgress"
                status["conditions"] = with_condition(
                    status.get("conditions") or [], "Terminating", "True", why, message, now
                )
                if status != definition.get("status"):
                    await self._write_status(definition, status)
                return True

        async def produce(old: Obj | None) -> Obj:
            changed: Obj = copy_object(old)
            changed["metadata"]["finalizers"] = [one for one in changed["metadata"]["finalizers"] if one != CLEANUP]
            return changed

        call = Call(user=_USER, name=name_of(definition))
        await self._core.store(self._core.resources.get(DEFINITIONS)).update(call, produce)
        return False
