"""Runs the garbage collector over every resource there is.

The graph of owners and dependents is an index of each resource's informer; nothing is kept twice. Before anything is
deleted for an owner that the cache does not show, the server is asked whether it is really absent.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import OrderedDict
from collections.abc import Callable, Iterable

from proa.client.informer import CachedInformer
from proa.client.interface import MERGE_PATCH, DeleteOptions
from proa.client.resources import APISERVICES, CUSTOMRESOURCEDEFINITIONS, EVENTS
from proa.controllers.discovery import AggregatedKinds, Kind, Kinds, custom_kind
from proa.controllers.garbage.plan import NOTHING, Owner, Plan, is_waiting, plan, references
from proa.controllers.runtime import Context, Controller, Result, Terminal, ignore_absent
from proa.meta.errors import StatusError
from proa.meta.gvk import GVR, split_api_version
from proa.meta.objects import (
    Obj,
    is_deleted,
    key_of,
    metadata,
    name_of,
    namespace_of,
    resource_version_of,
    split_key,
    uid_of,
)

log = logging.getLogger(__name__)

OWNERS_INDEX = "owners"
_ABSENT_MAX = 500
_UNKNOWN_KIND_SECONDS = 30.0
_SYNC_SECONDS = 0.5
# How often other API servers are asked what they serve, beside changes of their APIServices.
_UNDISCOVERED_SECONDS = 5.0
_DISCOVERED_SECONDS = 60.0


def by_owners(obj: Obj) -> Iterable[str]:
    """Index: the uids of an object's owners."""
    return [one["uid"] for one in references(obj)]


