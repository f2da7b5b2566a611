"""Records events (core v1) about objects, as client-go's recorder with its correlator.

Equal events within an hour raise the count of the first; more than ten that differ only in their message within ten
minutes are combined into one; one object may get 25 events at once and then one every five minutes per source.
Recording never blocks and never fails: what cannot be written is dropped.
"""

from __future__ import annotations

import asyncio
import logging
import zlib
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from datetime import datetime
from typing import Generic, TypeVar

from proa.client.interface import Client
from proa.client.resources import EVENTS
from proa.meta.errors import StatusError
from proa.meta.objects import Obj, name_of, namespace_of, resource_version_of, uid_of
from proa.util.clock import Clock, rfc3339

log = logging.getLogger(__name__)

_CACHE_SIZE = 4096
_AGGREGATE_COUNT_MAX = 10
_AGGREGATE_SECONDS = 600.0
_BURST = 25
_REFILL_SECONDS = 300.0
_MESSAGE_LENGTH_MAX = 1024
_QUEUE_LENGTH_MAX = 1000
_WRITES_MAX = 64  # at once: as many as bindings

V = TypeVar("V")


class _Lru(OrderedDict[tuple[str, ...], V], Generic[V]):
    def keep(self, key: tuple[str, ...], value: V) -> V:
        self[key] = value
        self.move_to_end(key)
        if len(self) > _CACHE_SIZE:
            self.popitem(last=False)
        return value


@dataclass(slots=True)
class _Similar:
    messages: set[str] = field(default_factory=set)
    last_seconds: float = 0.0


@dataclass(slots=True)
class _Seen:
    name: str
    count: int
    first: str


@dataclass(slots=True)
class _Bucket:
    tokens: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Occurrence:
    """What to write: a new event, or (`count` above 1) a raised count of the one called `name`."""

    name: str
    namespace: str
    count: int
    event: Obj


def reference_to(obj: Obj, field_path: str = "") -> Obj:
    """Returns an ObjectReference to an object."""
    reference = {
        "kind": obj.get("kind", ""),
        "namespace": namespace_of(obj),
        "name": name_of(obj),
        "uid": uid_of(obj),
        "apiVersion": obj.get("apiVersion", ""),
        "resourceVersion": resource_version_of(obj),
        "fieldPath": field_path,
    }
    return {key: value for key, value in reference.items() if value}


class Correlator:
    """Decides what becomes of an occurrence: written, counted, combined or dropped. Pure but for its memory."""

    def __init__(self, component: str, host: str = "") -> None:
        self._component = component
        self._host = host
        self._seen: _Lru[_Seen] = _Lru()
        self._similar: _Lru[_Similar] = _Lru()
        self._buckets: _Lru[_Bucket] = _Lru()
        self._named_at = 0
        self._offset = zlib.crc32(f"{component} {host}".encode()) & 0xFF

    def occurrence(
        self,
        obj: Obj,
        type: str,
        reason: str,
        message: str,
        *,
        now: datetime,
        field_path: str = "",
        annotations: dict[str, str] | None = None,
        host: str = "",
    ) -> Occurrence | None:
        """Returns what to write, or None if the object's source is over its rate."""
        reference = reference_to(obj, field_path)
        seconds = now.timestamp()
        message = message[:_MESSAGE_LENGTH_MAX]
        about = tuple(reference.get(key, "") for key in ("kind", "namespace", "name", "uid", "apiVersion"))
        if not self._allowed(about, seconds):
            return None
        kind = (*about, field_path, type, reason)
        similar = self._similar.get(kind)
        if similar is None or seconds - similar.last_seconds > _AGGREGATE_SECONDS:
            similar = _Similar()
        self._similar.keep(kind, similar)
        similar.messages.add(message)
        similar.last_seconds = seconds
        identity = (*kind, message)
        if len(similar.messages) >= _AGGREGATE_COUNT_MAX:
            message = f"(combined from similar events): {message}"
            identity = (*kind, "")
            similar.messages.pop()
        stamp = rfc3339(now)
        seen = self._seen.get(identity)
        if seen is None:
            # Named after the moment, in nanoseconds; two within one get different names. A moment is known to no more
            # than 256 of them, which leaves room to keep two components apart.
            self._named_at = max(self._named_at + 1, int(seconds * 1e9) + self._offset)
            seen = _Seen(f"{reference.get('name', '')}.{self._named_at:x}", 0, stamp)
        self._seen.keep(identity, seen)
        seen.count += 1
        # Events about cluster-scoped objects live in the default namespace.
        namespace = reference.get("namespace") or "default"
        source = {"component": self._component}
        host = host or self._host
        if host:
            source["host"] = host
        meta: Obj = {"name": seen.name, "namespace": namespace}
        if annotations:
            meta["annotations"] = annotations
        event: Obj = {
            "kind": "Event",
            "apiVersion": "v1",
            "metadata": meta,
            "involvedObject": reference,
            "reason": reason,
            "message": message,
            "source": source,
            "firstTimestamp": seen.first,
            "lastTimestamp": stamp,
            "count": seen.count,
            "type": type,
            "reportingComponent": self._component,
            "reportingInstance": host,
        }
        return Occurrence(seen.name, namespace, seen.count, event)

    def renew(self, occurrence: Occurrence) -> None:
        """Makes the next equal occurrence a new event: the counted one is gone from the server."""
        for key, seen in list(self._seen.items()):
            if seen.name == occurrence.name:
                del self._seen[key]

    def _allowed(self, about: tuple[str, ...], seconds: float) -> bool:
        bucket = self._buckets.get(about) or _Bucket(_BURST, seconds)
        self._buckets.keep(about, bucket)
        bucket.tokens = min(_BURST, bucket.tokens + (seconds - bucket.seconds) / _REFILL_SECONDS)
        bucket.seconds = seconds
        if bucket.tokens < 1:
            return False
        bucket.tokens -= 1
        return True


