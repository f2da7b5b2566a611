"""Informers: a local, indexed copy of a resource, kept up to date by list and watch.

Reflector semantics follow upstream's client-go: list (or watch with sendInitialEvents), then watch from that revision
with bookmarks; after 410 list again; back off on errors. Objects in the cache are shared and must not be mutated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from proa.client.interface import Client
from proa.meta.gvk import GVR
from proa.meta.objects import Obj

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
