"""Watchers in a process of their own: they count events as bytes pass and decode nothing.

`python -m benchmarks.watchers JSON` opens the watches, prints `open`, then one line with the seconds (CLOCK_MONOTONIC,
which all processes share) at which the last expected event came. Watches that see nothing stay open until it is killed.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import Any

import uvloop

from benchmarks.load import Load


@dataclass(frozen=True, slots=True)
class Watching:
    """`count` watches of `load.path`, each of which shall see `marker` `events` times."""

    load: Load
    count: int
    events: int
    marker: str = '{"type":"'


class Watchers:
    """A process that watches; a context manager that ends it. Made, all watches are open."""

    def __init__(self, watching: Watching) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.watchers", json.dumps(asdict(watching))],
            stdout=subprocess.PIPE,
            text=True,
        )
        self._line("open")

    def finished(self) -> float:
        """Waits for every event; returns when the last came, in time.monotonic's seconds."""
        return float(self._line("done").split()[1])

    def _line(self, word: str) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line.startswith(word):
            raise RuntimeError(f"the watchers failed: {line!r}")
        return line

    def __enter__(self) -> Watchers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.kill()
        self.process.wait()


class _Watch(asyncio.Protocol):
    def __init__(self, run: _Run) -> None:
        self.run = run
        self.tail = b""
        self.answered = False

    def connection_made(self, transport: Any) -> None:
        transport.write(self.run.request)

    def data_received(self, data: bytes) -> None:
        if not self.answered:
            if b" 200 " not in data[:20]:
                self.run.fail(data)
            self.answered = True
            self.run.opened()
        text = self.tail + data
        count = text.count(self.run.marker)
        self.tail = text[-(len(self.run.marker) - 1) :] if not text.endswith(self.run.marker) else b""
        if count:
            self.run.saw(count)


class _Run:
    def __init__(self, watching: Watching) -> None:
        load = watching.load
        self.marker = watching.marker.encode()
        self.request = f"GET {load.path} HTTP/1.1\r\nHost: {load.host}\r\nAccept: application/json\r\n\r\n".encode()
        self.closed = watching.count
        self.missing = watching.count * watching.events
        loop = asyncio.get_running_loop()
        self.all_open: asyncio.Future[None] = loop.create_future()
        self.done: asyncio.Future[float] = loop.create_future()

    def opened(self) -> None:
        self.closed -= 1
        if not self.closed and not self.all_open.done():
            self.all_open.set_result(None)

    def saw(self, count: int) -> None:
        self.missing -= count
        if self.missing <= 0 and not self.done.done():
            self.done.set_result(time.monotonic())

    def fail(self, data: bytes) -> None:
        if not self.all_open.done():
            self.all_open.set_exception(RuntimeError(data[:200].decode(errors="replace")))


async def _watch(watching: Watching) -> None:
    load = watching.load
    context = ssl.create_default_context(cafile=load.ca)
    context.check_hostname = False
    context.load_cert_chain(load.certificate, load.key)
    run = _Run(watching)
    loop = asyncio.get_running_loop()
    for _ in range(watching.count):
        await loop.create_connection(lambda: _Watch(run), load.host, load.port, ssl=context)
    await run.all_open
    print("open", flush=True)
    print("done", await run.done, flush=True)


if __name__ == "__main__":
    wanted = json.loads(sys.argv[1])
    uvloop.run(_watch(Watching(Load(**wanted.pop("load")), **wanted)))
