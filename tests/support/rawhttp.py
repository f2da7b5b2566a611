"""HTTP/1.1 over TLS by hand: for tests that count connections, send what no client library would, or read slowly."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
import tempfile
import urllib.parse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ANSWER_SECONDS_MAX = 60.0


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Connection:
    """One connection: `send` bytes or a `request`, `answer` reads the next answer."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def request(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        await self.send(request(method, path, body, **headers))
        return await self.answer()

    async def head(self) -> Answer:
        """Reads an answer up to its body; raises ConnectionError when the server ends the connection instead."""
        async with asyncio.timeout(ANSWER_SECONDS_MAX):
            try:
                lines = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            except asyncio.IncompleteReadError as error:
                raise ConnectionResetError(f"the connection ended: {error.partial!r}") from None
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:-2])}
        return Answer(int(lines[0].split()[1]), headers, b"")

    async def answer(self) -> Answer:
        head = await self.head()
        async with asyncio.timeout(ANSWER_SECONDS_MAX):
            if head.headers.get("transfer-encoding") == "chunked":
                parts = []
                while part := await self.chunk():
                    parts.append(part)
                body = b"".join(parts)
            else:
                body = await self.reader.readexactly(int(head.headers.get("content-length", 0)))
        return Answer(head.status, head.headers, body)

    async def chunk(self) -> bytes:
        """Reads one chunk of a chunked body; empty at its end."""
        size = int(await self.reader.readline(), 16)
        data = await self.reader.readexactly(size + 2)
        return data[:size]

    async def ended(self) -> None:
        """Waits until the server has ended the connection."""
        async with asyncio.timeout(ANSWER_SECONDS_MAX):
            try:
                while await self.reader.read(65536):
                    pass
            except ConnectionError:
                pass

    def close(self) -> None:
        self.writer.transport.abort()


class Server:
    """Where a kubeconfig leads, with its client certificate."""

    def __init__(self, kubeconfig: Path) -> None:
        config = yaml.safe_load(kubeconfig.read_text())
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        address = urllib.parse.urlsplit(cluster["server"])
        self.pid = 0  # for tests that look at the process
        self.host, self.port = address.hostname or "", address.port or 443
        authority = base64.b64decode(cluster["certificate-authority-data"]).decode()
        self.context = ssl.create_default_context(cadata=authority)
        with tempfile.TemporaryDirectory() as folder:
            pair = [Path(folder) / "certificate", Path(folder) / "key"]
            for path, field in zip(pair, ("client-certificate-data", "client-key-data"), strict=True):
                path.write_bytes(base64.b64decode(user[field]))
            self.context.load_cert_chain(*pair)

    async def connect(self, limit: int = 1 << 20) -> Connection:
        """Opens a connection; it takes at most about twice `limit` bytes that nobody reads."""
        pair = await asyncio.open_connection(self.host, self.port, ssl=self.context, limit=limit)
        return Connection(*pair)

    async def connect_many(self, count: int, at_once: int = 50) -> list[Connection]:
        """Opens many connections, few at a time."""
        gate = asyncio.Semaphore(at_once)

        async def one() -> Connection:
            async with gate:
                return await self.connect()

        return list(await asyncio.gather(*(one() for _ in range(count))))


def request(method: str, path: str, body: Any = None, **headers: str) -> bytes:
    """Returns a request's bytes; `headers` by name, `_` for `-`."""
    data = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"{method} {path} HTTP/1.1", "Host: test", "Accept: application/json"]
    if data:
        lines += ["Content-Type: application/json", f"Content-Length: {len(data)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + data
