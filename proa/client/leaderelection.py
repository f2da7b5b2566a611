"""Leader election over a Lease, as client-go's: one of several candidates leads at a time.

A candidate takes the lease when nobody holds it or when the holder's record has not changed for the lease's duration,
measured by the candidate's own clock. A leader that cannot renew within the renewal deadline stops leading.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from proa.client.interface import Client
from proa.client.resources import LEASES
from proa.meta.errors import StatusError
from proa.meta.objects import Obj
from proa.util.clock import Clock, rfc3339_micro

log = logging.getLogger(__name__)


class LeaderElector:
    """One candidate, named `identity`, for the lease `namespace/name`. Times are in seconds."""

    def __init__(
        self,
        client: Client,
        clock: Clock,
        *,
        name: str,
        identity: str,
        namespace: str = "kube-system",
        lease_seconds: float = 15,
        renew_seconds_max: float = 10,
        retry_seconds: float = 2,
    ) -> None:
        self.identity = identity
        self.leading = False
        self._client = client
        self._clock = clock
        self._name = name
        self._namespace = namespace
        self._lease_seconds = lease_seconds
        self._renew_seconds_max = renew_seconds_max
        self._retry_seconds = retry_seconds
        self._observed: Obj = {}
        self._observed_at = 0.0

    async def run(self, lead: Callable[[], Awaitable[Any]]) -> None:
        """Waits to lead, runs `lead` (cancelled when leadership is lost) and returns when it ends or is lost.

        Cancelling `run` cancels `lead` and gives the lease up, so that another need not wait for it to expire.
        """
        while not await self._try():
            await asyncio.sleep(self._retry_seconds)
        self.leading = True
        log.info("%s leads %s", self.identity, self._name)
        work = asyncio.ensure_future(lead())
        renewal = asyncio.ensure_future(self._keep())
        try:
            await asyncio.wait([work, renewal], return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.leading = False
            renewal.cancel()
            if not work.done():
                work.cancel()
            results = await asyncio.gather(work, renewal, return_exceptions=True)
            await self._release()
        if isinstance(results[0], Exception):
            raise results[0]

    async def _keep(self) -> None:
        """Renews the lease; returns when it could not be renewed in time."""
        renewed_at = self._clock.monotonic()
        while self._clock.monotonic() - renewed_at < self._renew_seconds_max:
            await asyncio.sleep(self._retry_seconds)
            asked_at = self._clock.monotonic()
            try:
                if await asyncio.wait_for(self._try(), self._renew_seconds_max):
                    renewed_at = asked_at
            except TimeoutError:
                pass
        log.warning("%s lost %s", self.identity, self._name)

    async def _try(self) -> bool:
        """Takes or renews the lease; returns whether it is ours now."""
        try:
            return await self._acquire()
        except (StatusError, OSError, EOFError) as error:
            log.debug("lease %s: %s", self._name, error)
            return False

    async def _acquire(self) -> bool:
        now = rfc3339_micro(self._clock.now())
        spec: Obj = {
            "holderIdentity": self.identity,
            "leaseDurationSeconds": max(1, int(self._lease_seconds)),
            "acquireTime": now,
            "renewTime": now,
            "leaseTransitions": 0,
        }
        try:
            lease = await self._client.get(LEASES, self._name, self._namespace)
        except StatusError as error:
            if error.code != 404:
                raise
            lease = await self._client.create(
                LEASES,
                {
                    "apiVersion": LEASES.api_version,
                    "kind": "Lease",
                    "metadata": {"name": self._name, "namespace": self._namespace},
                    "spec": spec,
                },
                self._namespace,
            )
            self._observe(lease)
            return True
        old = lease.get("spec") or {}
        if old != self._observed:
            self._observe(lease)
        holder = old.get("holderIdentity") or ""
        expired = self._clock.monotonic() - self._observed_at >= (old.get("leaseDurationSeconds") or 0)
        if holder and holder != self.identity and not expired:
            return False
        transitions = old.get("leaseTransitions") or 0
        if holder == self.identity:
            spec["acquireTime"] = old.get("acquireTime") or now
            spec["leaseTransitions"] = transitions
        else:
            spec["leaseTransitions"] = transitions + 1
        self._observe(await self._client.update(LEASES, {**lease, "spec": {**old, **spec}}))
        return True

    def _observe(self, lease: Obj) -> None:
        self._observed = lease.get("spec") or {}
        self._observed_at = self._clock.monotonic()

    async def _release(self) -> None:
        try:
            lease = await self._client.get(LEASES, self._name, self._namespace)
            spec = lease.get("spec") or {}
            if spec.get("holderIdentity") != self.identity:
                return
            now = rfc3339_micro(self._clock.now())
            released = {**spec, "holderIdentity": "", "leaseDurationSeconds": 1, "renewTime": now, "acquireTime": now}
            await self._client.update(LEASES, {**lease, "spec": released})
        except (StatusError, OSError, EOFError) as error:
            log.debug("lease %s not released: %s", self._name, error)
