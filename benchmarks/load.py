"""A load generator that is cheap enough to share two cores with what it measures: raw HTTP/1.1 over TLS, keep-alive.

It runs in a process of its own (`python -m benchmarks.load …` prints requests per second), so that the server's event
loop never serves its own client.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import ssl
import sys
import time
from dataclasses import asdict, dataclass

import uvloop


@dataclass(frozen=True, slots=True)
class Load:
    """`path` and `body` may contain %d, which counts up over all connections of the run."""

    host: str
    port: int
    method: str
    path: str
    connections: int
    requests: int
    body: str = ""
    ca: str = ""
    certificate: str = ""
    key: str = ""
    content_type: str = "application/json"


@dataclass(frozen=True, slots=True)
class Outcome:
    """`statuses` counts answers by status; latencies in milliseconds; `cpu_seconds` are the generator's own."""

    per_second: float
    statuses: dict[str, int]
    median_ms: float
    p99_ms: float
    max_ms: float
    cpu_seconds: float


class _Connection(asyncio.Protocol):
    """Sends one request after the other; understands answers just enough to find their end."""

    def __init__(self, run: _Run) -> None:
        self.run = run
        self.buffer = bytearray()
        self.sent_at = 0.0
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport) or hasattr(transport, "write")
        self.transport = transport  # type: ignore[assignment]
        self.send()

    def send(self) -> None:
        request = self.run.next_request()
        assert self.transport is not None
        if request is None:
            self.transport.close()
            return
        self.sent_at = time.perf_counter()
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        head = self.buffer.find(b"\r\n\r\n")
        if head < 0:
            return
        headers = bytes(self.buffer[:head]).lower()
        length = headers.find(b"content-length:")
        if length >= 0:
            end = headers.find(b"\r\n", length)
            size = int(headers[length + 15 : end if end >= 0 else None])
            if len(self.buffer) < head + 4 + size:
                return
        elif not self.buffer.endswith(b"0\r\n\r\n"):
            return
        self.run.answered(headers[9:12].decode(), time.perf_counter() - self.sent_at)
        self.buffer.clear()
        self.send()

    def connection_lost(self, exc: Exception | None) -> None:
        self.run.closed()


class _Run:
    def __init__(self, load: Load) -> None:
        self.load = load
        self.number = 0
        self.open = load.connections
        self.latencies: list[float] = []
        self.statuses: dict[str, int] = {}
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def next_request(self) -> bytes | None:
        if self.number >= self.load.requests:
            return None
        self.number += 1
        path, body = (text.replace("%d", str(self.number)) for text in (self.load.path, self.load.body))
        head = f"{self.load.method} {path} HTTP/1.1\r\nHost: {self.load.host}\r\nAccept: application/json\r\n"
        if body:
            head += f"Content-Type: {self.load.content_type}\r\nContent-Length: {len(body)}\r\n"
        return f"{head}\r\n{body}".encode()

    def answered(self, status: str, seconds: float) -> None:
        self.statuses[status] = self.statuses.get(status, 0) + 1
        self.latencies.append(seconds * 1000)

    def closed(self) -> None:
        self.open -= 1
        if not self.open and not self.done.done():
            self.done.set_result(None)


async def run(load: Load) -> Outcome:
    """Sends the load and returns what came of it."""
    context = ssl.create_default_context(cafile=load.ca or None)
    context.check_hostname = False
    if load.certificate:
        context.load_cert_chain(load.certificate, load.key or load.certificate)
    loop = asyncio.get_running_loop()
    state = _Run(load)
    started = time.perf_counter()
    for _ in range(load.connections):
        await loop.create_connection(lambda: _Connection(state), load.host, load.port, ssl=context)
    await state.done
    seconds = time.perf_counter() - started
    ordered = sorted(state.latencies)
    at = [ordered[min(int(len(ordered) * share), len(ordered) - 1)] for share in (0.5, 0.99, 1.0)]
    return Outcome(len(ordered) / seconds, state.statuses, *at, time.process_time())


async def generate(load: Load) -> Outcome:
    """Runs the load in a process of its own."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.load", json.dumps(asdict(load)), stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    if process.returncode:
        raise RuntimeError("the load generator failed")
    return Outcome(**json.loads(output))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("load")
    wanted = Load(**json.loads(parser.parse_args().load))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(asdict(runner.run(run(wanted)))))
