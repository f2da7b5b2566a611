"""What the API server itself knows of its objects, for decisions: always current, straight from the store's memory.

Authorization, admission and authentication read through this; it never waits and never lags behind a write.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence

import msgspec

from proa.apis.registry import ResourceDef
from proa.apiserver.resources import Resources
from proa.meta.gvk import GVR
from proa.meta.objects import Obj
from proa.storage.interface import Entry, Event, Store

decode = msgspec.json.Decoder().decode

_OBJECTS_MAX = 4096
_LISTS_MAX = 512


class Live:
    """Objects by resource and name. They are shared: nobody may change them."""

    def __init__(self, store: Store, resources: Resources) -> None:
        self._store = store
        self._resources = resources
        self._objects: dict[tuple[GVR, str], tuple[int, Obj]] = {}
        self._lists: dict[tuple[GVR, str], tuple[int, tuple[Obj, ...]]] = {}

    def get(self, resource: GVR, name: str, namespace: str = "") -> Obj | None:
        """Returns the object as it is now, or None."""
        definition = self._resources.get(resource)
        key = f"{_table(definition)}{namespace}/{name}" if definition.namespaced else _table(definition) + name
        entry = self._store.current(key)
        return self._decoded(definition, entry) if entry is not None else None

    def list(self, resource: GVR, namespace: str = "") -> Sequence[Obj]:
        """Returns all objects, or those of one namespace; kept until anything of this resource changes."""
        definition = self._resources.get(resource)
        prefix = f"{_table(definition)}{namespace}/" if namespace and definition.namespaced else _table(definition)
        changes = self._store.changes(prefix)
        kept = self._lists.get((resource, prefix))
        if kept is not None and kept[0] == changes:
            return kept[1]
        found = tuple(self._decoded(definition, entry) for entry in self._store.currents(prefix))
        if len(self._lists) >= _LISTS_MAX:
            self._lists.clear()
        self._lists[(resource, prefix)] = changes, found
        return found

    def changes(self, resource: GVR) -> int:
        """Returns a number that moves with every change of this resource."""
        return self._store.changes(_table(self._resources.get(resource)))

    def counter(self, resource: GVR) -> Callable[[], int]:
        """Returns what tells the same as `changes`, for who asks at every write; only once the store has started."""
        return self._store.counter(_table(self._resources.get(resource)))

    def _decoded(self, definition: ResourceDef, entry: Entry) -> Obj:
        key = definition.gvr, entry.key
        kept = self._objects.get(key)
        if kept is not None and kept[0] == entry.revision:
            return kept[1]
        obj: Obj = decode(entry.value)
        if definition.from_stored is not None:
            obj = definition.from_stored(obj)
        elif definition.form is not None:
            definition.form.restore(obj)
            if not definition.form.needs_webhook(obj.get("apiVersion") or ""):
                definition.form.coerce(obj, definition.api_version)
        if len(self._objects) >= _OBJECTS_MAX:
            self._objects.clear()
        self._objects[key] = entry.revision, obj
        return obj

    def changed(self, resource: GVR, since: int) -> Sequence[Event] | None:
        """Returns the events after the first `since` changes of this resource; None if they are forgotten."""
        return self._store.changed(_table(self._resources.get(resource)), since)

    def entries(self, resource: GVR) -> Sequence[Entry]:
        return self._store.currents(_table(self._resources.get(resource)))


class LiveIndex:
    """Keys (`namespace/name`, or the name) of a resource's objects by what a function says of each.

    It catches up when it is asked, so it costs nothing in between.
    """

    def __init__(self, live: Live, resource: GVR, function: Callable[[Obj], Iterable[str]]) -> None:
        self._live = live
        self._resource = resource
        self._function = function
        self._since = -1
        self._values: dict[str, tuple[str, ...]] = {}
        self._keys: dict[str, set[str]] = {}

    def keys(self, value: str) -> Collection[str]:
        """Returns the keys of the objects that have this value."""
        self._catch_up()
        return self._keys.get(value, ())

    def _catch_up(self) -> None:
        changes = self._live.changes(self._resource)
        if changes == self._since:
            return
        events = self._live.changed(self._resource, self._since) if self._since >= 0 else None
        self._since = changes
        if events is None:
            self._values.clear()
            self._keys.clear()
            for entry in self._live.entries(self._resource):
                self._put(_key(entry), tuple(self._function(decode(entry.value))))
        else:
            for event in events:
                values = () if event.deleted else tuple(self._function(decode(event.entry.value)))
                self._put(_key(event.entry), values)

    def _put(self, key: str, values: tuple[str, ...]) -> None:
        old = self._values.pop(key, ())
        if values:
            self._values[key] = values
        if old == values:
            return
        for value in old:
            keys = self._keys[value]
            keys.discard(key)
            if not keys:
                del self._keys[value]
        for value in values:
            self._keys.setdefault(value, set()).add(key)


def _key(entry: Entry) -> str:
    return entry.key.partition("/")[2]


def _table(definition: ResourceDef) -> str:
    return definition.storage.replace("/", ".") + "/"