class GarbageCollector(Controller):
    name = "generic-garbage-collector"
    workers = 20

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        definitions = self.need(CUSTOMRESOURCEDEFINITIONS)
        self._kinds = Kinds(definitions)
        self._caches: dict[tuple[str, str], tuple[Kind, CachedInformer]] = {}  # by group and kind
        self._by_resource: dict[GVR, tuple[Kind, CachedInformer]] = {}
        self._owning: dict[GVR, tuple[Kind, CachedInformer]] = {}  # where an object with owners was ever seen
        self._absent: OrderedDict[str, None] = OrderedDict()
        self._drops: set[asyncio.Future[None]] = set()
        for kind in self._kinds.with_verbs("list", "watch", "delete"):
            self._mirror(kind)
        definitions.add_handler(self._definition_changed)
        api_services = self.need(APISERVICES)
        self._aggregated = AggregatedKinds(api_services, self.client)
        self._aggregated_changed = asyncio.Event()
        api_services.add_handler(self._api_service_changed)

    def _definition_changed(self, old: Obj | None, new: Obj | None) -> None:
        kind = custom_kind(new) if new is not None else None
        if kind is not None and kind.resource not in self._by_resource:
            self._mirror(kind)
        gone = custom_kind(old) if old is not None else None
        if gone is not None and (kind is None or kind.resource != gone.resource):
            self._forget(gone, replaced=kind is not None)

    def _forget(self, kind: Kind, *, replaced: bool) -> None:
        self._by_resource.pop(kind.resource, None)
        self._owning.pop(kind.resource, None)
        if not replaced:
            self._caches.pop(kind.group_kind, None)
        self._drops.add(asyncio.ensure_future(self.informers.drop(kind.resource)))

    def _api_service_changed(self, old: Obj | None, new: Obj | None) -> None:
        if any(one is not None and one["spec"].get("service") for one in (old, new)):
            self._aggregated_changed.set()

    def background(self) -> Iterable[Callable[[], object]]:
        return (self._follow_aggregated,)

    async def _follow_aggregated(self) -> None:
        """Mirrors what other API servers serve; of one that does not answer, what it was known to serve."""
        mirrored: dict[GVR, Kind] = {}
        look_again: float | None = None
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(look_again):
                    await self._aggregated_changed.wait()
            self._aggregated_changed.clear()
            found, failed = await self._aggregated.discover()
            wanted = {kind.resource: kind for kind in found if kind.can("list", "watch", "delete")}
            for resource, kind in list(mirrored.items()):
                if resource not in wanted and f"{resource.group}/{resource.version}" not in failed:
                    del mirrored[resource]
                    self._forget(kind, replaced=any(one.group_kind == kind.group_kind for one in wanted.values()))
            for resource, kind in wanted.items():
                if resource not in self._by_resource:
                    mirrored[resource] = kind
                    self._mirror(kind)
            look_again = _UNDISCOVERED_SECONDS if failed else _DISCOVERED_SECONDS if found else None

    def _mirror(self, kind: Kind) -> None:
        if kind.resource.resource == EVENTS.resource and not kind.resource.group:
            return  # events own nothing and are owned by nobody
        informer = self.informers.informer(kind.resource)
        if kind.resource not in self._by_resource and not self._tasks:
            self._watched.append(informer)
        self._caches[kind.group_kind] = self._by_resource[kind.resource] = kind, informer
        informer.add_index(OWNERS_INDEX, by_owners)

        def changed(old: Obj | None, new: Obj | None) -> None:
            self._changed(kind, old, new)

        informer.add_handler(changed)

    # ------------------------------------------------------------ what to look at

    def _changed(self, kind: Kind, old: Obj | None, new: Obj | None) -> None:
        if new is None:
            assert old is not None
            for dependent_kind, dependent in self._dependents(uid_of(old)):
                self._visit(dependent_kind, dependent)
            self._visit_waiting_owners(old)
            return
        owners = references(new)
        if owners and kind.resource not in self._owning:
            self._owning[kind.resource] = self._by_resource[kind.resource]
        if old is not None and references(old) != owners:
            self._visit_waiting_owners(old)
        if is_deleted(new):
            if metadata(new).get("finalizers"):
                self._visit(kind, new)
                if is_waiting(new) and (old is None or not is_waiting(old)):
                    for dependent_kind, dependent in self._dependents(uid_of(new)):
                        self._visit(dependent_kind, dependent)
        elif owners and (old is None or references(old) != owners):
            states = [self._cached_state(new, one) for one in owners]
            if any(state is not Owner.SOLID for state in states):
                self._visit(kind, new)

    def _visit(self, kind: Kind, obj: Obj) -> None:
        resource = kind.resource
        self.queue.add(f"{resource.group}|{resource.version}|{resource.resource}|{key_of(obj)}")

    def _visit_waiting_owners(self, obj: Obj) -> None:
        for reference in references(obj):
            found = self._owner(obj, reference)
            if found is not None and is_waiting(found[1]):
                self._visit(*found)

    def _dependents(self, uid: str) -> list[tuple[Kind, Obj]]:
        return [(kind, obj) for kind, informer in self._owning.values() for obj in informer.indexed(OWNERS_INDEX, uid)]

    def _place(self, obj: Obj, reference: Obj) -> tuple[Kind, CachedInformer] | None:
        try:
            group, _ = split_api_version(reference.get("apiVersion") or "")
        except ValueError:
            return None
        return self._caches.get((group, reference.get("kind") or ""))

    def _owner(self, obj: Obj, reference: Obj) -> tuple[Kind, Obj] | None:
        """Returns the owner as the cache shows it; None if it shows none with the reference's uid."""
        place = self._place(obj, reference)
        if place is None:
            return None
        kind, informer = place
        owner = informer.get(reference.get("name") or "", namespace_of(obj) if kind.namespaced else "")
        return (kind, owner) if owner is not None and uid_of(owner) == reference.get("uid") else None

    def _cached_state(self, obj: Obj, reference: Obj) -> Owner | None:
        found = self._owner(obj, reference)
        if found is None:
            return None
        return Owner.WAITING if is_waiting(found[1]) else Owner.SOLID

    # ------------------------------------------------------------ reconciling

    async def reconcile(self, key: str) -> Result | None:
        group, version, resource, object_key = key.split("|", 3)
        namespace, name = split_key(object_key)
        place = self._by_resource.get(GVR(group, version, resource))
        obj = place[1].get(name, namespace) if place else None
        if place is None or obj is None:
            return None
        kind = place[0]
        if is_deleted(obj) and not all(informer.synced for _, informer in self._by_resource.values()):
            return Result(_SYNC_SECONDS)  # who depends on it is not known yet
        states = []
        for reference in references(obj) if not is_deleted(obj) else ():
            state = self._cached_state(obj, reference) or await self._live_state(kind, obj, reference)
            if state is None:
                # Its kind is not served: perhaps its definition comes back.
                return Result(_UNKNOWN_KIND_SECONDS)
            states.append(state)
        dependents = self._dependents(uid_of(obj))
        step = plan(obj, states, [one for _, one in dependents])
        if step is not NOTHING:
            await self._carry_out(kind, obj, step, dependents)
        return None

    async def _live_state(self, kind: Kind, obj: Obj, reference: Obj) -> Owner | None:
        """Asks the server about an owner; None if its kind is unknown."""
        uid = reference.get("uid") or ""
        if uid in self._absent:
            self._absent.move_to_end(uid)
            return Owner.ABSENT
        place = self._place(obj, reference)
        if place is None:
            return None
        owner_kind = place[0]
        if owner_kind.namespaced and not kind.namespaced:
            text = f"ownerRef {reference.get('kind')} {reference.get('name')!r} is namespaced, its dependent is not"
            self.events.event(obj, "Warning", "OwnerRefInvalidNamespace", text)
            raise Terminal(text)
        namespace = namespace_of(obj) if owner_kind.namespaced else ""
        try:
            owner = await self.client.get(owner_kind.resource, reference.get("name") or "", namespace)
        except StatusError as error:
            if error.code != 404:
                raise
        else:
            if uid_of(owner) == uid:
                return Owner.WAITING if is_waiting(owner) else Owner.SOLID
        self._warn_of_other_namespace(obj, owner_kind, reference)
        self._absent[uid] = None
        if len(self._absent) > _ABSENT_MAX:
            self._absent.popitem(last=False)
        return Owner.ABSENT

    def _warn_of_other_namespace(self, obj: Obj, owner_kind: Kind, reference: Obj) -> None:
        informer = self._caches[owner_kind.group_kind][1]
        elsewhere = (
            any(uid_of(one) == reference.get("uid") for one in informer.objects()) if owner_kind.namespaced else 0
        )
        if elsewhere:
            text = (
                f"ownerRef [{reference.get('apiVersion')}/{reference.get('kind')}, name: {reference.get('name')}, "
                f'uid: {reference.get("uid")}] does not exist in namespace "{namespace_of(obj)}"'
            )
            self.events.event(obj, "Warning", "OwnerRefInvalidNamespace", text)

    async def _carry_out(self, kind: Kind, obj: Obj, step: Plan, dependents: list[tuple[Kind, Obj]]) -> None:
        uid = uid_of(obj)
        if step.orphan_dependents:
            for dependent_kind, dependent in dependents:
                kept = [one for one in references(dependent) if one.get("uid") != uid]
                await ignore_absent(self._patch(dependent_kind, dependent, {"ownerReferences": kept or None}))
        if step.visit_dependents:
            for dependent_kind, dependent in dependents:
                self._visit(dependent_kind, dependent)
        if step.unblock:
            listed = [{**one, "blockOwnerDeletion": False} for one in references(obj)]
            await self._patch(kind, obj, {"ownerReferences": listed})
        if step.finalizers is not None:
            await ignore_absent(self._patch(kind, obj, {"finalizers": list(step.finalizers) or None}))
        if step.owner_references is not None:
            await ignore_absent(self._patch(kind, obj, {"ownerReferences": list(step.owner_references) or None}))
        if step.delete is not None:
            # The revision makes sure that the owners are those that were judged.
            version = None if step.unblock else resource_version_of(obj)
            options = DeleteOptions(propagation=step.delete, uid=uid, resource_version=version)
            await ignore_absent(self.client.delete(kind.resource, name_of(obj), namespace_of(obj), options))

    async def _patch(self, kind: Kind, obj: Obj, changes: Obj) -> None:
        meta = {**changes, "uid": uid_of(obj), "resourceVersion": resource_version_of(obj)}
        await self.client.patch(
            kind.resource, name_of(obj), {"metadata": meta}, namespace_of(obj), patch_type=MERGE_PATCH
        )
