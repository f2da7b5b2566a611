"""Follows flow schemas and priority levels: priority and fairness takes them over, and each schema's status says
whether its priority level exists."""

from __future__ import annotations

import asyncio
import contextlib
import logging

from proa.apis.flowcontrol.bootstrap import schema_status
from proa.apiserver.api import Core
from proa.apiserver.fairness.gate import Gate
from proa.apiserver.generic.selection import selection
from proa.apiserver.generic.shared import Call
from proa.apiserver.generic.watching import ResourceWatch, open_watch
from proa.apiserver.live import Live
from proa.client.interface import UserInfo
from proa.meta.errors import StatusError
from proa.meta.gvk import GVR
from proa.meta.objects import Obj, copy_object, is_deleted, name_of
from proa.util.clock import rfc3339

log = logging.getLogger("proa.apiserver.flowschemas")

_GROUP = "flowcontrol.apiserver.k8s.io"
SCHEMAS = GVR(_GROUP, "v1", "flowschemas")
LEVELS = GVR(_GROUP, "v1", "prioritylevelconfigurations")
_USER = UserInfo("system:apiserver", ("system:masters",))
_RETRY_SECONDS = 1.0


class FlowSchemas:
    """Follows flow schemas and priority levels from `start` to `stop`; several servers may do so at once."""

    def __init__(self, core: Core, live: Live, gate: Gate) -> None:
        self._core = core
        self._live = live
        self._gate = gate
        self._changed = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        self._tasks = [
            asyncio.create_task(self._follow(SCHEMAS), name="flow schemas"),
            asyncio.create_task(self._follow(LEVELS), name="priority levels"),
            asyncio.create_task(self._run(), name="flow schemas' status"),
        ]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _follow(self, resource: GVR) -> None:
        while True:
            watch = await self._watch(resource)
            self._changed.set()
            with contextlib.suppress(StatusError):  # too old: begin again
                while True:
                    await watch.next(None)
                    self._changed.set()

    async def _watch(self, resource: GVR) -> ResourceWatch:
        store = self._core.store(self._core.resources.get(resource))
        return await open_watch(store, "", selection(store.resource, {}), "", send_initial=False)

    async def _run(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            self._gate.configure(self._live.list(LEVELS), self._live.list(SCHEMAS))
            levels = {name_of(one) for one in self._live.list(LEVELS)}
            for schema in self._live.list(SCHEMAS):
                try:
                    await self._bring_up_to_date(schema, levels)
                except StatusError as error:
                    if error.code != 404:
                        log.warning("flow schema %s: %s", name_of(schema), error)
                        await asyncio.sleep(_RETRY_SECONDS)
                        self._changed.set()

    async def _bring_up_to_date(self, schema: Obj, levels: set[str]) -> None:
        status = schema_status(schema, levels, rfc3339(self._core.shared.clock.now()))
        if is_deleted(schema) or status == schema.get("status"):
            return
        resource = self._core.resources.get(SCHEMAS)

        async def produce(old: Obj | None) -> Obj:
            changed: Obj = copy_object(old)
            changed["status"] = status
            return changed

        call = Call(user=_USER, name=name_of(schema), subresource="status")
        await self._core.store(resource).update(call, produce, sub=resource.subresource("status"))
