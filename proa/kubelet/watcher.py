"""Notices what changes in the runtime, and shows what it holds of a pod.

Where the runtime streams events, they say which pods changed. Where it does not (containerd before 1.7), the first
process of every running container is watched by a pidfd: its end wakes the loop at once and costs nothing until then.
A slow relist finds whatever both missed; it is fast only while some running container can't be watched.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from proa.kubelet.cri.types import CREATED, EXITED, RUNNING, Container, Runtime, RuntimeFailure, Sandbox
from proa.kubelet.plan import Observed
from proa.kubelet.podspec import POD_UID

log = logging.getLogger(__name__)

RELIST_SECONDS = 30.0
RELIST_SECONDS_UNWATCHED = 1.0
# What containerd says of a start whose caller went away.
_CUT_OFF = ("context canceled", "failed to start shim: start failed: : signal: killed")
_CONFIRM_SECONDS = (0.005, 0.01, 0.02, 0.04, 0.08, 0.15, 0.3, 0.6, 1.0, 2.0)


class RuntimeWatcher:
    """Calls `changed(uid)` for each pod whose sandboxes or containers changed state. Belongs to one event loop."""

    def __init__(self, runtime: Runtime, changed: Callable[[str], None]) -> None:
        self._runtime = runtime
        self._changed = changed
        self._statuses: dict[str, Container] = {}
        self._sandboxes: dict[str, Sandbox] = {}
        self._pidfds: dict[str, int] = {}
        self._confirming: set[asyncio.Task[None]] = set()
        self._seen: dict[str, frozenset[tuple[str, Any]]] = {}
        self._streaming = False
        self._unwatched: set[str] = set()
        self._hurry = asyncio.Event()
        self.relisted_at = 0.0
        self.failure = ""

    # ------------------------------------------------------------ looking at one pod

    async def observe(self, uid: str) -> Observed:
        """Returns what the runtime holds of the pod now, newest first; raises RuntimeFailure."""
        sandboxes, containers = await asyncio.gather(self._runtime.sandboxes(uid), self._runtime.containers(uid))
        self._seen[uid] = _signature(sandboxes, containers)
        if not self._seen[uid]:
            del self._seen[uid]
        detailed = await asyncio.gather(*(self._sandbox_status(one) for one in sandboxes))
        statuses = await asyncio.gather(*(self._container_status(one) for one in containers))
        by_name: dict[str, list[Container]] = {}
        for one in statuses:
            if one is not None:
                by_name.setdefault(one.name, []).append(one)
        return Observed(
            tuple(
                sorted((one for one in detailed if one), key=lambda one: (one.attempt, one.created_at), reverse=True)
            ),
            {
                name: tuple(sorted(found, key=lambda one: (one.created_at, one.attempt), reverse=True))
                for name, found in by_name.items()
            },
        )

    async def _sandbox_status(self, listed: Sandbox) -> Sandbox | None:
        known = self._sandboxes.get(listed.id)
        if known is None or known.ready != listed.ready or (known.ready and not known.addresses):
            try:
                known = await self._runtime.sandbox_status(listed.id)
            except RuntimeFailure as failure:
                if failure.code == "NOT_FOUND":
                    return None
                raise
            self._sandboxes[listed.id] = known
            if known.ready:
                self._watch_process(listed.id, known.pid, known.uid)
        return known

    async def _container_status(self, listed: Container) -> Container | None:
        known = self._statuses.get(listed.id)
        if known is None or known.state != listed.state:
            try:
                known = await self._runtime.container_status(listed.id)
            except RuntimeFailure as failure:
                if failure.code == "NOT_FOUND":
                    return None
                raise
            known = _complete(known, listed)
            self._statuses[listed.id] = known
            if known.state == RUNNING:
                self._watch_process(listed.id, known.pid, listed.labels.get(POD_UID, ""))
        return known

    # ------------------------------------------------------------ noticing changes

    async def run(self) -> None:
        """Notices changes until cancelled."""
        events = asyncio.create_task(self._follow_events())
        try:
            while True:
                try:
                    await self._relist()
                    self.failure = ""
                except RuntimeFailure as failure:
                    self.failure = failure.message
                    log.warning("relist: %s", failure.message)
                await self._pause()
        finally:
            events.cancel()
            for task in self._confirming:
                task.cancel()
            for key in list(self._pidfds):
                self._unwatch(key)

    async def _pause(self) -> None:
        """Waits until it is time to relist: a second while something can't be watched, else half a minute."""
        if not self._must_poll():
            self._hurry.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(RELIST_SECONDS):
                    await self._hurry.wait()
        if self._must_poll():
            await asyncio.sleep(RELIST_SECONDS_UNWATCHED)

    def _must_poll(self) -> bool:
        return bool(self.failure or (self._unwatched and not self._streaming))

    async def _follow_events(self) -> None:
        while True:
            try:
                async for uid in self._runtime.events():
                    self._streaming = True
                    self._changed(uid)
            except RuntimeFailure as failure:
                self._streaming = False
                if failure.code == "UNIMPLEMENTED":
                    return
            await asyncio.sleep(1.0)

    async def _relist(self) -> None:
        sandboxes, containers = await asyncio.gather(self._runtime.sandboxes(), self._runtime.containers())
        self.relisted_at = asyncio.get_running_loop().time()
        by_pod: dict[str, tuple[list[Sandbox], list[Container]]] = {}
        for sandbox in sandboxes:
            by_pod.setdefault(sandbox.labels.get(POD_UID, ""), ([], []))[0].append(sandbox)
        for container in containers:
            by_pod.setdefault(container.labels.get(POD_UID, ""), ([], []))[1].append(container)
        now = {uid: _signature(*parts) for uid, parts in by_pod.items() if uid}
        changed = [uid for uid in {*now, *self._seen} if now.get(uid) != self._seen.get(uid)]
        self._seen = now
        self._forget({one.id for one in sandboxes} | {one.id for one in containers})
        for uid in changed:
            self._changed(uid)

    def pods(self) -> set[str]:
        """The uids of all pods that the runtime was last seen to hold something of."""
        return set(self._seen)

    def _forget(self, alive: set[str]) -> None:
        for known in (self._statuses, self._sandboxes):
            for key in [key for key in known if key not in alive]:
                del known[key]
        for key in [key for key in self._pidfds if key not in alive]:
            self._unwatch(key)
        self._unwatched &= alive

    # ------------------------------------------------------------ pidfds

    def _watch_process(self, key: str, pid: int, uid: str) -> None:
        if key in self._pidfds or key in self._unwatched:
            return
        try:
            descriptor = os.pidfd_open(pid) if pid else -1
        except ProcessLookupError:
            self._ended(key, uid)
            return
        except OSError:
            descriptor = -1
        if descriptor < 0:
            self._unwatched.add(key)
            self._hurry.set()
            return
        self._pidfds[key] = descriptor
        asyncio.get_running_loop().add_reader(descriptor, self._ended, key, uid)

    def _unwatch(self, key: str) -> None:
        descriptor = self._pidfds.pop(key, -1)
        if descriptor >= 0:
            with contextlib.suppress(RuntimeError):
                asyncio.get_running_loop().remove_reader(descriptor)
            os.close(descriptor)

    def _ended(self, key: str, uid: str) -> None:
        self._unwatch(key)
        task = asyncio.create_task(self._confirm(key, uid))
        self._confirming.add(task)
        task.add_done_callback(self._confirming.discard)

    async def _confirm(self, key: str, uid: str) -> None:
        """The process is gone; waits until the runtime knows it too."""
        is_container = key in self._statuses
        for seconds in _CONFIRM_SECONDS:
            try:
                if is_container:
                    over = (await self._runtime.container_status(key)).state == EXITED
                else:
                    over = not (await self._runtime.sandbox_status(key)).ready
            except RuntimeFailure as failure:
                over = failure.code == "NOT_FOUND"
            if over:
                break
            await asyncio.sleep(seconds)
        self._changed(uid)


def _signature(sandboxes: Iterable[Sandbox], containers: Iterable[Container]) -> frozenset[tuple[str, Any]]:
    return frozenset([(one.id, one.ready) for one in sandboxes]) | frozenset(
        [(one.id, one.state) for one in containers]
    )


def _complete(status: Container, listed: Container) -> Container:
    """A status does not always say which sandbox it is in; the list does.

    A container whose start was cut off (the agent that asked for it died) never ran: it counts as not started.
    """
    state = CREATED if _was_cut_off(status) else status.state
    return replace(status, sandbox_id=listed.sandbox_id, labels=status.labels or listed.labels, state=state)


def _was_cut_off(status: Container) -> bool:
    started = status.state != EXITED or status.reason != "StartError" or status.started_at
    return not started and any(sign in status.message for sign in _CUT_OFF)
