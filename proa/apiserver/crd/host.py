"""Follows the definitions of custom resources: accepts their names, serves their resources, clears them away.

Follows upstream's apiextensions controllers (naming, establishing, API approval, finalizer) by behaviour. Every API
server runs one; what they write is the same, so they need no leader. A change costs what the changed definition costs,
however many others there are.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from proa.apis.apiextensions.custom_resources import resources_of
from proa.apis.apiextensions.naming import (
    CLEANUP,
    TERMINATING,
    TakenNames,
    established_status,
    is_established,
    is_served,
    is_true,
    names_status,
    terminating_status,
)
from proa.apis.apiextensions.outline import outline
from proa.apis.registry import ResourceDef
from proa.apiserver.api import Core
from proa.apiserver.generic.deletion import DeleteRequest, delete_collection
from proa.apiserver.generic.selection import ListQuery, selection
from proa.apiserver.generic.shared import Call
from proa.apiserver.generic.watching import open_watch
from proa.client.interface import UserInfo
from proa.meta.errors import StatusError
from proa.meta.gvk import GVR
from proa.meta.objects import Obj, copy_object, is_deleted, metadata, name_of
from proa.storage.interface import Entry
from proa.util.clock import rfc3339

log = logging.getLogger("proa.apiserver.crd")

DEFINITIONS = GVR("apiextensions.k8s.io", "v1", "customresourcedefinitions")
_USER = UserInfo("system:apiserver", ("system:masters",))
_MANAGER = "kube-apiserver"
_RETRY_SECONDS = 1.0


@dataclass(slots=True)
class _Served:
    """A definition in outline at a revision, and what it makes: `made` are all versions, the unserved ones too."""

    definition: Obj
    revision: int = 0
    relevant: Obj = field(default_factory=dict)
    made: list[ResourceDef] = field(default_factory=list)

    @property
    def group(self) -> str:
        return str(self.definition["spec"].get("group") or "")


class CustomResources:
    """Keeps `core.resources` in step with the stored definitions, from `start` to `stop`."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._resource = core.resources.get(DEFINITIONS)
        self._store = core.store(self._resource)
        self._known: dict[str, _Served] = {}
        self._taken = TakenNames()
        self._refused: dict[str, set[str]] = {}  # by group: definitions that want names which others have
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Serves what is stored already, then follows changes."""
        names = self._read_all()
        if names:
            await self._settle(names)
        self._task = asyncio.create_task(self._run(), name="custom resource definitions")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    def _read_all(self) -> list[str]:
        """Takes note of all definitions; returns the names of those that changed, first come first, of those that went
        and of those that wait for names."""
        entries = self._core.shared.store.currents(self._store.prefix(""))
        changed: list[tuple[str, str]] = []
        names: set[str] = set()
        for entry in entries:
            name = entry.key.rpartition("/")[2]
            names.add(name)
            known = self._known.get(name)
            if known is None or known.revision != entry.revision:
                one, _ = self._learn(entry)
                changed.append((metadata(one.definition).get("creationTimestamp", ""), name))
        gone = [name for name in self._known if name not in names]
        waiting = [name for refused in self._refused.values() for name in refused]
        return [name for _, name in sorted(changed)] + gone + waiting

    async def _run(self) -> None:
        while True:
            with contextlib.suppress(StatusError):
                watch = await open_watch(self._store, "", selection(self._resource, {}), "", send_initial=False)
                again = await self._settle(self._read_all())
                while True:
                    changes = await watch.next(_RETRY_SECONDS if again else None)
                    changed = dict.fromkeys(change.entry.key.rpartition("/")[2] for change in changes)
                    again = await self._settle([*changed, *(name for name in again if name not in changed)])
            await asyncio.sleep(_RETRY_SECONDS)

    # ------------------------------------------------------------ one definition

    async def _settle(self, names: Iterable[str]) -> list[str]:
        """Brings these definitions into step, and those that wait for names they give free; returns what to retry."""
        again: list[str] = []
        queue = dict.fromkeys(names)
        while queue:
            name = next(iter(queue))
            del queue[name]
            try:
                if await self._one(name, queue):
                    again.append(name)
            except StatusError as error:
                log.warning("custom resource definition %s: %s", name, error)
                again.append(name)
        return again

    async def _one(self, name: str, queue: dict[str, None]) -> bool:
        """Returns whether to try again soon; adds to the queue who may profit."""
        one = self._read(name, queue)
        if one is None:
            return False
        if is_deleted(one.definition):
            return await self._clear(name, one, queue)
        status = names_status(one.definition, self._taken, self._now())
        if status != one.definition.get("status"):
            await self._write_status(name, lambda old: names_status(old, self._taken, self._now()))
            one = self._read(name, queue)
            if one is None:
                return True
        self._serve(name, one)
        if is_served(one.definition) and not is_established(one.definition):
            await self._write_status(name, lambda old: established_status(old.get("status") or {}, self._now()))
            one = self._read(name, queue)
        return False

    def _read(self, name: str, queue: dict[str, None]) -> _Served | None:
        """Returns a definition as it is now, or None if it is gone: then it is served no more."""
        entry = self._core.shared.store.current(self._store.key("", name))
        if entry is not None:
            known = self._known.get(name)
            if known is not None and known.revision == entry.revision:
                return known
            one, freed = self._learn(entry)
            if freed:
                queue.update(dict.fromkeys(self._refused.get(one.group, ())))
            return one
        gone = self._known.pop(name, None)
        if gone is not None:
            self._core.resources.set_custom(name, ())
            self._retire(gone.made)
            self._refused.get(gone.group, set()).discard(name)
            if self._taken.forget(name):
                queue.update(dict.fromkeys(self._refused.get(gone.group, ())))
        return None

    def _learn(self, entry: Entry) -> tuple[_Served, bool]:
        """Takes note of a definition; returns it, and whether its names changed."""
        definition = outline(entry.value)
        name = name_of(definition)
        one = self._known.get(name)
        if one is None:
            one = self._known[name] = _Served(definition)
        one.definition, one.revision = definition, entry.revision
        conditions = (definition.get("status") or {}).get("conditions") or ()
        refused = self._refused.setdefault(one.group, set())
        if any(each.get("type") == "NamesAccepted" and each.get("status") == "False" for each in conditions):
            refused.add(name)
        else:
            refused.discard(name)
        return one, self._taken.learn(definition)

    def _serve(self, name: str, one: _Served) -> None:
        definition = one.definition
        status = definition.get("status") or {}
        relevant = {
            "spec": definition["spec"],
            "names": status.get("acceptedNames"),
            "served": is_served(definition),
            "terminating": is_true(status.get("conditions") or (), TERMINATING),
        }
        if one.relevant == relevant:
            # The same bytes need not stay in memory twice.
            for kept, new in zip(one.relevant["spec"]["versions"], definition["spec"]["versions"], strict=True):
                kept["schema"] = new["schema"]
            return
        before = one.made
        one.relevant, one.made = relevant, resources_of(definition, unserved=True) if relevant["served"] else []
        served = {version["name"] for version in definition["spec"]["versions"] if version.get("served")}
        self._core.resources.set_custom(name, [each for each in one.made if each.version in served])
        self._retire(before)

    def _retire(self, made: Iterable[ResourceDef]) -> None:
        """Lets go of what is served no more, or otherwise now; its watches end."""
        for one in made:
            self._core.forget(one)
            if one.form is not None:
                one.form.token.retire()

    def _now(self) -> str:
        return rfc3339(self._core.shared.clock.now())

    async def _write_status(self, name: str, change: Callable[[Obj], Obj]) -> None:
        async def produce(old: Obj | None) -> Obj:
            changed: Obj = copy_object(old)
            changed["status"] = change(changed)
            return changed

        call = Call(user=_USER, name=name, subresource="status", field_manager=_MANAGER)
        await self._store.update(call, produce, sub=self._resource.subresource("status"))

    # ------------------------------------------------------------ deletion

    async def _clear(self, name: str, one: _Served, queue: dict[str, None]) -> bool:
        """Deletes the objects of a definition that goes; with the last one goes the definition. Returns if any stay."""
        self._serve(name, one)
        if CLEANUP not in (metadata(one.definition).get("finalizers") or ()):
            return False
        status = one.definition.get("status") or {}
        if not is_true(status.get("conditions") or (), TERMINATING):
            await self._write_status(name, lambda old: terminating_status(old.get("status") or {}, self._now()))
            read = self._read(name, queue)
            if read is None:
                return False
            one = read
            self._serve(name, one)
        # The stored version is read without any conversion.
        stored = next((each for each in one.made if each.form and each.form.storage == each.api_version), None)
        if stored is not None:
            store = self._core.store(stored)
            await delete_collection(store, Call(user=_USER), selection(stored, {}), ListQuery(), DeleteRequest())
            if self._core.shared.store.count(store.prefix("")):
                return True

        async def produce(old: Obj | None) -> Obj:
            changed: Obj = copy_object(old)
            changed["metadata"]["finalizers"] = [one for one in changed["metadata"]["finalizers"] if one != CLEANUP]
            return changed

        await self._store.update(Call(user=_USER, name=name, field_manager=_MANAGER), produce)
        self._read(name, queue)
        return False
