"""Informers: a local, indexed copy of a resource, kept up to date by list and watch.

Reflector semantics follow upstream's client-go: list (or watch with sendInitialEvents), then watch from that revision
with bookmarks; after 410 list again; back off on errors. Objects in the cache are shared and must not be mutated.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Protocol

from proa.client.interface import Client
from proa.client.reflector import Reflector
from proa.meta.gvk import GVR
from proa.meta.objects import Obj, key_of, name_of, namespace_of, uid_of

log = logging.getLogger(__name__)

# Called with (old, new): (None, obj) when added, (old, new) when changed, (old, None) when deleted. Must not block.
Handler = Callable[[Obj | None, Obj | None], None]
Indexer = Callable[[Obj], Iterable[str]]


class Informer(Protocol):
    """The copy of one resource (of one namespace and selection)."""

    @property
    def synced(self) -> bool: ...

    def get(self, name: str, namespace: str = "") -> Obj | None: ...

    def objects(self, namespace: str = "") -> list[Obj]:
        """Returns all objects, or those of one namespace."""
        ...

    def indexed(self, index: str, value: str) -> list[Obj]:
        """Returns the objects for which the named index function yielded `value`."""
        ...

    def add_index(self, index: str, function: Indexer) -> None: ...

    def add_handler(self, handler: Handler) -> None:
        """Calls the handler for each object already there (as added) and for every change from now on."""
        ...

    async def wait_synced(self) -> None: ...


class Informers(Protocol):
    """A shared set: one informer, and one watch, per resource and selection.

    `start` runs those made so far and those made later.
    """

    client: Client

    def informer(
        self, resource: GVR, *, namespace: str = "", label_selector: str = "", field_selector: str = ""
    ) -> Informer: ...

    async def start(self) -> None: ...

    async def stop(self) -> None: ...


# ---------------------------------------------------------------- the implementation


class CachedInformer:
    """An `Informer` fed by a reflector (or, in tests, by hand through replace, put and remove).

    Objects are kept without managedFields.
    """

    def __init__(self) -> None:
        self._objects: dict[str, dict[str, Obj]] = {}  # namespace -> name -> object
        self._indexers: dict[str, Indexer] = {}
        self._indexes: dict[str, dict[str, dict[str, Obj]]] = {}  # index -> value -> key -> object
        self._handlers: list[Handler] = []
        self._synced = asyncio.Event()
        self.revision = 0  # the newest that the reflector has delivered
        self._leaving: dict[str, str] = {}  # uid -> when it was deleted by us, until the watch tells of it

    @property
    def synced(self) -> bool:
        return self._synced.is_set()

    def __len__(self) -> int:
        return sum(map(len, self._objects.values()))

    def get(self, name: str, namespace: str = "") -> Obj | None:
        found = self._objects.get(namespace)
        return found.get(name) if found else None

    def objects(self, namespace: str = "") -> list[Obj]:
        if namespace:
            return list(self._objects.get(namespace, {}).values())
        return [obj for part in self._objects.values() for obj in part.values()]

    def count(self, namespace: str) -> int:
        """Returns how many objects a namespace has."""
        return len(self._objects.get(namespace, ()))

    def indexed(self, index: str, value: str) -> list[Obj]:
        return list(self._indexes[index].get(value, {}).values())

    def count_indexed(self, index: str, value: str) -> int:
        """Returns how many objects `indexed` would return."""
        return len(self._indexes[index].get(value, ()))

    def index_values(self, index: str) -> list[str]:
        """Returns the values for which the index holds an object."""
        return list(self._indexes[index])

    def add_index(self, index: str, function: Indexer) -> None:
        if index in self._indexers:
            return  # shared informers: another component made the same index
        self._indexers[index] = function
        self._indexes[index] = {}
        for obj in self.objects():
            self._index(index, function, None, obj)

    def add_handler(self, handler: Handler) -> None:
        self._handlers.append(handler)
        for obj in self.objects():
            _call(handler, None, obj)

    async def wait_synced(self) -> None:
        await self._synced.wait()

    # One's own writes, seen before the watch reports them.

    def observe(self, obj: Obj) -> None:
        """Takes in what a write returned, unless the watch is already past it (it may be gone again by then)."""
        if _revision(obj) > self.revision and self.synced:
            self.put(obj)

    def observe_deletion(self, uid: str, name: str, namespace: str, stamp: str) -> None:
        """Shows an object that was just deleted as being deleted, until the watch reports what became of it.

        Changes from before the deletion may still come; they do not bring it back.
        """
        current = self.get(name, namespace)
        if current is None or current["metadata"].get("uid") != uid or current["metadata"].get("deletionTimestamp"):
            return
        self._leaving[uid] = stamp
        self._store({**current, "metadata": {**current["metadata"], "deletionTimestamp": stamp}}, current)

    # What the reflector calls.

    def replace(self, items: list[Obj], revision: int = 0) -> None:
        """Makes the cache hold exactly `items`, and what was observed after that `revision`."""
        present = {key_of(item) for item in items}
        self._leaving.clear()
        for obj in self.objects():
            if key_of(obj) not in present and not (revision and _revision(obj) > revision):
                self.remove(obj)
        for item in items:
            self.put(item)
        self.revision = revision
        self._synced.set()

    def put(self, obj: Obj) -> None:
        meta = obj["metadata"]
        old = self.get(meta["name"], meta.get("namespace") or "")
        if old is not None:
            if old["metadata"].get("uid") != meta.get("uid"):
                # Deleted and made again while nobody watched: handlers see both.
                self.remove(old)
                old = None
            elif _revision(obj) <= _revision(old):
                return
        if self._leaving and meta.get("uid") in self._leaving:
            if meta.get("deletionTimestamp"):
                del self._leaving[meta["uid"]]
            else:
                obj = {**obj, "metadata": {**meta, "deletionTimestamp": self._leaving[meta["uid"]]}}
        self._store(_trimmed(obj), old)

    def remove(self, obj: Obj) -> None:
        """Forgets an object; handlers get the last state that the deletion reports."""
        namespace = namespace_of(obj)
        part = self._objects.get(namespace)
        old = part.get(name_of(obj)) if part else None
        self._leaving.pop(uid_of(obj), None)
        if part is None or old is None or uid_of(old) != uid_of(obj):
            return  # unknown, or already made anew under the same name
        del part[name_of(obj)]
        if not part:
            del self._objects[namespace]
        for index, function in self._indexers.items():
            self._index(index, function, old, None)
        for handler in self._handlers:
            _call(handler, obj, None)

    def _store(self, new: Obj, old: Obj | None) -> None:
        self._objects.setdefault(namespace_of(new), {})[new["metadata"]["name"]] = new
        for index, function in self._indexers.items():
            self._index(index, function, old, new)
        for handler in self._handlers:
            _call(handler, old, new)

    def _index(self, index: str, function: Indexer, old: Obj | None, new: Obj | None) -> None:
        values = self._indexes[index]
        before = set(function(old)) if old is not None else set()
        after = set(function(new)) if new is not None else set()
        if not before and not after:
            return
        key = key_of(new if new is not None else old or {})
        for value in before - after:
            entries = values.get(value)
            if entries is not None:
                entries.pop(key, None)
                if not entries:
                    del values[value]
        if new is not None:
            for value in after:
                values.setdefault(value, {})[key] = new


def _trimmed(obj: Obj) -> Obj:
    """Returns an object without its managedFields, as upstream's components keep it: two fifths of a pod, which no
    component reads, and which the server adds to what they write.
    """
    meta = obj["metadata"]
    if "managedFields" not in meta:
        return obj
    return {**obj, "metadata": {key: value for key, value in meta.items() if key != "managedFields"}}


def _revision(obj: Obj) -> int:
    """Returns an object's resourceVersion as the number that it is (comparable since Kubernetes 1.35), else 0."""
    text = obj["metadata"].get("resourceVersion") or ""
    return int(text) if text.isdecimal() else 0


