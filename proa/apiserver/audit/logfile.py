"""Audit events in a file, one line each: written in batches by a thread, rotated by size, kept by number and age."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from proa.util.clock import Clock

log = logging.getLogger("proa.apiserver.audit")

_FLUSH_SECONDS = 0.5
_PENDING_MAX = 10_000
_STAMP = "%Y-%m-%dT%H-%M-%S.%f"


@dataclass(frozen=True, slots=True, kw_only=True)
class LogFile:
    """Where events are logged, as upstream's --audit-log-*: `path` None nowhere, `-` standard output; a file is rotated
    at `size_max` MiB, and of rotated ones `backups_max` are kept for `days_max` days (0: no limit of this kind)."""

    path: str | None = None
    size_max: int = 32
    backups_max: int = 4
    days_max: int = 0


class FileBackend:
    """Writes events to `settings.path`, and leaves rotated files beside it, named by the time of rotation."""

    name = "log"

    def __init__(self, settings: LogFile, clock: Clock) -> None:
        assert settings.path is not None
        self._settings = settings
        self._path = None if settings.path == "-" else Path(settings.path)
        self._clock = clock
        self._pending: list[bytes] = []
        self._timer: asyncio.TimerHandle | None = None
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="audit")
        self.dropped = 0

    def put(self, event: bytes) -> None:
        """Takes an event; drops it (and counts that) when the disk cannot follow."""
        if len(self._pending) >= _PENDING_MAX:
            self.dropped += 1
            return
        self._pending.append(event)
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
            self._writer.submit(self._write, pending, self._clock.now())

    def _write(self, events: list[bytes], now: datetime) -> None:
        data = b"\n".join(events) + b"\n"
        try:
            if self._path is None:
                sys.stdout.buffer.write(data)
                sys.stdout.flush()
                return
            self._make_room(len(data), now)
            with open(self._path, "ab", opener=_private) as file:
                file.write(data)
        except OSError as error:
            self.dropped += len(events)
            log.warning("%d audit events were not written: %s", len(events), error)

    def _make_room(self, size: int, now: datetime) -> None:
        path, settings = self._path, self._settings
        assert path is not None
        path.parent.mkdir(parents=True, exist_ok=True)
        if settings.size_max and path.exists() and path.stat().st_size + size > settings.size_max << 20:
            path.replace(path.with_name(f"{path.stem}-{now.strftime(_STAMP)[:-3]}{path.suffix}"))
            self._forget_old(path, now)

    def _forget_old(self, path: Path, now: datetime) -> None:
        settings = self._settings
        rotated = []
        for one in path.parent.glob(f"{path.stem}-*{path.suffix}"):
            with contextlib.suppress(ValueError):
                stamp = one.name[len(path.stem) + 1 : len(one.name) - len(path.suffix)]
                rotated.append((datetime.strptime(stamp, _STAMP).replace(tzinfo=now.tzinfo), one))
        rotated.sort(reverse=True)
        for index, (moment, one) in enumerate(rotated):
            old = settings.days_max and now - moment > timedelta(days=settings.days_max)
            if old or (settings.backups_max and index >= settings.backups_max):
                one.unlink(missing_ok=True)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
