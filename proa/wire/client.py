"""An HTTP/1.1 client: a pool of kept-alive connections over httptools, streaming bodies, upgrades to raw streams.

It serves the API client, the API server's own calls (node agents, webhooks) and the tests. It follows no redirects,
keeps no cookies and retries only what is certainly safe: a request without effects on a kept connection that turns
out dead.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from types import TracebackType
from typing import NamedTuple, Self
from urllib.parse import urlsplit

import httptools

from proa.wire.http import BodyTooLarge, Headers, Stream
from proa.wire.stream import BUFFER_BYTES_MAX, Endpoint

_IDLE_PER_TARGET_MAX = 32
_SAFE_METHODS = ("GET", "HEAD", "OPTIONS")


# Makes a connected socket, for servers that cannot be reached by address.
Dial = Callable[[], Awaitable[socket.socket]]


class Target(NamedTuple):
    """Where a connection leads: `server_name` is the name in its certificate, empty without TLS. `route` names the way
    that a connection was dialled."""

    host: str
    port: int
    server_name: str
    route: str = ""


class ClientResponse:
    """An answer whose headers have arrived. Read it to the end or close it.

    Names of headers are in lower case; repeated ones are joined by commas, those of Set-Cookie by line feeds.

    Reading raises ConnectionError if the answer breaks off. As an async context manager it closes itself.
    """

    def __init__(self, connection: _Connection, status: int, headers: dict[str, str]) -> None:
        self.status = status
        self.headers = headers
        self._connection = connection
        self._parts: deque[bytes] = deque()
        self._size = 0
        self._waiter: asyncio.Future[None] | None = None
        self._complete = False
        self._broken = False

    def header(self, name: str, default: str = "") -> str:
        return self.headers.get(name, default)

    async def read_some(self) -> bytes:
        """Returns the next part of the body as it arrives; empty at its end."""
        while not self._parts:
            if self._complete:
                return b""
            if self._broken:
                raise ConnectionResetError("the server broke off its answer")
            self._connection.resume()
            self._waiter = self._connection.loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        part = self._parts.popleft()
        self._size -= len(part)
        return part

    async def read(self, size_max: int | None = None) -> bytes:
        """Returns the whole body; raises BodyTooLarge beyond `size_max` bytes."""
        parts: list[bytes] = []
        size = 0
        while part := await self.read_some():
            size += len(part)
            if size_max is not None and size > size_max:
                self.close()
                raise BodyTooLarge
            parts.append(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yields the parts of the body as they arrive; leaving it early closes the connection."""
        try:
            while part := await self.read_some():
                yield part
        finally:
            self.close()

    def close(self) -> None:
        """Gives the connection up unless the answer was complete (then it went back to the pool by itself)."""
        if not self._complete:
            self._connection.transport.abort()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self.close()

    # what the connection calls

    def feed(self, data: bytes) -> None:
        self._parts.append(data)
        self._size += len(data)
        if self._size > BUFFER_BYTES_MAX:
            self._connection.pause()
        self._wake()

    def end(self, *, broken: bool = False) -> None:
        if not self._complete:
            self._complete, self._broken = not broken, broken
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class _Connection(Endpoint):
    """One connection, one request at a time."""

    __slots__ = ("_bodiless", "_head", "_headers", "_parser", "_pool", "_reading_paused", "_response", "idle_since")

    def __init__(self, pool: list[_Connection] | None, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self._pool = pool  # where it goes when idle; None: it serves one request only
        self._parser = httptools.HttpResponseParser(self)
        self._head: asyncio.Future[ClientResponse] | None = None
        self._headers: dict[str, str] = {}
        self._response: ClientResponse | None = None
        self._bodiless = False
        self._reading_paused = False
        self.idle_since = 0.0

    async def exchange(self, head: bytes, body: bytes | AsyncIterator[bytes], method: str) -> ClientResponse:
        """Sends a request; returns when the answer's head is there. A failure closes the connection."""
        self._bodiless = method == "HEAD"
        # A variable of its own: as soon as the answer is complete the connection may serve the next exchange, even
        # before this one goes on.
        answer: asyncio.Future[ClientResponse] = self.loop.create_future()
        self._head = answer
        try:
            if isinstance(body, bytes):
                await self.send(head + body if len(body) < 65536 else head)
                if len(body) >= 65536:
                    await self._send_body(body)
            else:
                await self.send(head)
                async for part in body:
                    if part:
                        await self.send(b"%x\r\n%b\r\n" % (len(part), part))
                await self.send(b"0\r\n\r\n")
            return await answer
        except BaseException as error:
            # A server may answer (413, say) and close before it has read the body.
            if isinstance(error, ConnectionError) and answer.done() and answer.exception() is None:
                return answer.result()
            if self._head is answer:
                self.transport.abort()
            raise
        finally:
            if answer.done() and not answer.cancelled():
                answer.exception()  # seen, even if nobody awaited it
            if self._head is answer:
                self._head = None

    async def _send_body(self, body: bytes) -> None:
        view = memoryview(body)
        for start in range(0, len(body), BUFFER_BYTES_MAX):
            if self._head is not None and self._head.done():
                return
            await self.send(bytes(view[start : start + BUFFER_BYTES_MAX]))

    def pause(self) -> None:
        if not self._reading_paused and not self.closed:
            self._reading_paused = True
            self.transport.pause_reading()

    def resume(self) -> None:
        if self._reading_paused and not self.closed:
            self._reading_paused = False
            self.transport.resume_reading()

    def bytes_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self.detach(data[upgrade.args[0] :])
        except httptools.HttpParserError:
            self.transport.abort()

    def lost(self) -> None:
        if self._pool is not None and self in self._pool:
            self._pool.remove(self)
        if self._head is not None and not self._head.done():
            self._head.set_exception(ConnectionResetError("the server closed the connection without an answer"))
        response, self._response = self._response, None
        if response is not None:
            framed = "content-length" in response.headers or "transfer-encoding" in response.headers
            response.end(broken=framed)
        self._parser = None

    def on_header(self, name: bytes, value: bytes) -> None:
        key, text = name.decode("latin-1").lower(), value.decode("latin-1")
        if key in self._headers:
            text = f"{self._headers[key]}{chr(10) if key == 'set-cookie' else ','}{text}"
        self._headers[key] = text

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        headers, self._headers = self._headers, {}
        if 100 <= status < 200 and status != 101:
            return
        if self._head is None or self._head.done():
            raise ConnectionError("an answer without a request")
        response = self._response = ClientResponse(self, status, headers)
        self._head.set_result(response)
        if self._bodiless or status == 101:
            keep = self._parser.should_keep_alive()
            self._response = None
            response.end()
            if status != 101:
                self._parser = httptools.HttpResponseParser(self)
                self._retire(keep)

    def on_body(self, data: bytes) -> None:
        if self._response is not None:
            self._response.feed(data)

    def on_message_complete(self) -> None:
        response, self._response = self._response, None
        if response is not None:
            keep = self._parser.should_keep_alive()
            response.end()
            self._retire(keep)

    def _retire(self, keep: bool) -> None:
        if not keep or self._pool is None or len(self._pool) >= _IDLE_PER_TARGET_MAX:
            self.transport.close()
        else:
            self.resume()
            self.idle_since = self.loop.time()
            self._pool.append(self)


class HttpClient:
    """A client of one or many servers. `base` (such as `https://127.0.0.1:6443`) precedes URLs that begin with a slash;
    `context` is for TLS. `headers` go with every request."""

    def __init__(
        self,
        base: str = "",
        *,
        context: ssl.SSLContext | None = None,
        headers: Headers = (),
        connect_seconds_max: float = 10.0,
        idle_seconds_max: float = 60.0,
    ) -> None:
        self.base = base.rstrip("/")
        self.context = context
        self.headers = headers
        self._connect_seconds_max = connect_seconds_max
        self._idle_seconds_max = idle_seconds_max
        self._pools: dict[Target, list[_Connection]] = {}
        self._open: set[_Connection] = set()

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Headers = (),
        body: bytes | AsyncIterator[bytes] = b"",
        address: tuple[str, int] | None = None,
        server_name: str = "",
        dial: Dial | None = None,
        route: str = "",
        host_header: str = "",
    ) -> ClientResponse:
        """Sends a request and returns the answer as soon as its head is there.

        An iterator is sent chunked. `address` overrides where to connect, `server_name` the name that the server's
        certificate must bear, `host_header` the Host that is sent. `dial` makes the connection: for this request alone,
        or, with a `route` that names where it leads, to be kept for others of the same route. Raises OSError
        (ConnectionError, ssl.SSLError, TimeoutError to connect).
        """
        target, head = self._prepare(method, url, headers, body, address, server_name, host_header)
        if dial is not None:
            if not route:
                return await (await self._connect(target, None, dial)).exchange(head, body, method)
            target = target._replace(route=route)
        pool = self._pools.setdefault(target, [])
        while (kept := self._kept(pool)) is not None:
            try:
                return await kept.exchange(head, body, method)
            except ConnectionError:
                if method not in _SAFE_METHODS or not isinstance(body, bytes):
                    raise
        connection = await self._connect(target, pool, dial)
        return await connection.exchange(head, body, method)

    async def upgrade(
        self,
        method: str,
        url: str,
        *,
        headers: Headers = (),
        address: tuple[str, int] | None = None,
        server_name: str = "",
        dial: Dial | None = None,
        host_header: str = "",
    ) -> tuple[ClientResponse, Stream | None]:
        """Asks for an upgrade (`headers` name it) on a connection of its own.

        Returns the answer with the raw stream, or with None if the status is not 101; the caller closes either.
        """
        asked = [("Connection", "Upgrade"), *headers]
        target, head = self._prepare(method, url, asked, b"", address, server_name, host_header)
        connection = await self._connect(target, None, dial)
        response = await connection.exchange(head, b"", method)
        if response.status != 101:
            return response, None
        return response, connection.upgraded or connection.detach(b"")

    async def close(self) -> None:
        """Closes every connection, those in use included."""
        for connection in list(self._open):
            if not connection.closed:
                connection.transport.abort()
        self._pools.clear()
        await asyncio.sleep(0)

    def _prepare(
        self,
        method: str,
        url: str,
        headers: Headers,
        body: bytes | AsyncIterator[bytes],
        address: tuple[str, int] | None,
        server_name: str,
        host_header: str = "",
    ) -> tuple[Target, bytes]:
        parts = urlsplit(self.base + url if url.startswith("/") else url)
        secure = parts.scheme == "https"
        host = parts.hostname or ""
        port = parts.port or (443 if secure else 80)
        reach = address or (host, port)
        target = Target(reach[0], reach[1], (server_name or host) if secure else "")
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        lines = [f"{method} {path} HTTP/1.1", f"Host: {host_header or parts.netloc.rpartition('@')[2]}"]
        lines += [f"{name}: {value}" for name, value in (*self.headers, *headers)]
        if not isinstance(body, bytes):
            lines.append("Transfer-Encoding: chunked")
        elif body or method in ("POST", "PUT", "PATCH"):
            lines.append(f"Content-Length: {len(body)}")
        if any("\r" in line or "\n" in line for line in lines):
            raise ValueError("a line break within a header or URL")
        return target, "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"

    def _kept(self, pool: list[_Connection]) -> _Connection | None:
        while pool:
            connection = pool.pop()
            if not connection.closed and not connection.transport.is_closing():
                if connection.loop.time() - connection.idle_since < self._idle_seconds_max:
                    return connection
                connection.transport.abort()
        return None

    async def _connect(self, target: Target, pool: list[_Connection] | None, dial: Dial | None = None) -> _Connection:
        loop = asyncio.get_running_loop()
        if target.server_name and self.context is None:
            self.context = ssl.create_default_context()
        async with asyncio.timeout(self._connect_seconds_max):
            context = self.context if target.server_name else None
            name = target.server_name or None
            if dial is None:
                _, connection = await loop.create_connection(
                    lambda: _Connection(pool, loop), target.host, target.port, ssl=context, server_hostname=name
                )
            else:
                made = await dial()
                _, connection = await loop.create_connection(
                    lambda: _Connection(pool, loop), sock=made, ssl=context, server_hostname=name
                )
        self._open = {one for one in self._open if not one.closed}
        self._open.add(connection)
        return connection

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        with suppress(ConnectionError):
            await self.close()
