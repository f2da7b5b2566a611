"""Watch: the store's events as one watcher's selection sees them.

An object that begins to match is ADDED, one that ceases to is DELETED (shown as it last matched, with the revision of
the change). Bookmarks tell how far the watcher has come; the initial events of a streamed list end with one that says
so. Follows upstream's watch cache.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from proa.apiserver.generic.forms import Forms, WatchEnded
from proa.apiserver.generic.selection import ListQuery, Selection, stated_revision
from proa.apiserver.generic.store import GenericStore
from proa.meta.errors import gone
from proa.storage.interface import Compacted, Entry, Event, Watch

ADDED, MODIFIED, DELETED, BOOKMARK = "ADDED", "MODIFIED", "DELETED", "BOOKMARK"


@dataclass(frozen=True, slots=True)
class Change:
    """What a watcher sees of one event; `entry` is the object to show."""

    type: str
    entry: Entry


class ResourceWatch:
    """One watch of one resource. `revision` is how far it has come: what a bookmark may say."""

    __slots__ = ("_chosen", "_everything", "_initial", "_store", "_watch", "initial_revision")

    def __init__(
        self, store: GenericStore, chosen: Selection, watch: Watch, initial: Sequence[Entry], initial_revision: int
    ) -> None:
        self._store = store
        self._chosen = chosen
        self._everything = chosen.everything
        self._watch = watch
        self._initial = initial
        self.initial_revision = initial_revision

    @property
    def revision(self) -> int:
        return self._watch.revision

    def initial(self) -> Iterator[Change]:
        """Yields what is there already, each as ADDED; once."""
        entries, self._initial = self._initial, ()
        return (Change(ADDED, entry) for entry in entries)

    async def next(self, timeout_seconds: float | None) -> list[Change]:
        """Returns the next changes, none after the timeout; raises StatusErrors (410; 500 of a conversion that fails)
        and WatchEnded."""
        try:
            forms = self._store.forms
            if forms is None:
                events = await self._watch.next(timeout_seconds)
            else:
                events = await self._next_shown(forms, timeout_seconds)
        except Compacted as error:
            raise gone(f"too old resource version: {self._watch.revision} ({error.oldest})") from None
        if self._everything:
            return [Change(_plain_type(event), event.entry) for event in events]
        return [change for event in events if (change := self._seen(event)) is not None]

    async def _next_shown(self, forms: Forms, timeout_seconds: float | None) -> Sequence[Event]:
        """The next events of a custom resource; raises WatchEnded once its definition has changed."""
        waiting = asyncio.ensure_future(self._watch.next(timeout_seconds))
        forget = forms.token.on_retirement(waiting.cancel)
        try:
            events = await waiting
        except asyncio.CancelledError:
            if forms.token.retired:
                raise WatchEnded from None
            raise
        finally:
            forget()
        if forms.token.retired:
            raise WatchEnded
        return await forms.show_events(events, previous=not self._everything) if events else events

    def _seen(self, event: Event) -> Change | None:
        decoded = self._store.decoded
        now = not event.deleted and self._chosen.matches(event.entry, decoded)
        before = event.previous is not None and self._chosen.matches(event.previous, decoded)
        if now:
            return Change(MODIFIED if before else ADDED, event.entry)
        if not before:
            return None
        if event.deleted or event.previous is None:
            return Change(DELETED, event.entry)
        return Change(DELETED, event.previous.restamped(event.revision))


def _plain_type(event: Event) -> str:
    return DELETED if event.deleted else MODIFIED if event.previous is not None else ADDED


async def open_watch(
    store: GenericStore, namespace: str, chosen: Selection, version: str, send_initial: bool | None
) -> ResourceWatch:
    """Begins a watch from a resourceVersion; raises StatusErrors 500 and 504; one that is too old shows as the first
    thing that the watch yields.

    Empty or "0": what is there now, then changes, unless `send_initial` says no.
    """
    after = stated_revision(version) if version else 0
    if after > store.shared.store.revision:
        await store.reach(after)
    if send_initial or (send_initial is None and not after):
        listing = await store.list(namespace, chosen, ListQuery())
        watch = store.shared.store.watch(store.prefix(namespace), after=listing.revision)
        return ResourceWatch(store, chosen, watch, listing.entries, listing.revision)
    start = after or store.shared.store.revision
    return ResourceWatch(store, chosen, store.shared.store.watch(store.prefix(namespace), after=start), (), start)
