"""A watch as bytes: one frame per event, encoded once for all watchers of the same form."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable

from proa.apiserver.api import bookmark
from proa.apiserver.encoding import Recent, encode
from proa.apiserver.generic.forms import WatchEnded
from proa.apiserver.generic.store import GenericStore
from proa.apiserver.generic.watching import BOOKMARK, Change, ResourceWatch
from proa.apiserver.negotiation import PROTOBUF, Form
from proa.apiserver.tables import partial_metadata, table
from proa.meta.errors import StatusError
from proa.meta.objects import Obj

BOOKMARK_SECONDS = 60.0
_INITIAL_FRAMES = 500  # per chunk


class WatchStream:
    """Turns one watch into frames. `recent` is shared by all watches: (revision, type, form) to frame.

    `initialized` is called once the objects that the watch begins with have been sent.
    """

    def __init__(
        self,
        store: GenericStore,
        watch: ResourceWatch,
        form: Form,
        *,
        include: str,
        bookmarks: bool,
        initial_end: bool,
        recent: Recent,
        initialized: Callable[[], None] | None = None,
    ) -> None:
        self._store = store
        self._watch = watch
        self._form = form
        self._include = include
        self._bookmarks = bookmarks
        self._initial_end = initial_end and bookmarks
        self._told = watch.revision  # the newest revision that the client has seen
        self._recent = recent
        self._initialized = initialized
        self._headers = True  # a table's columns come with its first frame only
        resource = store.resource
        self._raw = not form.transform and form.media_type != PROTOBUF and resource.from_stored is None
        self._key = (resource.gvr, form, include)

    async def frames(
        self, timeout_seconds: float, watches: Counter[tuple[str, ...]], events: Counter[tuple[str, ...]]
    ) -> AsyncIterator[bytes]:
        """Yields chunks of whole frames until the timeout; an error is the last frame.

        `watches` counts this stream while it is open, `events` what it sends, both by resource.
        """
        resource = self._store.resource.gvr
        watches[resource] += 1
        try:
            async for chunk in self._frames(timeout_seconds):
                yield chunk
                events[resource] += 1
        finally:
            watches[resource] -= 1

    async def _frames(self, timeout_seconds: float) -> AsyncIterator[bytes]:
        loop = asyncio.get_running_loop()
        end = loop.time() + timeout_seconds
        yield b""  # the headers go out at once
        try:
            pending: list[bytes] = []
            for change in self._watch.initial():
                pending.append(self._frame(change))
                if len(pending) == _INITIAL_FRAMES:
                    yield b"".join(pending)
                    pending.clear()
            if self._initial_end:
                pending.append(self._bookmark(self._watch.initial_revision, initial_end=True))
            if pending:
                yield b"".join(pending)
            if self._initialized is not None:
                self._initialized()
                self._initialized = None
            next_bookmark = loop.time() + BOOKMARK_SECONDS * random.uniform(0.5, 1.0)
            while (now := loop.time()) < end:
                changes = await self._watch.next(max(min(end, next_bookmark) - now, 0))
                if changes:
                    self._told = changes[-1].entry.revision
                    yield self._joined(changes)
                if loop.time() >= next_bookmark:
                    next_bookmark = loop.time() + BOOKMARK_SECONDS
                    if self._bookmarks and self._watch.revision > self._told:
                        yield self._bookmark(self._watch.revision)
            if self._bookmarks and self._watch.revision > self._told:
                yield self._bookmark(self._watch.revision)
        except WatchEnded:
            return
        except StatusError as error:
            yield self._encoded("ERROR", error.to_status())

    def _joined(self, changes: Iterable[Change]) -> bytes:
        return b"".join([self._frame(change) for change in changes])

    def _frame(self, change: Change) -> bytes:
        if self._headers and self._form.transform == "Table":
            return self._encoded(change.type, self._shown(change))
        key = (change.entry.revision, change.type, self._key)
        found: bytes | None = self._recent.get(key)
        if found is None:
            if self._raw:
                found = b'{"type":"%b","object":%b}\n' % (change.type.encode(), change.entry.value)
            else:
                found = self._encoded(change.type, self._shown(change))
            self._recent.put(key, found)
        return found

    def _shown(self, change: Change) -> Obj:
        return self._transformed(self._store.view(change.entry))

    def _transformed(self, obj: Obj) -> Obj:
        form = self._form
        if form.transform == "PartialObjectMetadata":
            return partial_metadata(obj, form.version)
        if form.transform != "Table":
            return obj
        headers, self._headers = self._headers, False
        version = obj["metadata"].get("resourceVersion", "")
        now = self._store.shared.clock.now()
        return table(
            self._store.resource,
            [obj],
            {"resourceVersion": version},
            now,
            include=self._include,
            version=form.version,
            headers=headers,
        )

    def _bookmark(self, revision: int, *, initial_end: bool = False) -> bytes:
        self._told = max(self._told, revision)
        obj = bookmark(self._store.resource, revision, initial_end=initial_end)
        if self._form.transform == "PartialObjectMetadata":
            obj = partial_metadata(obj, self._form.version)
        elif self._form.transform == "Table":
            obj = self._transformed(obj)
        return self._encoded(BOOKMARK, obj)

    def _encoded(self, kind: str, obj: Obj) -> bytes:
        if self._form.media_type == PROTOBUF:
            from proa.apiserver.encoding import protobuf

            frame: bytes = protobuf().encode_watch_event(kind, obj)
            return frame
        return encode({"type": kind, "object": obj}) + b"\n"
