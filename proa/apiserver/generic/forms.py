"""Stored objects of a custom resource as one of its versions shows them, and back: what may need a webhook.

The rest of a generic store deals with entries that are already in its version. Here they are made, once each: an entry
that is found to be as the definition wants it is shown as it is (its bytes are the answer), another gets a second
entry, which it keeps as long as it lives itself. A list is converted by one call of the webhook, and of many readers of
one entry one asks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from proa.apis.apiextensions.forms import Form
from proa.apiserver.encoding import decode, encode, to_value
from proa.meta.errors import StatusError
from proa.meta.objects import Obj, copy_object
from proa.storage.interface import Entry, Event

T = TypeVar("T")
# Turns objects of one kind into another version through a webhook: (its configuration, objects, apiVersion).
AskWebhook = Callable[[Obj, Sequence[Obj], str], Awaitable[list[Obj]]]
Convert = Callable[[Obj, str], Obj]

_BREATH_ENTRIES = 200  # so many are looked at before others may run
_BATCH_BYTES_MAX = 8 << 20


class WatchEnded(Exception):
    """The definition of the resource changed: whoever watches it has to begin anew."""


class _Missing(Exception):
    """A computation wants a conversion that is not there yet."""

    def __init__(self, obj: Obj, api_version: str, key: bytes) -> None:
        super().__init__(api_version)
        self.obj, self.api_version, self.key = obj, api_version, key


class Forms:
    """Reads and writes the stored objects of one version; `ask` is how its webhook is reached."""

    def __init__(self, form: Form, ask: AskWebhook | None) -> None:
        self._form = form
        self._ask = ask
        self._token = form.token
        self._running: dict[Entry, asyncio.Task[dict[Entry, Entry]]] = {}

    @property
    def token(self) -> Any:
        return self._token

    @property
    def has_webhook(self) -> bool:
        return self._form.webhook is not None

    # ------------------------------------------------------------ reading

    def _known(self, entry: Entry) -> Entry | None:
        kept = entry.form
        if kept is self._token:
            return entry
        if type(kept) is dict and self._token in kept:
            return kept[self._token] or entry
        return None

    async def show(self, entries: Sequence[Entry]) -> Sequence[Entry]:
        """Returns the entries as this version shows them; raises the 500 StatusError if the webhook fails."""
        token = self._token
        if all(entry.form is token for entry in entries):
            return entries
        shown: list[Entry | None] = []
        waiting: list[Entry] = []
        for index, entry in enumerate(entries):
            found = self._known(entry) or self._plainly(entry)
            shown.append(found)
            if found is None:
                waiting.append(entry)
            if index % _BREATH_ENTRIES == _BREATH_ENTRIES - 1:
                await asyncio.sleep(0)
        converted = await self._converted(waiting) if waiting else {}
        return [one or converted[entry] for one, entry in zip(shown, entries, strict=True)]

    async def show_one(self, entry: Entry) -> Entry:
        return self._known(entry) or (await self.show((entry,)))[0]

    async def show_events(self, events: Sequence[Event], *, previous: bool) -> Sequence[Event]:
        """Returns the events with what this version shows; their former states as well if `previous`."""
        entries = [event.entry for event in events]
        if previous:
            entries += [event.previous for event in events if event.previous is not None]
        shown = dict(zip(entries, await self.show(entries), strict=True))
        return [
            Event(shown[event.entry], event.previous and shown.get(event.previous, event.previous), event.deleted)
            for event in events
        ]

    def _plainly(self, entry: Entry) -> Entry | None:
        """Returns what is shown of an entry if that takes no webhook."""
        form = self._form
        obj: Obj = decode(entry.value)
        stored = obj.get("apiVersion") or ""
        if form.needs_webhook(stored):
            return None
        changed = form.restore(obj)
        if stored == form.api_version and not changed:
            self.keep(entry, None)
            return entry
        if stored != form.api_version:
            form.coerce(obj, form.api_version)
        return self._made(entry, obj)

    def _made(self, entry: Entry, obj: Obj) -> Entry:
        """Returns the entry that shows `obj` in the place of a stored one, which keeps it."""
        value = to_value(obj.get("kind") or "", self._form.api_version, obj)
        made = Entry(entry.key, value.at(entry.revision), entry.revision, entry.create_revision, value.gap)
        made.form = self._token
        self.keep(entry, made)
        return made

    def keep(self, entry: Entry, shown: Entry | None) -> None:
        """Remembers with a stored entry what is shown of it; None: itself."""
        kept = entry.form
        others = kept if type(kept) is dict else {kept: None} if kept is not None else {}
        others = {token: one for token, one in others.items() if not token.retired and token is not self._token}
        entry.form = {**others, self._token: shown} if others or shown is not None else self._token

    # ------------------------------------------------------------ the webhook

    async def _converted(self, entries: Sequence[Entry]) -> dict[Entry, Entry]:
        fresh = [entry for entry in entries if entry not in self._running]
        for batch in _batches(fresh):
            task = asyncio.ensure_future(self._convert_entries(batch))
            for entry in batch:
                self._running[entry] = task
        found: dict[Entry, Entry] = {}
        for task in {self._running[entry]: None for entry in entries}:
            found |= await asyncio.shield(task)
        return found

    async def _convert_entries(self, entries: Sequence[Entry]) -> dict[Entry, Entry]:
        """Asks for a batch; runs as a task of its own, for whoever asked first may leave before the others."""
        try:
            # Stored in different versions they need a call each.
            by_version: dict[str, list[tuple[Entry, Obj]]] = {}
            for entry in entries:
                obj: Obj = decode(entry.value)
                self._form.restore(obj)
                by_version.setdefault(obj.get("apiVersion") or "", []).append((entry, obj))
            made: dict[Entry, Entry] = {}
            for group in by_version.values():
                objects = await self._webhook([obj for _, obj in group], self._form.api_version)
                for (entry, _), obj in zip(group, objects, strict=True):
                    made[entry] = self._made(entry, obj)
            return made
        finally:
            for entry in entries:
                self._running.pop(entry, None)

    async def _webhook(self, objects: Sequence[Obj], api_version: str) -> list[Obj]:
        form = self._form
        if self._ask is None or form.webhook is None:
            raise StatusError(500, "", "this server cannot reach conversion webhooks")
        made = await self._ask(form.webhook, objects, api_version)
        return [form.coerce(obj, api_version) for obj in made]

    # ------------------------------------------------------------ writing

    async def stored(self, obj: Obj) -> Obj:
        """Returns an object of this version as it is to be stored; the argument may become part of it."""
        form = self._form
        if form.storage == form.api_version:
            return form.coerce(obj, form.storage)  # what admission added, unknown to the schema, goes
        if form.needs_webhook(form.api_version, form.storage):
            return (await self._webhook([obj], form.storage))[0]
        return form.coerce(copy_object(obj), form.storage)

    # ------------------------------------------------------------ computations

    def convert(self, obj: Obj, api_version: str) -> Obj:
        """Returns an object of any version in another, by the conversion strategy None."""
        return self._form.coerce(copy_object(obj), api_version)

    async def between(self, obj: Obj, api_version: str) -> Obj:
        """Returns an object of any version in another; raises the 500 StatusError if the webhook fails."""
        return await self.assisted(lambda convert: convert(obj, api_version))

    async def assisted(self, compute: Callable[[Convert], T]) -> T:
        """Runs a pure computation that converts objects between versions: again, each time it lacks a conversion.

        It is told of `_Missing` by its conversions and must let that pass.
        """
        if not self.has_webhook:
            return compute(self.convert)
        known: dict[bytes, Obj] = {}

        def convert(obj: Obj, api_version: str) -> Obj:
            if obj.get("apiVersion") == api_version:
                return obj
            if not any(obj[key] for key in obj if key not in ("apiVersion", "kind")):
                return {**obj, "apiVersion": api_version}
            key = api_version.encode() + b" " + encode(obj)
            if key not in known:
                raise _Missing(obj, api_version, key)
            return known[key]

        while True:
            try:
                return compute(convert)
            except _Missing as missing:
                known[missing.key] = (await self._webhook([missing.obj], missing.api_version))[0]


def _batches(entries: Sequence[Entry]) -> list[list[Entry]]:
    """Splits entries so that no request becomes too large for a webhook; as a rule there is one batch."""
    batches: list[list[Entry]] = []
    size = 0
    for entry in entries:
        if not batches or size + len(entry.value) > _BATCH_BYTES_MAX:
            batches.append([])
            size = 0
        batches[-1].append(entry)
        size += len(entry.value)
    return batches