class Recorder(Generic[V]):
    """Writes in the background what is put to it, some at once; what cannot be written is dropped."""

    def __init__(self) -> None:
        self._pending: deque[V] = deque(maxlen=_QUEUE_LENGTH_MAX)
        self._task: asyncio.Task[None] | None = None

    def _put(self, item: V) -> None:
        self._pending.append(item)
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._send(), name="events")

    async def flush(self) -> None:
        """Waits until everything recorded so far is written or dropped."""
        while self._task is not None and not self._task.done():
            await asyncio.wait([self._task])

    async def stop(self) -> None:
        """Drops what is not written yet."""
        self._pending.clear()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _send(self) -> None:
        # One after the other, each would wait for a commit of its own.
        while self._pending:
            await asyncio.gather(*(self._try(item) for item in self._next()))

    def _next(self) -> list[V]:
        """Takes the next few items, no two of which are about one event: what counts it comes after its creation."""
        taken: dict[str, V] = {}
        while self._pending and len(taken) < _WRITES_MAX:
            name = self._name(self._pending[0])
            if name in taken:
                break
            taken[name] = self._pending.popleft()
        return list(taken.values())

    async def _try(self, item: V) -> None:
        try:
            await self._write(item)
        except (StatusError, OSError, EOFError) as error:
            # A namespace that is being deleted takes no more events; nobody would read them.
            log.debug("event not written: %s", error)

    def _name(self, item: V) -> str:
        """Returns the name of the event that an item is about."""
        raise NotImplementedError

    async def _write(self, item: V) -> None:
        raise NotImplementedError


class EventRecorder(Recorder[Occurrence]):
    """Writes events as one component (`host`: on which node). `event` may be called from any coroutine's code."""

    def __init__(self, client: Client, clock: Clock, component: str, host: str = "") -> None:
        super().__init__()
        self._client = client
        self._clock = clock
        self._correlator = Correlator(component, host)

    def event(
        self,
        obj: Obj,
        type: str,
        reason: str,
        message: str,
        *,
        field_path: str = "",
        annotations: dict[str, str] | None = None,
        host: str = "",
    ) -> None:
        """Records that something happened to `obj`; `type` is Normal or Warning, `host` where if not on this node."""
        occurrence = self._correlator.occurrence(
            obj,
            type,
            reason,
            message,
            now=self._clock.now(),
            field_path=field_path,
            annotations=annotations,
            host=host,
        )
        if occurrence is not None:
            self._put(occurrence)

    def _name(self, item: Occurrence) -> str:
        return item.name

    async def _write(self, item: Occurrence) -> None:
        event = item.event
        if item.count > 1:
            changed = {key: event[key] for key in ("count", "lastTimestamp", "message")}
            try:
                await self._client.patch(EVENTS, item.name, changed, item.namespace)
                return
            except StatusError as error:
                if error.code != 404:
                    raise
            self._correlator.renew(item)
            event = {**event, "count": 1, "firstTimestamp": event["lastTimestamp"]}
        await self._client.create(EVENTS, event, item.namespace)
