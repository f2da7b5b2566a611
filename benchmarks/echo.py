"""The floor of every request: an HTTP server that parses with httptools under uvloop, and answers from memory.

TLS with client certificates, as the API server; no routing, identity, authorization or store. `EchoServer` runs one in
a process of its own.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import httptools
import uvloop

from proa.wire.tls import server_context


class EchoServer:
    """Answers every request with `size` bytes, with the certificates of a cluster in `pki`; a context manager."""

    def __init__(self, pki: Path, size: int) -> None:
        arguments = json.dumps({"pki": str(pki), "size": size})
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.echo", arguments], stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline())

    def __enter__(self) -> EchoServer:
        return self

    def __exit__(self, *ignored: object) -> None:
        self.process.kill()
        self.process.wait()


class _Protocol(asyncio.Protocol):
    def __init__(self, answer: bytes) -> None:
        self.answer = answer
        self.parser = httptools.HttpRequestParser(self)

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_message_complete(self) -> None:
        self.transport.write(self.answer)


async def _serve(pki: Path, size: int) -> None:
    context = server_context(pki / "apiserver.crt", pki / "apiserver.key", pki / "ca.crt")
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {size}\r\n\r\n"
    answer = head.encode() + b"x" * size
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Protocol(answer), "127.0.0.1", 0, ssl=context)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    wanted = json.loads(sys.argv[1])
    uvloop.run(_serve(Path(wanted["pki"]), wanted["size"]))
