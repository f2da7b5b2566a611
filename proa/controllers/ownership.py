"""Which objects a controller owns: adoption of matching orphans, release of those that no longer match.

`plan_claims` is pure; `Claimer` carries it out. The rules are upstream's controller references: an object has at most
one controller, and the server's current state of the owner is read before anything is adopted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from proa.client.informer import CachedInformer
from proa.client.interface import STRATEGIC_PATCH, Client
from proa.controllers.pods import owner_reference
from proa.meta.errors import StatusError
from proa.meta.gvk import GVK, GVR
from proa.meta.objects import Obj, controller_of, is_deleted, labels_of, name_of, namespace_of, split_key, uid_of
from proa.meta.selectors import LabelSelector

CONTROLLER_INDEX = "controller"
MATCHED_LABEL_INDEX = "matched label"


def by_controller(obj: Obj) -> Iterable[str]:
    """Index: the uid of an object's controller, or `orphan/NAMESPACE` if it has none."""
    reference = controller_of(obj)
    return (reference["uid"],) if reference else (f"orphan/{namespace_of(obj)}",)


def by_matched_label(owner: Obj) -> Iterable[str]:
    """Index: one pair of labels that an owner's selector asks for, so that an orphan's possible owners are found by its
    labels without trying them all; `NAMESPACE/` if it asks for no pair.
    """
    selector = (owner.get("spec") or {}).get("selector") or {}
    labels = selector if all(type(one) is str for one in selector.values()) else selector.get("matchLabels") or {}
    key, value = min(labels.items(), default=("", ""))
    return (f"{namespace_of(owner)}/{key}={value}" if key else f"{namespace_of(owner)}/",)


def selecting(owners: CachedInformer, obj: Obj, selector: Callable[[Obj], LabelSelector]) -> list[Obj]:
    """Returns the owners in the object's namespace that select it; they have the index `by_matched_label`."""
    labels, namespace = labels_of(obj), namespace_of(obj)
    values = [f"{namespace}/", *(f"{namespace}/{key}={value}" for key, value in labels.items())]
    return [
        owner
        for value in values
        for owner in owners.indexed(MATCHED_LABEL_INDEX, value)
        if selector(owner).matches(labels)
    ]


def count_controlled(owners: CachedInformer, dependents: CachedInformer, key: str) -> int:
    """Returns how many objects the owner of that key controls, by the informer's index."""
    namespace, name = split_key(key)
    owner = owners.get(name, namespace)
    return dependents.count_indexed(CONTROLLER_INDEX, uid_of(owner)) if owner is not None else 0


@dataclass(frozen=True, slots=True)
class Claims:
    """`owned` stay, `adopt` become owned, `release` go free."""

    owned: tuple[Obj, ...]
    adopt: tuple[Obj, ...] = ()
    release: tuple[Obj, ...] = ()


def plan_claims(owner: Obj, selector: LabelSelector, candidates: Iterable[Obj]) -> Claims:
    """Sorts objects of the owner's namespace by whether the owner controls them, should, or should not."""
    owned: list[Obj] = []
    adopt: list[Obj] = []
    release: list[Obj] = []
    uid = uid_of(owner)
    for obj in candidates:
        reference = controller_of(obj)
        matches = selector.matches(labels_of(obj))
        if reference is not None:
            if reference.get("uid") != uid:
                continue
            if matches or is_deleted(owner):
                owned.append(obj)
            else:
                release.append(obj)
        elif matches and not is_deleted(owner) and not is_deleted(obj):
            adopt.append(obj)
    return Claims(tuple(owned), tuple(adopt), tuple(release))


class Claimer:
    """Carries claims out for owners of one kind. `finalizers` go onto what is adopted and off what is released."""

    def __init__(self, client: Client, owner_resource: GVR, owner_kind: GVK, finalizers: Sequence[str] = ()) -> None:
        self._client = client
        self._owner_resource = owner_resource
        self._owner_kind = owner_kind
        self._finalizers = list(finalizers)

    async def claim(self, owner: Obj, selector: LabelSelector, resource: GVR, candidates: Iterable[Obj]) -> list[Obj]:
        """Adopts and releases as planned; returns what the owner controls now."""
        claims = plan_claims(owner, selector, candidates)
        owned = list(claims.owned)
        for obj in claims.release:
            await self._release(owner, resource, obj)
        if claims.adopt and await self._may_adopt(owner):
            for obj in claims.adopt:
                adopted = await self._adopt(owner, resource, obj)
                if adopted is not None:
                    owned.append(adopted)
        return owned

    async def _may_adopt(self, owner: Obj) -> bool:
        try:
            live = await self._client.get(self._owner_resource, name_of(owner), namespace_of(owner))
        except StatusError as error:
            if error.code == 404:
                return False
            raise
        return uid_of(live) == uid_of(owner) and not is_deleted(live)

    async def _adopt(self, owner: Obj, resource: GVR, obj: Obj) -> Obj | None:
        meta: Obj = {"ownerReferences": [owner_reference(owner, self._owner_kind)], "uid": uid_of(obj)}
        if self._finalizers:
            meta["finalizers"] = self._finalizers
        return await self._patch(resource, obj, {"metadata": meta})

    async def _release(self, owner: Obj, resource: GVR, obj: Obj) -> None:
        meta: Obj = {"ownerReferences": [{"$patch": "delete", "uid": uid_of(owner)}], "uid": uid_of(obj)}
        if self._finalizers:
            meta["$deleteFromPrimitiveList/finalizers"] = self._finalizers
        await self._patch(resource, obj, {"metadata": meta})

    async def _patch(self, resource: GVR, obj: Obj, patch: Obj) -> Obj | None:
        try:
            return await self._client.patch(
                resource, name_of(obj), patch, namespace_of(obj), patch_type=STRATEGIC_PATCH
            )
        except StatusError as error:
            # Gone, or another object of that name (the patch's uid did not fit): nothing to claim.
            if error.code in (404, 422):
                return None
            raise
