"""Keeps the ControllerRevisions of DaemonSets and StatefulSets: finds or makes the current one, forgets old ones."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from proa.client.informer import CachedInformer
from proa.client.interface import MERGE_PATCH, Client
from proa.client.resources import CONTROLLERREVISIONS
from proa.controllers.ownership import CONTROLLER_INDEX, Claimer
from proa.controllers.revisions import data_of, make, number, ordered, same
from proa.controllers.runtime import ignore_absent
from proa.meta.errors import StatusError
from proa.meta.gvk import GVK
from proa.meta.objects import Obj, is_deleted, name_of, namespace_of, uid_of
from proa.meta.selectors import from_object


@dataclass(frozen=True, slots=True)
class Current:
    """`revision`: of the current template; `all`, oldest first; `collisions`: the owner's count, perhaps raised."""

    revision: Obj
    all: Sequence[Obj]
    collisions: int | None


class History:
    """The revisions of one kind of owner."""

    def __init__(self, client: Client, revisions: CachedInformer, claimer: Claimer, kind: GVK) -> None:
        self._client = client
        self._revisions = revisions
        self._claimer = claimer
        self._kind = kind

    async def owned(self, owner: Obj) -> list[Obj]:
        """Returns the owner's revisions, oldest first, after adopting and releasing what it should."""
        candidates = self._revisions.indexed(CONTROLLER_INDEX, uid_of(owner))
        if not is_deleted(owner):
            candidates += self._revisions.indexed(CONTROLLER_INDEX, f"orphan/{namespace_of(owner)}")
        selector = from_object(owner["spec"].get("selector"))
        return ordered(await self._claimer.claim(owner, selector, CONTROLLERREVISIONS, candidates))

    async def current(self, owner: Obj, labels: Mapping[str, str]) -> Current:
        """Returns the revision of the current template, made or brought to the front if necessary."""
        listed = await self.owned(owner)
        collisions = (owner.get("status") or {}).get("collisionCount")
        data = data_of(owner)
        newest = number(listed[-1]) if listed else 0
        equal = [one for one in listed if same(one, data)]
        if not equal:
            return await self._create(owner, labels, newest + 1, collisions, listed)
        found = equal[-1]
        if found is not listed[-1]:
            patch = {"revision": newest + 1}
            found = await self._client.patch(
                CONTROLLERREVISIONS, name_of(found), patch, namespace_of(owner), patch_type=MERGE_PATCH
            )
            listed = ordered([*(one for one in listed if uid_of(one) != uid_of(found)), found])
        return Current(found, listed, collisions)

    async def _create(
        self, owner: Obj, labels: Mapping[str, str], revision: int, collisions: int | None, listed: list[Obj]
    ) -> Current:
        while True:
            wanted = make(owner, self._kind, labels, revision, collisions)
            try:
                made = await self._client.create(CONTROLLERREVISIONS, wanted, namespace_of(owner))
            except StatusError as error:
                if error.reason != "AlreadyExists":
                    raise
                live = await self._client.get(CONTROLLERREVISIONS, name_of(wanted), namespace_of(owner))
                if same(live, wanted["data"]):
                    return Current(live, [*listed, live], collisions)
                collisions = (collisions or 0) + 1
                continue
            return Current(made, [*listed, made], collisions)

    async def forget(self, owner: Obj, listed: Sequence[Obj], live: Collection[str]) -> None:
        """Deletes the oldest revisions beyond the history limit; `live` are the names of those in use."""
        limit = owner["spec"].get("revisionHistoryLimit")
        unused = [one for one in listed if name_of(one) not in live]
        surplus = len(unused) - (10 if limit is None else int(limit))
        for one in unused[: max(0, surplus)]:
            await ignore_absent(self._client.delete(CONTROLLERREVISIONS, name_of(one), namespace_of(owner)))
