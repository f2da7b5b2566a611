"""Mirrors a resource into a sink by list and watch, as client-go's Reflector.

List, then watch from the list's revision with bookmarks; a watch that ends resumes from the last revision seen; 410
means list again; other errors back off. The list is read in pages, all of one revision.
"""

from __future__ import annotations

import asyncio
import logging
import random
from typing import Protocol

from proa.client.interface import Client, ListOptions
from proa.meta.errors import StatusError
from proa.meta.gvk import GVR
from proa.meta.objects import Obj

log = logging.getLogger(__name__)

_PAGE_SIZE = 2000
_EVENTS_AT_ONCE = 64
_BACKOFF_SECONDS_FIRST = 0.1
_BACKOFF_SECONDS_MAX = 30.0
_HEALTHY_SECONDS = 60.0
# A watch that ends sooner than this without an event counts as a failure, or an idle server would be asked in a loop.
_WATCH_SECONDS_MIN = 1.0


class Sink(Protocol):
    """Where a reflector writes: the whole state after a list, then changes. `revision` is how far it has come."""

    revision: int

    def replace(self, items: list[Obj], revision: int = 0) -> None: ...

    def put(self, obj: Obj) -> None: ...

    def remove(self, obj: Obj) -> None: ...


class Reflector:
    """Keeps `sink` equal to the selected part of a resource until cancelled."""

    def __init__(
        self,
        client: Client,
        resource: GVR,
        sink: Sink,
        *,
        namespace: str = "",
        label_selector: str = "",
        field_selector: str = "",
    ) -> None:
        self.resource = resource
        self.resource_version = ""
        self._client = client
        self._sink = sink
        self._namespace = namespace
        self._label_selector = label_selector
        self._field_selector = field_selector
        # Watches over a network end now and then, so that load spreads and a dead peer is noticed; in process, never.
        self._timeout_seconds: int | None = getattr(client, "watch_timeout_seconds", 300)
        self._random = random.Random(f"{resource}{namespace}{label_selector}{field_selector}")

    async def run(self) -> None:
        """Runs until cancelled; reports errors to the log and goes on."""
        loop = asyncio.get_running_loop()
        delay = _BACKOFF_SECONDS_FIRST
        listed = False
        while True:
            started = loop.time()
            try:
                if not listed:
                    await self._list()
                    listed = True
                if await self._watch() or loop.time() - started >= _WATCH_SECONDS_MIN:
                    delay = _BACKOFF_SECONDS_FIRST
                    continue
            except StatusError as error:
                if error.code == 410:
                    listed = False
                    if loop.time() - started >= _WATCH_SECONDS_MIN:
                        continue
                elif error.code == 404:
                    # The resource is not served (any more): there is nothing of it.
                    self._sink.replace([])
                    listed = False
                # Missing rights do not mend themselves; all else is the normal course of things.
                level = logging.WARNING if error.code in (401, 403) else logging.DEBUG
                log.log(level, "watch of %s: %s", self.resource.group_resource, error)
            except (TimeoutError, OSError, EOFError) as error:
                log.debug("watch of %s: %s", self.resource.group_resource, error)
            except Exception:
                log.exception("mirroring %s failed", self.resource.group_resource)
                listed = False
            if loop.time() - started > _HEALTHY_SECONDS:
                delay = _BACKOFF_SECONDS_FIRST
            await asyncio.sleep(delay * self._random.uniform(0.75, 1.25))
            delay = min(delay * 2, _BACKOFF_SECONDS_MAX)

    async def _list(self) -> None:
        items: list[Obj] = []
        token = ""
        while True:
            page = await self._client.list(
                self.resource,
                self._namespace,
                ListOptions(
                    label_selector=self._label_selector,
                    field_selector=self._field_selector,
                    limit=_PAGE_SIZE,
                    continue_token=token,
                ),
            )
            items += page.items
            token = page.continue_token
            if not token:
                break
        self.resource_version = page.resource_version
        self._sink.replace(items, _number(page.resource_version))

    async def _watch(self) -> bool:
        """Follows one watch to its end; returns whether anything arrived."""
        timeout = self._timeout_seconds
        stream = self._client.watch(
            self.resource,
            self._namespace,
            ListOptions(
                label_selector=self._label_selector,
                field_selector=self._field_selector,
                resource_version=self.resource_version,
                # Where a stream never breaks there is nothing to resume from.
                allow_watch_bookmarks=timeout is not None,
                timeout_seconds=None if timeout is None else int(timeout * self._random.uniform(1, 2)),
            ),
        )
        sink = self._sink
        any_event = False
        try:
            count = 0
            async for event in stream:
                any_event = True
                count += 1
                if not count % _EVENTS_AT_ONCE:
                    await asyncio.sleep(0)  # a burst must not keep everybody else waiting
                obj = event.object
                if event.type == "DELETED":
                    sink.remove(obj)
                elif event.type != "BOOKMARK":
                    sink.put(obj)
                self.resource_version = obj["metadata"]["resourceVersion"]
                sink.revision = _number(self.resource_version)
        finally:
            close = getattr(stream, "aclose", None)
            if close is not None:
                await close()
        return any_event


def _number(resource_version: str) -> int:
    return int(resource_version) if resource_version.isdecimal() else 0
