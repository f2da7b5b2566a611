"""The audit log: who asked what, when, and how it ended; one JSON line per request, at metadata level.

Follows upstream's audit.k8s.io/v1 Event at stage ResponseComplete. Bodies are never logged, so secrets stay out of it.
Health checks and the server's own requests are left out. Lines are written in batches by a thread, and files rotate.
"""

from __future__ import annotations

import asyncio
import logging
import os
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path
from uuid import uuid4

import msgspec

from proa.apiserver.server import HttpCall
from proa.apiserver.special.reviews import user_object
from proa.meta.objects import Obj
from proa.util.clock import Clock, rfc3339_micro

log = logging.getLogger(__name__)

_encode = msgspec.json.Encoder().encode
_LEFT_OUT = ("/healthz", "/livez", "/readyz", "/metrics")
_FLUSH_SECONDS = 0.5
_PENDING_MAX = 10_000
FILE_BYTES_MAX = 32 << 20
FILES_KEPT = 4


class AuditLog:
    """Writes to `path`, and keeps `path.1` to `path.4` of earlier."""

    def __init__(self, path: Path, clock: Clock, *, file_bytes_max: int = FILE_BYTES_MAX) -> None:
        self._path = path
        self._clock = clock
        self._file_bytes_max = file_bytes_max
        self._pending: list[bytes] = []
        self._timer: asyncio.TimerHandle | None = None
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="audit")
        self.dropped = 0

    def record(self, call: HttpCall, status: int, seconds: float) -> None:
        """Takes note of a finished request; drops it (and counts that) when the disk cannot follow."""
        if call.info.path.startswith(_LEFT_OUT):
            return
        if len(self._pending) >= _PENDING_MAX:
            self.dropped += 1
            return
        self._pending.append(_encode(audit_event(call, status, self._clock.now(), seconds)))
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_FLUSH_SECONDS, self._flush)

    async def close(self) -> None:
        """Writes what is pending."""
        if self._timer is not None:
            self._timer.cancel()
        self._flush()
        await asyncio.get_running_loop().run_in_executor(None, self._writer.shutdown)

    def _flush(self) -> None:
        self._timer = None
        pending, self._pending = self._pending, []
        if pending:
            self._writer.submit(self._write, pending)

    def _write(self, lines: list[bytes]) -> None:
        try:
            if self._path.exists() and self._path.stat().st_size > self._file_bytes_max:
                self._rotate()
            with open(self._path, "ab", opener=_private) as file:
                file.write(b"\n".join(lines) + b"\n")
        except OSError as error:
            self.dropped += len(lines)
            log.warning("%d audit events were not written: %s", len(lines), error)

    def _rotate(self) -> None:
        for number in range(FILES_KEPT, 0, -1):
            older = self._path.with_name(f"{self._path.name}.{number}")
            newer = self._path.with_name(f"{self._path.name}.{number - 1}") if number > 1 else self._path
            if newer.exists():
                newer.replace(older)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def audit_event(call: HttpCall, status: int, now: datetime, seconds: float) -> Obj:
    """Returns the Event of one request that ended now."""
    info, request = call.info, call.request
    event: Obj = {
        "kind": "Event",
        "apiVersion": "audit.k8s.io/v1",
        "level": "Metadata",
        "auditID": request.header("audit-id") or str(uuid4()),
        "stage": "ResponseComplete",
        "requestURI": request.target,
        "verb": info.verb,
        "user": user_object(call.authenticated or call.user),
    }
    if call.authenticated is not None:
        event["impersonatedUser"] = user_object(call.user)
    event["sourceIPs"] = [request.peer_address]
    if agent := request.header("user-agent"):
        event["userAgent"] = agent
    if info.resource is not None:
        reference = {
            "resource": info.resource.resource,
            "namespace": info.namespace,
            "name": info.name,
            "apiGroup": info.resource.group,
            "apiVersion": info.resource.version,
            "subresource": info.subresource,
        }
        event["objectRef"] = {key: value for key, value in reference.items() if value}
    event["responseStatus"] = {"metadata": {}, "code": status}
    event["requestReceivedTimestamp"] = rfc3339_micro(now - timedelta(seconds=seconds))
    event["stageTimestamp"] = rfc3339_micro(now)
    if call.annotations:
        event["annotations"] = dict(call.annotations)
    return event
