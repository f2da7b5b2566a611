"""Objects as bytes, encoded once: the stored value is the response, the list item and the watch event's object.

A value begins with the object's kind and apiVersion, which an item of a built-in kind's list leaves out (that is how
upstream answers), and has a gap for its own revision. What was decoded or framed lately is kept for a while, so that
one write is decoded and framed once for all its readers.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from importlib import import_module
from typing import Any, TypeVar

from proa.apis.registry import ResourceDef
from proa.meta.codec.json import encode as encode
from proa.meta.codec.json import encode_split
from proa.meta.codec.json import parse as decode
from proa.meta.objects import Obj
from proa.storage.interface import Entry, Value

T = TypeVar("T")


def to_value(kind: str, api_version: str, obj: Obj) -> Value:
    """Encodes an object of this kind; leaves it as it is."""
    return Value(*encode_split({"kind": kind, "apiVersion": api_version, **_without_type(obj)}))


def _without_type(obj: Obj) -> Obj:
    return {key: item for key, item in obj.items() if key not in ("kind", "apiVersion")}


def type_prefix(resource: ResourceDef) -> bytes:
    """Returns what every encoded object of this resource begins with, up to its metadata."""
    return b'{"kind":%b,"apiVersion":%b,' % (encode(resource.kind), encode(resource.api_version))


def protobuf() -> Any:
    """Returns the protobuf codec, imported when the first client wants it."""
    return import_module("proa.meta.codec.protobuf")


class Recent:
    """A small cache for things derived from revisions; forgets the oldest."""

    def __init__(self, count_max: int) -> None:
        self._count_max = count_max
        self._kept: dict[Hashable, Any] = {}

    def put(self, key: Hashable, value: Any) -> None:
        self._kept[key] = value
        if len(self._kept) > self._count_max:
            del self._kept[next(iter(self._kept))]

    def get(self, key: Hashable) -> Any:
        return self._kept.get(key)

    def derive(self, key: Hashable, make: Callable[[], T]) -> T:
        found: T | None = self._kept.get(key)
        if found is None:
            found = make()
            self.put(key, found)
        return found


class Decoded:
    """Decoded forms of entries. They are shared: nobody may change them.

    Invariant: an object in here is the decoded form of the one durable entry at its revision.
    """

    def __init__(self, count_max: int = 256) -> None:
        self._recent = Recent(count_max)

    def put(self, revision: int, obj: Obj) -> None:
        self._recent.put(revision, obj)

    def get(self, entry: Entry) -> Obj:
        """Returns the entry's object and keeps it: for what others are about to read as well."""
        found: Obj = self._recent.derive(entry.revision, lambda: decode(entry.value))
        return found

    def peek(self, entry: Entry) -> Obj:
        """Returns the entry's object without keeping it: for reading through many."""
        found: Obj | None = self._recent.get(entry.revision)
        return decode(entry.value) if found is None else found


__all__ = ["Decoded", "Recent", "decode", "encode", "protobuf", "to_value", "type_prefix"]