def _call(handler: Handler, old: Obj | None, new: Obj | None) -> None:
    try:
        handler(old, new)
    except Exception:
        log.exception("an informer's handler failed")


class SharedInformers:
    """The `Informers` of one process and identity."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self._informers: dict[tuple[GVR, str, str, str], tuple[CachedInformer, Reflector]] = {}
        self._tasks: dict[tuple[GVR, str, str, str], asyncio.Task[None]] = {}
        self._started = False

    def informer(
        self, resource: GVR, *, namespace: str = "", label_selector: str = "", field_selector: str = ""
    ) -> CachedInformer:
        key = (resource, namespace, label_selector, field_selector)
        if key not in self._informers:
            informer = CachedInformer()
            reflector = Reflector(
                self.client,
                resource,
                informer,
                namespace=namespace,
                label_selector=label_selector,
                field_selector=field_selector,
            )
            self._informers[key] = informer, reflector
            if self._started:
                self._run(key)
        return self._informers[key][0]

    def _run(self, key: tuple[GVR, str, str, str]) -> None:
        self._tasks[key] = asyncio.create_task(self._informers[key][1].run(), name=f"reflector {key[0].resource}")

    def observe(self, resource: GVR, obj: Obj) -> None:
        """Takes a write's result into the informer of the whole resource, if there is one."""
        found = self._informers.get((resource, "", "", ""))
        if found is not None:
            found[0].observe(obj)

    def observe_deletion(self, resource: GVR, uid: str, name: str, namespace: str, stamp: str) -> None:
        """Marks an object in the informer of the whole resource as being deleted."""
        found = self._informers.get((resource, "", "", ""))
        if found is not None:
            found[0].observe_deletion(uid, name, namespace, stamp)

    async def start(self) -> None:
        """Begins to mirror; returns at once (`wait_synced` waits)."""
        self._started = True
        for key in self._informers:
            if key not in self._tasks:
                self._run(key)

    async def wait_synced(self) -> None:
        """Waits until every informer made so far has its first list."""
        for informer, _ in list(self._informers.values()):
            await informer.wait_synced()

    async def drop(self, resource: GVR, *, namespace: str = "") -> None:
        """Stops and forgets an informer without selectors (of a resource that is no longer served)."""
        key = (resource, namespace, "", "")
        self._informers.pop(key, None)
        task = self._tasks.pop(key, None)
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def stop(self) -> None:
        self._started = False
        tasks = list(self._tasks.values())
        self._tasks.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
