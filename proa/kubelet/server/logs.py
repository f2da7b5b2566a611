"""Reads containers' logs in CRI's format: `<time> <stdout|stderr> <P|F> <text>`.

Follows upstream's log options: tail, since, limit, timestamps, one stream only, follow (across rotation, to the
container's end).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import BinaryIO

_BLOCK_BYTES = 64 * 1024
_FOLLOW_SECONDS = 0.1
_ENDED_SECONDS = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LogOptions:
    """`tail_lines` and `limit_bytes` None: no limit. `since` is a time text that sorts as CRI's do, empty for all."""

    follow: bool = False
    timestamps: bool = False
    previous: bool = False
    tail_lines: int | None = None
    limit_bytes: int | None = None
    since: str = ""
    stream: str = ""


def parse_options(query: Mapping[str, str], now: datetime) -> LogOptions:
    """Reads the query parameters of a log request; raises ValueError with what is wrong."""

    def number(name: str, least: int) -> int | None:
        text = query.get(name)
        if text is None or text == "":
            return None
        try:
            value = int(text)
        except ValueError:
            raise ValueError(f"{name}: must be a number") from None
        if value < least:
            raise ValueError(f"{name}: must be greater than or equal to {least}")
        return value

    since = query.get("sinceTime") or ""
    if since:
        since = _sortable(datetime.fromisoformat(since.replace("Z", "+00:00")))
    seconds = number("sinceSeconds", 1)
    if seconds is not None:
        if since:
            raise ValueError("at most one of sinceTime or sinceSeconds may be specified")
        since = _sortable(now - timedelta(seconds=seconds))
    stream = query.get("stream") or "All"
    if stream not in ("All", "Stdout", "Stderr"):
        raise ValueError('stream: supported values: "All", "Stderr", "Stdout"')
    return LogOptions(
        follow=_is_true(query.get("follow")),
        timestamps=_is_true(query.get("timestamps")),
        previous=_is_true(query.get("previous")),
        tail_lines=number("tailLines", 0),
        limit_bytes=number("limitBytes", 1),
        since=since,
        stream="" if stream == "All" else stream.lower(),
    )


def _is_true(text: str | None) -> bool:
    return (text or "").lower() in ("1", "t", "true")


def _sortable(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")


async def read_log(path: Path, options: LogOptions, running: Callable[[], Awaitable[bool]]) -> AsyncIterator[bytes]:
    """Yields the log's lines as the options want them; `running` tells whether more may come."""
    left = options.limit_bytes
    file = _open(path)
    if file is None:
        return
    try:
        if options.tail_lines is not None:
            file.seek(_tail_offset(file, options.tail_lines))
        rest = b""
        async for chunk in _chunks(path, file, options.follow, running):
            lines, rest = _split(rest + chunk)
            out = _render(lines, options)
            if left is not None:
                out, left = out[:left], left - len(out[:left])
            if out:
                yield out
            if left == 0:
                return
    finally:
        file.close()


def _open(path: Path) -> BinaryIO | None:
    try:
        return path.open("rb")
    except FileNotFoundError:
        return None


async def _chunks(
    path: Path, file: BinaryIO, follow: bool, running: Callable[[], Awaitable[bool]]
) -> AsyncIterator[bytes]:
    """Yields blocks of the file; when following, what is appended, also after a rotation."""
    idle_seconds = 0.0
    ended = False
    opened: BinaryIO | None = None
    try:
        while True:
            data = (opened or file).read(_BLOCK_BYTES)
            if data:
                idle_seconds = 0.0
                yield data
                continue
            if not follow or ended:
                return
            fresh = _replaced(path, opened or file)
            if fresh is not None:
                if opened is not None:
                    opened.close()
                opened = fresh
                continue
            await asyncio.sleep(_FOLLOW_SECONDS)
            idle_seconds += _FOLLOW_SECONDS
            if idle_seconds >= _ENDED_SECONDS or idle_seconds == _FOLLOW_SECONDS:
                # One more read after the end was seen takes what was written in between.
                ended = not await running()
                idle_seconds = max(idle_seconds % _ENDED_SECONDS, 2 * _FOLLOW_SECONDS)
    finally:
        if opened is not None:
            opened.close()


def _replaced(path: Path, file: BinaryIO) -> BinaryIO | None:
    """Returns the new log file if the open one was rotated away."""
    try:
        if os.stat(path).st_ino == os.fstat(file.fileno()).st_ino:
            return None
    except FileNotFoundError:
        return None
    return _open(path)


def _tail_offset(file: BinaryIO, lines: int) -> int:
    """Returns where the last `lines` lines begin."""
    end = file.seek(0, os.SEEK_END)
    if lines == 0:
        return end
    position, seen = end, 0
    while position > 0:
        size = min(_BLOCK_BYTES, position)
        position -= size
        file.seek(position)
        block = file.read(size)
        at = len(block)
        while (at := block.rfind(b"\n", 0, at)) >= 0:
            # The newline at the very end closes the last line.
            if position + at + 1 < end:
                seen += 1
                if seen == lines:
                    return position + at + 1
    return 0


def _split(data: bytes) -> tuple[list[bytes], bytes]:
    *lines, rest = data.split(b"\n")
    return lines, rest


def _render(lines: list[bytes], options: LogOptions) -> bytes:
    since, stream = options.since.encode(), options.stream.encode()
    out = []
    for line in lines:
        parts = line.split(b" ", 3)
        if len(parts) < 3:
            continue
        stamp, origin, tag = parts[:3]
        text = parts[3] if len(parts) > 3 else b""
        if (since and stamp < since) or (stream and origin != stream):
            continue
        if options.timestamps:
            out.append(stamp + b" ")
        out.append(text)
        if not tag.startswith(b"P"):
            out.append(b"\n")
    return b"".join(out)
