"""The store without an API, and SQLite without the store, in a process: `python -m benchmarks.store JSON`."""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
import time
import uuid
from pathlib import Path
from typing import Any

import apsw
import uvloop

from proa.storage.interface import Value
from proa.storage.sqlite import sqlite_store

WRITERS = 64
KEYS_PER_WRITER = 16
RETENTION_SECONDS = 1.0
ROW = b"x" * 500


def new_path(directory: str) -> Path:
    return Path(directory) / f"{uuid.uuid4().hex[:8]}.db"


def bare(path: Path, group: int, rows: int = 0, seconds: float = 0.0) -> dict[str, float]:
    """Commits groups of rows until there are so many, or for so long; returns the rate, the longest commit
    and the CPU time per row, in milliseconds."""
    connection = apsw.Connection(str(path))
    for pragma in ("journal_mode=WAL", "synchronous=FULL"):
        connection.execute(f"PRAGMA {pragma}").fetchall()
    connection.execute("CREATE TABLE log (revision INTEGER PRIMARY KEY, key TEXT NOT NULL, value BLOB NOT NULL)")
    longest = 0.0
    written = 0
    begun, used = time.perf_counter(), time.process_time()
    now = begun
    while written < rows or now - begun < seconds:
        before = now
        with connection:
            connection.executemany(
                "INSERT INTO log (key, value) VALUES (?, ?)", ((f"key-{written + n}", ROW) for n in range(group))
            )
        now = time.perf_counter()
        longest = max(longest, now - before)
        written += group
    used = time.process_time() - used
    connection.close()
    return {"per_second": written / (now - begun), "longest_ms": longest * 1000, "cpu_ms": used * 1000 / written}


async def stall(path: Path, seconds: float) -> float:
    """Returns the longest time in milliseconds in which none of the writers got an answer."""
    store = sqlite_store(path, retention_seconds=RETENTION_SECONDS)
    await store.start()
    end = time.perf_counter() + seconds
    last = time.perf_counter()
    longest = 0.0

    async def write(number: int) -> None:
        nonlocal last, longest
        for turn in itertools.count():
            key = f"bench/{number}-{turn % KEYS_PER_WRITER}"
            await store.write(key, Value(b'{"rv":"', b'","text":"%b"}' % ROW), expected=None)
            now = time.perf_counter()
            longest, last = max(longest, now - last), now
            if now > end:
                return

    await asyncio.gather(*(write(number) for number in range(WRITERS)))
    await store.close()
    return longest * 1000


def main(directory: str, group: int = WRITERS, rows: int = 0, stall_seconds: float = 0.0) -> dict[str, Any]:
    if not stall_seconds:
        return bare(new_path(directory), group, rows)
    floor = bare(new_path(directory), group, seconds=stall_seconds / 2)
    return {"stall_ms": uvloop.run(stall(new_path(directory), stall_seconds)), "bare_ms": floor["longest_ms"]}


if __name__ == "__main__":
    print(json.dumps(main(**json.loads(sys.argv[1]))))
