"""How a controller runs: keys in a queue, workers that reconcile one key each, and what becomes of the outcome.

A controller watches resources, maps what changes to keys, and reconciles a key from what the informers hold now. Its
outcome is done, `Result(requeue_after_seconds)` to look again later, `Terminal` (give up until something changes), or
any other exception: try again with growing delays.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import ClassVar

from proa.client.events import EventRecorder
from proa.client.informer import CachedInformer, SharedInformers
from proa.client.interface import Client
from proa.client.observing import ObservingClient
from proa.client.workqueue import ShutDown, WorkQueue
from proa.meta.errors import StatusError
from proa.meta.gvk import GVR
from proa.meta.objects import Obj, key_of
from proa.util.clock import Clock

log = logging.getLogger(__name__)

Keys = Callable[[Obj], Iterable[str]]
# How long a change waits for others per object that reconciling its key looks at, so that a controller of thousands of
# pods spends a fifth of its time on looking, not all of it.
GATHER_SECONDS_PER_OBJECT = 100e-6
GATHER_SECONDS_MAX = 2.0
GATHER_OBJECTS_MIN = 100


@dataclass(frozen=True, slots=True)
class Result:
    """A reconciliation that went well; `requeue_after_seconds` asks for another look later."""

    requeue_after_seconds: float | None = None


DONE = Result()


class Terminal(Exception):
    """Trying again would not help until something changes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What every controller is made with. `client_for` gives the client of a service account in kube-system."""

    informers: SharedInformers
    clock: Clock
    client_for: Callable[[str], Client]


class Controller:
    """Base of all controllers. Override `reconcile`."""

    name: ClassVar[str]
    service_account: ClassVar[str] = ""  # whose identity it acts as, by default its name
    workers: ClassVar[int] = 4
    event_source: ClassVar[str] = ""  # component of its events, by default the name

    def __init__(self, context: Context) -> None:
        self.context = context
        self.informers = context.informers
        self.clock = context.clock
        self.client: Client = ObservingClient(
            context.client_for(self.service_account or self.name), context.informers, context.clock
        )
        self.events = EventRecorder(self.client, context.clock, self.event_source or self.name)
        self.queue: WorkQueue[str] = WorkQueue(self.name)
        self.outcomes = dict.fromkeys(("done", "requeued", "retried", "terminal"), 0)
        self._watched: list[CachedInformer] = []
        self._tasks: list[asyncio.Task[None]] = []

    async def reconcile(self, key: str) -> Result | None:
        """Makes the world fit the object `key` names (it may be gone); None means done."""
        raise NotImplementedError

    def background(self) -> Iterable[Callable[[], object]]:
        """Returns coroutine functions to run beside the workers, for what comes round with time."""
        return ()

    # ------------------------------------------------------------ watching

    def need(self, resource: GVR) -> CachedInformer:
        """Returns the shared informer of a resource; the workers wait until it is synced."""
        informer = self.informers.informer(resource)
        if informer not in self._watched:
            self._watched.append(informer)
        return informer

    def watch(
        self,
        resource: GVR,
        keys: Keys = lambda obj: (key_of(obj),),
        *,
        relevant: Callable[[Obj], object] | None = None,
        weigh: Callable[[str], int] | None = None,
    ) -> CachedInformer:
        """Queues `keys(obj)` for every change of the resource, for the old and the new state.

        With `relevant`, only if what it returns has changed. `weigh` says how many objects a reconciliation of the key
        looks at: where these are many, changes gather for a moment first.
        """
        informer = self.need(resource)

        def changed(old: Obj | None, new: Obj | None) -> None:
            if relevant is not None and old is not None and new is not None and relevant(old) == relevant(new):
                return
            found = set(keys(old)) if old is not None else set()
            if new is not None:
                found.update(keys(new))
            for key in sorted(found):
                self.queue.add_after(key, gathering_seconds(weigh(key)) if weigh is not None else 0.0)

        informer.add_handler(changed)
        return informer

    # ------------------------------------------------------------ running

    async def start(self) -> None:
        """Starts the workers; they begin once the informers are synced. Returns at once."""
        self._tasks = [asyncio.create_task(self._work(), name=f"{self.name} {n}") for n in range(self.workers)]
        self._tasks += [
            asyncio.create_task(self._run(one), name=f"{self.name} background") for one in self.background()
        ]

    async def stop(self) -> None:
        self.queue.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.events.stop()

    async def synced(self) -> None:
        for informer in self._watched:
            await informer.wait_synced()

    async def _run(self, function: Callable[[], object]) -> None:
        await self.synced()
        try:
            await function()  # type: ignore[misc]
        except Exception:
            log.exception("%s: a background task failed", self.name)

    async def _work(self) -> None:
        await self.synced()
        while True:
            try:
                key = await self.queue.get()
            except ShutDown:
                return
            try:
                await self._process(key)
            finally:
                self.queue.done(key)

    async def _process(self, key: str) -> None:
        try:
            result = await self.reconcile(key) or DONE
        except Terminal as error:
            log.info("%s: %s: %s", self.name, key, error)
            self._finish(key, "terminal")
        except StatusError as error:
            if is_namespace_terminating(error):
                self._finish(key, "terminal")
                return
            # Conflicts and vanished objects are the normal course of things: the cache was a moment behind.
            level = logging.DEBUG if error.code in (404, 409) else logging.WARNING
            log.log(level, "%s: %s: %s", self.name, key, error)
            self._retry(key)
        except (OSError, EOFError) as error:
            log.debug("%s: %s: %s", self.name, key, error)
            self._retry(key)
        except Exception:
            log.exception("%s: %s failed", self.name, key)
            self._retry(key)
        else:
            self._finish(key, "done" if result.requeue_after_seconds is None else "requeued")
            if result.requeue_after_seconds is not None:
                self.queue.add_after(key, result.requeue_after_seconds)

    def _finish(self, key: str, outcome: str) -> None:
        self.outcomes[outcome] += 1
        self.queue.forget(key)

    def _retry(self, key: str) -> None:
        self.outcomes["retried"] += 1
        self.queue.add_rate_limited(key)


def gathering_seconds(objects: int) -> float:
    """Returns how long changes gather before a reconciliation that looks at so many objects."""
    if objects < GATHER_OBJECTS_MIN:
        return 0.0
    return min(objects * GATHER_SECONDS_PER_OBJECT, GATHER_SECONDS_MAX)


def is_namespace_terminating(error: StatusError) -> bool:
    """Tells whether a creation failed because its namespace is being deleted."""
    causes = (error.details or {}).get("causes") or []
    return any(cause.get("reason") == "NamespaceTerminating" for cause in causes)


async def ignore_absent(awaitable: object) -> None:
    """Awaits a write and accepts that its object is already gone."""
    try:
        await awaitable  # type: ignore[misc]
    except StatusError as error:
        if error.code != 404:
            raise
