"""Keeps what is served in step with the stored APIServices: remotes, their availability, and the APIServices that stand
for custom resources.

Every API server runs one. With no remote APIService it only waits; each remote one costs a request in 30 seconds, as
upstream's does, which is at once the health check and the source of discovery.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterable, Mapping
from typing import Protocol

import msgspec

from proa.apis.discovery_documents import ServedVersion
from proa.apis.registry import ResourceDef
from proa.apiserver.aggregator.plan import (
    LOCAL,
    PASSED,
    GroupVersion,
    Reference,
    Verdict,
    check_service,
    failed_check,
    is_available,
    is_own,
    reference,
    registrations,
    version_discovery,
    with_verdict,
)
from proa.apiserver.aggregator.remote import Clients, Remote
from proa.apiserver.aggregator.writing import ApiServiceWriter
from proa.apiserver.api import Core
from proa.apiserver.generic.selection import selection
from proa.apiserver.generic.watching import open_watch
from proa.apiserver.live import Live
from proa.apiserver.special.endpoints import SERVICE_NAME, ServiceEndpoints
from proa.client.interface import UserInfo
from proa.client.resources import APISERVICES, ENDPOINTSLICES, SERVICES
from proa.meta.errors import StatusError
from proa.meta.gvk import GVR
from proa.meta.objects import Obj, labels_of, metadata, name_of, namespace_of
from proa.wire.http import BodyTooLarge

log = logging.getLogger("proa.apiserver.aggregator")

AGGREGATOR = UserInfo("system:kube-aggregator", ("system:masters",))
_RECHECK_SECONDS = 30.0
_RETRY_SECONDS_FIRST = 0.05
_CHECK_SECONDS_MAX = 5.0
_CHECKS_MAX = 5
_DOCUMENT_BYTES_MAX = 8 << 20
_FAILURE_SECONDS = 1.0


class Optional(Protocol):
    """Resources of our own that are served only while an APIService says so."""

    def definitions(self) -> Iterable[ResourceDef]: ...

    def serve(self, on: bool) -> None:
        """Begins or ceases to answer for them."""
        ...


class Aggregator:
    """Fills `core.delegates` until `stop`. `optional` are resources of our own that are served only while a local
    APIService of this name exists."""

    def __init__(
        self,
        core: Core,
        live: Live,
        endpoints: ServiceEndpoints,
        clients: Clients,
        optional: Mapping[str, Optional],
    ) -> None:
        self._core = core
        self._optional = optional
        self._live = live
        self._endpoints = endpoints
        self._clients = clients
        self._writer = ApiServiceWriter(core)
        self._changes = 0
        self._priorities: tuple[int, dict[GroupVersion, tuple[int, int]]] = (-1, {})
        self._remotes: dict[str, Remote] = {}
        self._checks: dict[str, asyncio.Task[None]] = {}
        self._pokes: dict[str, asyncio.Event] = {}
        self._customs_changed = asyncio.Event()
        self._touched: set[str] = set()  # APIServices that changed since those of custom resources were looked at
        self._has_remotes = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        core.resources.listeners.append(self._customs_changed.set)

    def connect(self) -> None:
        """Makes a remote of each APIService with a service, and forgets those that are gone."""
        for name in self._names():
            self._take(name)

    def _names(self) -> set[str]:
        return {*map(name_of, self._live.list(APISERVICES)), *self._remotes, *self._optional}

    def _take(self, name: str) -> None:
        """Brings what is served into step with one APIService, which may be gone."""
        obj = self._live.get(APISERVICES, name)
        to = reference(obj) if obj is not None else None
        remote = self._remotes.get(name)
        if remote is not None and remote.to != to:
            self._forget(name)
            remote = None
        if obj is not None and to is not None:
            remote = remote or self._add(to)
            if remote.available != is_available(obj):
                remote.available = not remote.available
                self._changes += 1
        optional = self._optional.get(name)
        if optional is not None:
            served = obj is not None and is_own(obj)
            if served != (name in self._core.resources.custom()):
                optional.serve(served)
                self._core.resources.set_custom(name, optional.definitions() if served else ())
        if self._remotes:
            self._has_remotes.set()
        else:
            self._has_remotes.clear()

    def start(self) -> None:
        """Follows changes from here on; `connect` before it serves what is stored already."""
        self._tasks = [
            asyncio.create_task(self._follow(), name="APIServices"),
            asyncio.create_task(self._register(), name="APIServices of custom resources"),
            asyncio.create_task(self._follow_backends(SERVICES), name="services of APIServices"),
            asyncio.create_task(self._follow_backends(ENDPOINTSLICES), name="endpoints of APIServices"),
        ]

    async def stop(self) -> None:
        tasks = [*self._tasks, *self._checks.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._clients.close()

    # ------------------------------------------------------------ what discovery asks

    def generation(self) -> int:
        """Returns a number that moves when anything changes that discovery shows of APIServices."""
        return self._changes + self._live.changes(APISERVICES)

    def served(self) -> list[ServedVersion]:
        """Returns the versions that other servers answer for."""
        return [
            ServedVersion(
                group=one.to.group,
                version=one.to.version,
                group_priority=one.to.group_priority,
                version_priority=one.to.version_priority,
                aggregated=True,
                remote=one.discovered,
                stale=one.stale,
            )
            for one in self._remotes.values()
        ]

    def priorities(self) -> Mapping[GroupVersion, tuple[int, int]]:
        """Returns the group and version priorities that local APIServices state."""
        changes = self._live.changes(APISERVICES)
        if self._priorities[0] != changes:
            specs = (one.get("spec") or {} for one in self._live.list(APISERVICES))
            found = {
                (spec.get("group") or "", spec.get("version") or ""): (
                    spec.get("groupPriorityMinimum") or 0,
                    spec.get("versionPriority") or 0,
                )
                for spec in specs
            }
            self._priorities = changes, found
        return self._priorities[1]

    def remotes(self) -> Iterable[Remote]:
        return self._remotes.values()

    # ------------------------------------------------------------ APIServices

    async def _follow(self) -> None:
        store = self._core.store(self._core.resources.get(APISERVICES))
        while True:
            try:
                watch = await open_watch(store, "", selection(store.resource, {}), "", send_initial=False)
                names = self._names()
                while True:
                    for name in names:
                        self._take(name)
                        await self._judge_local(name)
                    # Somebody may have changed or deleted one of ours.
                    self._touched |= names
                    self._customs_changed.set()
                    names = {name_of(store.view(change.entry)) for change in await watch.next(None)}
            except StatusError as error:
                log.warning("APIServices: %s", error)
            await asyncio.sleep(_FAILURE_SECONDS)

    def _add(self, to: Reference) -> Remote:
        remote = self._remotes[to.name] = Remote(to, self._endpoints, self._clients)
        self._core.delegates[to.group_version] = remote
        self._pokes[to.name] = asyncio.Event()
        self._checks[to.name] = asyncio.create_task(self._check(remote), name=f"APIService {to.name}")
        self._changes += 1
        return remote

    def _forget(self, name: str) -> None:
        remote = self._remotes.pop(name)
        self._core.delegates.pop(remote.to.group_version, None)
        self._checks.pop(name).cancel()
        del self._pokes[name]
        self._changes += 1

    async def _judge_local(self, name: str) -> None:
        obj = self._live.get(APISERVICES, name)
        if obj is None or reference(obj) is not None or metadata(obj).get("deletionTimestamp"):
            return
        if with_verdict(obj, LOCAL, "") is not None:
            await self._writer.judge(name, LOCAL)

    # ------------------------------------------------------------ custom resources

    async def _register(self) -> None:
        """Keeps APIServices of what custom resource definitions serve: looks at those that changed on either side."""
        known: set[GroupVersion] = set()
        while True:
            await self._customs_changed.wait()
            self._customs_changed.clear()
            customs = self._core.resources.custom()
            served = {
                (one.group, one.version)
                for owner, made in customs.items()
                if owner not in self._optional
                for one in made
            }
            names = {f"{version}.{group}" for group, version in served ^ known} | self._touched
            self._touched = set()
            existing = {name: obj for name in names if (obj := self._live.get(APISERVICES, name)) is not None}
            concerned = [one for one in served if f"{one[1]}.{one[0]}" in names]
            todo = registrations(concerned, existing)
            try:
                await asyncio.gather(
                    *(self._writer.create(one) for one in todo.create),
                    *(self._writer.update_spec(one) for one in todo.update),
                    *(self._writer.delete(name) for name in todo.delete),
                )
                known = served
            except StatusError as error:
                log.warning("APIServices of custom resources: %s", error)
                self._touched |= names
                await asyncio.sleep(_FAILURE_SECONDS)
                self._customs_changed.set()

    # ------------------------------------------------------------ availability

    async def _follow_backends(self, resource: GVR) -> None:
        """Has the APIServices looked at again whose service or endpoints change; idle while there are none."""
        store = self._core.store(self._core.resources.get(resource))
        while True:
            await self._has_remotes.wait()
            try:
                watch = await open_watch(store, "", selection(store.resource, {}), "", send_initial=False)
                while self._has_remotes.is_set():
                    for change in await watch.next(None):
                        self._poke(store.view(change.entry))
            except StatusError as error:
                log.debug("%s: %s", resource.resource, error)
            self._poke(None)

    def _poke(self, obj: Obj | None) -> None:
        """Wakes the checks that a service or slice concerns; without one, all."""
        for name, remote in self._remotes.items():
            service = labels_of(obj).get(SERVICE_NAME, name_of(obj)) if obj is not None else ""
            if obj is None or (namespace_of(obj), service) == (remote.to.namespace, remote.to.service):
                self._pokes[name].set()

    async def _check(self, remote: Remote) -> None:
        """Judges one APIService again and again: every 30 seconds, when its backend changes, sooner while it fails."""
        poke, failures = self._pokes[remote.to.name], 0
        while True:
            poke.clear()
            try:
                verdict = await self._judge(remote)
                self._live_status(remote, verdict)
                await self._writer.judge(remote.to.name, verdict)
                failed = verdict.reason == "FailedDiscoveryCheck"
            except StatusError as error:
                log.warning("APIService %s: %s", remote.to.name, error)
                failed = True
            failures = failures + 1 if failed else 0
            seconds = min(_RETRY_SECONDS_FIRST * 2 ** min(failures, 20), _RECHECK_SECONDS)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds if failed else _RECHECK_SECONDS):
                    await poke.wait()

    def _live_status(self, remote: Remote, verdict: Verdict) -> None:
        stale = verdict.status != "True" or remote.discovered is None
        if stale != remote.stale:
            remote.stale = stale
            self._changes += 1

    async def _judge(self, remote: Remote) -> Verdict:
        to = remote.to
        service = self._endpoints.service(to.namespace, to.service)
        problem = check_service(to, service, self._endpoints.slices(to.namespace, to.service))
        if problem is not None:
            return problem
        why = await self._attempt(remote)
        if why and to.service:
            others = await asyncio.gather(*(self._attempt(remote) for _ in range(_CHECKS_MAX - 1)))
            why = "" if "" in others else why
        return failed_check(f"https://{to.host}:{to.port}{to.path}", why) if why else PASSED

    async def _attempt(self, remote: Remote) -> str:
        """Asks a server once what it serves; returns what went wrong, or nothing.

        A certificate that cannot be verified does not make it unavailable (as upstream has it), but what it says of
        itself is not believed then.
        """
        import ssl

        try:
            async with asyncio.timeout(_CHECK_SECONDS_MAX):
                try:
                    return await self._discover(remote, insecure=None)
                except (ssl.SSLError, ValueError):
                    return await self._discover(remote, insecure=True)
        except TimeoutError:
            return f"no answer within {_CHECK_SECONDS_MAX:g} s"
        except (OSError, ValueError, StatusError, BodyTooLarge) as error:
            return str(error) or type(error).__name__

    async def _discover(self, remote: Remote, *, insecure: bool | None) -> str:
        path = remote.to.path
        accept = [("Accept", "application/json")]
        async with await remote.fetch(path, AGGREGATOR, accept, insecure=insecure) as response:
            body = await response.read(_DOCUMENT_BYTES_MAX)
        if not 200 <= response.status < 300:
            return f"bad status from https://{remote.to.host}:{remote.to.port}{path}: {response.status}"
        if insecure is None:
            self._learn(remote, body)
        return ""

    def _learn(self, remote: Remote, body: bytes) -> None:
        try:
            listed = msgspec.json.decode(body)
            made = version_discovery(listed) | {"version": remote.to.version}
        except (msgspec.DecodeError, AttributeError, ValueError):
            return
        if made != remote.discovered:
            remote.resource_list, remote.discovered = listed, made
            self._changes += 1
