"""Audit events sent to a webhook, in batches; what cannot be delivered is tried again for a while, then dropped."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from proa.wire.client import HttpClient
from proa.wire.http import Headers

log = logging.getLogger("proa.apiserver.audit")

_ATTEMPTS = 5
_BACKOFF_FACTOR = 1.5
_JITTER = 0.2
_REQUEST_SECONDS_MAX = 30.0
_CLOSE_SECONDS_MAX = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook:
    """Where events are sent, as upstream's --audit-webhook-*: the kubeconfig `config` names the server (None: nowhere).

    A batch goes when it has `batch_size_max` events or the first has waited `wait_seconds_max`; `buffer_size` events
    wait at most, later ones are dropped. The first retry comes after `backoff_seconds`.
    """

    config: Path | None = None
    batch_size_max: int = 400
    wait_seconds_max: float = 30.0
    buffer_size: int = 10_000
    backoff_seconds: float = 10.0


class WebhookBackend:
    """Sends events from `start` to `close`; raises the KubeconfigError of an unusable configuration when made."""

    name = "webhook"

    def __init__(self, settings: Webhook) -> None:
        from proa.client.kubeconfig import Credentials, load

        assert settings.config is not None
        self._settings = settings
        config = load(settings.config)
        self._credentials = Credentials(config)
        address = urlsplit(config.server)
        self._path = (address.path or "/") + (f"?{address.query}" if address.query else "")
        self._client = HttpClient(f"{address.scheme}://{address.netloc}", context=self._credentials.context)
        self._pending: deque[bytes] = deque()
        self._wanted = asyncio.Event()
        self._full = asyncio.Event()
        self._closing = False
        self._task: asyncio.Task[None] | None = None
        self.dropped = 0

    def put(self, event: bytes) -> None:
        """Takes an event; drops it (and counts that) when the buffer is full."""
        if len(self._pending) >= self._settings.buffer_size:
            self.dropped += 1
            return
        self._pending.append(event)
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run(), name="audit webhook")
        self._wanted.set()
        if len(self._pending) >= self._settings.batch_size_max:
            self._full.set()

    async def close(self) -> None:
        """Sends what is pending, for a short while."""
        self._closing = True
        self._wanted.set()
        self._full.set()
        if self._task is not None:
            await asyncio.wait([self._task], timeout=_CLOSE_SECONDS_MAX)
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._client.close()

    async def _run(self) -> None:
        settings = self._settings
        while self._pending or not self._closing:
            await self._wanted.wait()
            if not self._closing:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._full.wait(), settings.wait_seconds_max)
            batch = [self._pending.popleft() for _ in range(min(len(self._pending), settings.batch_size_max))]
            if len(self._pending) < settings.batch_size_max and not self._closing:
                self._full.clear()
            if not self._pending and not self._closing:
                self._wanted.clear()
            if batch:
                await self._deliver(batch)

    async def _deliver(self, batch: list[bytes]) -> None:
        body = b'{"kind":"EventList","apiVersion":"audit.k8s.io/v1","metadata":{},"items":[%b]}' % b",".join(batch)
        pause, problem = self._settings.backoff_seconds, ""
        for attempt in range(_ATTEMPTS):
            if attempt:
                await asyncio.sleep(pause * (1 + random.random() * _JITTER))
                pause *= _BACKOFF_FACTOR
            try:
                async with asyncio.timeout(_REQUEST_SECONDS_MAX):
                    status = await self._post(body)
            except (OSError, TimeoutError) as error:
                problem = str(error) or type(error).__name__
                continue
            if 200 <= status < 300:
                return
            problem = f"status {status}"
            if status != 429 and status < 500:
                break  # what it does not understand now it will not later
        self.dropped += len(batch)
        log.warning("%d audit events were not taken by the webhook: %s", len(batch), problem)

    async def _post(self, body: bytes) -> int:
        self._credentials.refresh()
        headers: Headers = [("Content-Type", "application/json"), *self._credentials.headers()]
        async with await self._client.request("POST", self._path, headers=headers, body=body) as response:
            await response.read(1 << 20)
            return response.status
