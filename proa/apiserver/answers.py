"""What a request comes to, before anybody asks in which form: an object, a list, or a document of another kind.

In-process clients take the decoded form, HTTP clients bytes; both come from the same entry.
"""

from __future__ import annotations

from dataclasses import dataclass

from proa.apis.registry import ResourceDef
from proa.apiserver.generic.store import GenericStore, Listing
from proa.meta.objects import Obj
from proa.storage.interface import Entry


@dataclass(slots=True)
class ObjectAnswer:
    """An object of a resource. Without an `entry` (a dry run, a virtual resource) `obj` is the whole answer."""

    store: GenericStore
    entry: Entry | None
    obj: Obj | None = None
    status: int = 200

    def decoded(self) -> Obj:
        if self.obj is not None and self.entry is None:
            return self.obj
        assert self.entry is not None
        return self.store.view(self.entry, keep=True)


@dataclass(slots=True)
class ListAnswer:
    """A list of a resource's objects."""

    store: GenericStore
    listing: Listing
    status: int = 200

    def metadata(self) -> Obj:
        meta: Obj = {"resourceVersion": str(self.listing.revision)}
        if self.listing.token or self.store.custom:
            meta["continue"] = self.listing.token  # always there for custom resources, as upstream has it
        if self.listing.remaining:
            meta["remainingItemCount"] = self.listing.remaining
        return meta

    def decoded(self) -> Obj:
        resource = self.store.resource
        return {
            "kind": resource.kind + "List",
            "apiVersion": resource.api_version,
            "metadata": self.metadata(),
            "items": [self.store.view(entry) for entry in self.listing.entries],
        }


@dataclass(slots=True)
class PlainAnswer:
    """Any other object: a Status, a Scale, a review."""

    obj: Obj
    status: int = 200

    def decoded(self) -> Obj:
        return self.obj


@dataclass(slots=True)
class ComputedAnswer:
    """An object or a list of a resource that is not stored but made for the request."""

    resource: ResourceDef
    obj: Obj
    status: int = 200

    def decoded(self) -> Obj:
        return self.obj

    def objects(self) -> list[Obj]:
        items: list[Obj] | None = self.obj.get("items")
        return [self.obj] if items is None else items


Answer = ComputedAnswer | ObjectAnswer | ListAnswer | PlainAnswer
