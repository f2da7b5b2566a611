"""The config maps, secrets and other single objects that pods on this node refer to, each kept fresh by its own watch.

A node may read only what its pods refer to, one object at a time, so there is no informer of all of them. Where a
watch is refused, the object is read again every minute.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable
from typing import NamedTuple

from proa.client.interface import Client, ListOptions
from proa.meta.errors import StatusError
from proa.meta.gvk import GVR
from proa.meta.objects import Obj, resource_version_of

log = logging.getLogger(__name__)

REFRESH_SECONDS = 60.0
_RETRY_SECONDS = 1.0


class Reference(NamedTuple):
    """One object that a pod refers to."""

    resource: GVR
    namespace: str
    name: str


class _Watched:
    def __init__(self) -> None:
        self.holders: set[str] = set()
        self.read = asyncio.Event()
        self.obj: Obj | None = None
        self.error: StatusError | None = None
        self.task: asyncio.Task[None] | None = None


class References:
    """Objects by reference; `changed(uid)` is called for each pod that holds an object that changed."""

    def __init__(self, client: Client, changed: Callable[[str], None]) -> None:
        self._client = client
        self._changed = changed
        self._watched: dict[Reference, _Watched] = {}

    def hold(self, uid: str, references: Iterable[Reference]) -> None:
        """Makes the pod hold exactly these references: they are watched from now on, others no longer on its behalf."""
        wanted = set(references)
        for reference in wanted:
            watched = self._watched.get(reference)
            if watched is None:
                watched = self._watched[reference] = _Watched()
                watched.task = asyncio.create_task(self._follow(reference, watched))
            watched.holders.add(uid)
        for reference in [one for one, watched in self._watched.items() if uid in watched.holders]:
            if reference not in wanted:
                self._release(reference, uid)

    def release(self, uid: str) -> None:
        self.hold(uid, ())

    def _release(self, reference: Reference, uid: str) -> None:
        watched = self._watched[reference]
        watched.holders.discard(uid)
        if not watched.holders:
            del self._watched[reference]
            if watched.task:
                watched.task.cancel()

    async def get(self, reference: Reference) -> Obj | None:
        """Returns the object, or None if there is none; raises StatusError if it can't be read."""
        watched = self._watched.get(reference)
        if watched is None:
            return await self._read(reference)
        await watched.read.wait()
        if watched.error is not None:
            raise watched.error
        return watched.obj

    async def _read(self, reference: Reference) -> Obj | None:
        try:
            return await self._client.get(reference.resource, reference.name, reference.namespace)
        except StatusError as error:
            if error.code == 404:
                return None
            raise

    async def _follow(self, reference: Reference, watched: _Watched) -> None:
        while True:
            wait_seconds = _RETRY_SECONDS
            try:
                self._keep(watched, await self._read(reference))
                if (watched.obj or {}).get("immutable"):
                    return
                await self._watch(reference, watched)
            except StatusError as error:
                if not watched.read.is_set():
                    watched.error = error
                    watched.read.set()
                if error.code in (403, 405):
                    wait_seconds = REFRESH_SECONDS
                log.debug("watching %s: %s", reference, error)
            except (OSError, EOFError) as error:
                if not watched.read.is_set():
                    watched.error = StatusError(503, "ServiceUnavailable", str(error))
                    watched.read.set()
            await asyncio.sleep(wait_seconds)

    async def _watch(self, reference: Reference, watched: _Watched) -> None:
        version = resource_version_of(watched.obj) if watched.obj else ""
        options = ListOptions(field_selector=f"metadata.name={reference.name}", resource_version=version)
        stream = self._client.watch(reference.resource, reference.namespace, options)
        try:
            async for event in stream:
                if event.type in ("ADDED", "MODIFIED"):
                    self._keep(watched, event.object)
                elif event.type == "DELETED":
                    self._keep(watched, None)
        finally:
            close = getattr(stream, "aclose", None)
            if close:
                with contextlib.suppress(Exception):
                    await close()

    def _keep(self, watched: _Watched, obj: Obj | None) -> None:
        same = watched.read.is_set() and watched.error is None
        same = same and (watched.obj is obj or _version(watched.obj) == _version(obj))
        watched.obj, watched.error = obj, None
        watched.read.set()
        if not same:
            for uid in list(watched.holders):
                self._changed(uid)

    async def stop(self) -> None:
        for watched in self._watched.values():
            if watched.task:
                watched.task.cancel()
        self._watched.clear()


def _version(obj: Obj | None) -> str:
    return resource_version_of(obj) if obj else ""
