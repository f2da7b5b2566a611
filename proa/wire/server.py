"""An HTTP/1.1 server: one asyncio protocol per connection over httptools.

Keep-alive, pipelining (answers in order), chunked bodies both ways, `Expect: 100-continue`, upgrades without lost
bytes, limits on headers, slow headers and idle connections, back-pressure in both directions. A client that goes away
cancels its handler. Run it under uvloop: asyncio's own loop needs ten times the memory per TLS connection.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Coroutine, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from email.utils import formatdate
from http import HTTPStatus
from typing import Any

import httptools

from proa.wire.http import BodyTooLarge, BodyTooSlow, Handler, Headers, Request, Response, Stream
from proa.wire.stream import BUFFER_BYTES_MAX, Endpoint

log = logging.getLogger(__name__)

_LINGER_SECONDS = 1.0  # how long a refused body is still read, so that the refusal reaches the client
_WRITE_BYTES = 256 * 1024  # parts of a body are joined up to about this size per write
_SWEEP_SECONDS = 1.0
_STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one connection may take: bytes and count of a request's headers, seconds for them to arrive and for a body
    to do so, seconds that a connection may stay without a request, and that a client may leave an answer unread."""

    head_bytes_max: int = 128 * 1024
    header_count_max: int = 256
    head_seconds_max: float = 30.0
    body_seconds_max: float = 60.0
    idle_seconds_max: float = 180.0
    stall_seconds_max: float = 60.0
    handshake_seconds_max: float = 10.0


class RequestBody:
    """A request's body as it arrives; the connection stops reading while too much of it waits unread."""

    __slots__ = ("_connection", "_size", "complete", "expect_continue", "parts", "refused", "waiter")

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._size = 0  # of the waiting parts
        self.parts: list[bytes] = []  # few, and a deque takes half a KiB
        self.complete = False
        self.refused = False
        self.expect_continue = False
        self.waiter: asyncio.Future[None] | None = None

    def feed(self, data: bytes) -> None:
        if self.refused:
            return
        self.parts.append(data)
        self._size += len(data)
        if self._size > BUFFER_BYTES_MAX and self.waiter is None:
            self._connection.pause()
        self.wake()

    def wake(self) -> None:
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_result(None)

    async def read_some(self) -> bytes:
        while not self.parts:
            if self.complete:
                return b""
            if self._connection.closed:
                raise ConnectionResetError("the client went away within its request's body")
            if self.expect_continue:
                self.expect_continue = False
                self._connection.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self._connection.resume()
            self.waiter = self._connection.loop.create_future()
            try:
                await self.waiter
            finally:
                self.waiter = None
        part = self.parts.pop(0)
        self._size -= len(part)
        return part

    async def read(self, size_max: int) -> bytes:
        if self.complete and len(self.parts) <= 1:  # almost always
            part = self.parts.pop(0) if self.parts else b""
            if len(part) > size_max:
                raise BodyTooLarge
            return part
        whole: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(self._connection.server.limits.body_seconds_max):
                while part := await self.read_some():
                    size += len(part)
                    if size > size_max:
                        self.refused = True
                        self.parts.clear()
                        raise BodyTooLarge
                    whole.append(part)
        except TimeoutError:
            raise BodyTooSlow from None
        return b"".join(whole)

    def declare(self, length: int | None, expects: bool) -> None:
        self.expect_continue = expects and length != 0


class _Exchange:
    """A request on its way: what is parsed of it, and how its answer is to be framed."""

    __slots__ = ("body", "headers", "http10", "keep_alive", "method", "repeated", "target", "upgrade")

    def __init__(self, connection: Connection) -> None:
        self.target = b""
        self.method = ""
        self.headers: dict[str, str] = {}
        self.repeated: dict[str, list[str]] = {}
        self.body = RequestBody(connection)
        self.keep_alive = True
        self.http10 = False
        self.upgrade = False


class Connection(Endpoint):
    """One client's connection: the parser's callbacks build exchanges, one task answers them in order."""

    __slots__ = (
        "_current",
        "_head_bytes",
        "_header_bytes",
        "_leftover",
        "_lingering",
        "_parser",
        "_patient",
        "_queue",
        "_reading_paused",
        "_task",
        "peer_address",
        "peer_certificate",
        "server",
    )

    def __init__(self, server: Server, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self.server = server
        self.peer_address = ""
        self.peer_certificate: bytes | None = None
        self._parser = httptools.HttpRequestParser(self)
        self._current: _Exchange | None = None  # the one whose head or body is arriving
        self._head_bytes = 0  # received of a head that is not complete
        self._header_bytes = 0
        self._queue: list[_Exchange] = []  # complete heads; the first is being answered
        self._task: asyncio.Task[None] | None = None
        self._leftover: bytes | None = None  # what followed a request that asks for an upgrade
        self._lingering = False
        self._patient = False  # with a client that leaves unread what it is sent
        self._reading_paused = False

    # ------------------------------------------------------------ connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        peer = transport.get_extra_info("peername")
        if isinstance(peer, tuple):
            self.peer_address = peer[0]
        tls = transport.get_extra_info("ssl_object")
        if tls is not None and (certificate := tls.getpeercert(True)) is not None:
            self.peer_certificate = self.server.shared_certificate(certificate)
        self.server.connected(self)

    def lost(self) -> None:
        self.server.disconnected(self)
        if self._current is not None:
            self._current.body.wake()
        if self._task is not None and self.upgraded is None:
            self._task.cancel()
        self._parser = None
        self._current = None

    def pause(self) -> None:
        if not self._reading_paused and not self.closed:
            self._reading_paused = True
            self.transport.pause_reading()

    def pause_writing(self) -> None:
        super().pause_writing()
        if not self._patient and self.upgraded is None:
            self.server.stalled(self)

    def resume_writing(self) -> None:
        super().resume_writing()
        self.server.flows(self)

    def resume(self) -> None:
        if self._reading_paused and not self.closed:
            self._reading_paused = False
            self.transport.resume_reading()

    def bytes_received(self, data: bytes) -> None:
        if self._lingering:
            return
        if self._leftover is not None:
            self._leftover += data
            if len(self._leftover) > BUFFER_BYTES_MAX:
                self.pause()
            return
        self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._leftover = data[upgrade.args[0] :]
            return
        except httptools.HttpParserError as error:
            reason = error.__context__
            if isinstance(reason, _HeadTooLarge):
                self._refuse(431, str(reason))
            else:
                self._refuse(400, "malformed HTTP request")
            return
        if self._in_head():
            if self._head_bytes > self.server.limits.head_bytes_max:
                self._refuse(431, "the request's headers are too large")
        elif len(self._queue) > 1:
            self.pause()  # pipelined requests wait here until the first is answered

    def _in_head(self) -> bool:
        return self._current is None or not self._current.method

    def _refuse(self, status: int, text: str) -> None:
        """Answers a request that cannot be understood, after those before it, and ends the connection."""
        if self._task is None and not self.closed:
            self.transport.write(_head(status, [("Content-Type", "text/plain")], len(text), close=True) + text.encode())
        self._linger()

    def _linger(self) -> None:
        """Closes soon, and reads on until then: a reset would take the answer away from a client that still sends."""
        self._lingering = True
        self.resume()
        self.server.stopped_waiting(self)
        self.loop.call_later(_LINGER_SECONDS, self.transport.close)

    # ------------------------------------------------------------ parser callbacks

    def on_message_begin(self) -> None:
        self._current = _Exchange(self)
        self._header_bytes = 0
        if not self._queue:
            self.server.head_began(self)

    def on_url(self, url: bytes) -> None:
        assert self._current is not None
        self._current.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        exchange = self._current
        assert exchange is not None
        if exchange.method:
            return  # a trailer of a chunked body
        self._header_bytes += len(name) + len(value)
        headers = exchange.headers
        key, text = name.decode("latin-1").lower(), value.decode("latin-1")
        if key in headers:
            exchange.repeated.setdefault(key, [headers[key]]).append(text)
            headers[key] += "," + text
            count = len(headers) + sum(map(len, exchange.repeated.values()))
        else:
            headers[key] = text
            count = len(headers)
        limits = self.server.limits
        if self._header_bytes > limits.head_bytes_max or count > limits.header_count_max:
            raise _HeadTooLarge("the request's headers are too large or too many")

    def on_headers_complete(self) -> None:
        exchange = self._current
        assert exchange is not None
        parser = self._parser
        if len(exchange.target) > self.server.limits.head_bytes_max:
            raise _HeadTooLarge("the request's target is too long")
        exchange.method = parser.get_method().decode("latin-1")
        exchange.http10 = parser.get_http_version() == "1.0"
        exchange.keep_alive = parser.should_keep_alive()
        exchange.upgrade = parser.should_upgrade()
        length = exchange.headers.get("content-length")
        expects = exchange.headers.get("expect", "").lower() == "100-continue"
        exchange.body.declare(int(length) if length and length.isdigit() else None, expects)
        self._head_bytes = 0
        self.server.stopped_waiting(self)
        self._queue.append(exchange)
        if self._task is None:
            self._task = self.loop.create_task(self._answer_all())

    def on_body(self, data: bytes) -> None:
        assert self._current is not None
        self._current.body.feed(data)

    def on_message_complete(self) -> None:
        exchange = self._current
        if exchange is not None:
            exchange.body.complete = True
            exchange.body.wake()
        self._current = None
        self._head_bytes = 0

    # ------------------------------------------------------------ answers

    async def _answer_all(self) -> None:
        try:
            while self._queue:
                exchange = self._queue[0]
                if not await self._answer(exchange):
                    return
                del self._queue[0]
                if not self._queue:
                    self.resume()
            self.server.idled(self)
        except (ConnectionError, asyncio.CancelledError):
            if not self.closed:
                self.transport.abort()
        finally:
            self._task = None
            if self.upgraded is not None and not self.closed:
                self.transport.close()

    async def _answer(self, exchange: _Exchange) -> bool:
        """Answers one request; returns whether the connection goes on."""
        request = Request(
            method=exchange.method,
            target=exchange.target.decode("latin-1"),
            headers=exchange.headers,
            body=exchange.body,
            peer_certificate=self.peer_certificate,
            peer_address=self.peer_address,
            upgrade=self._upgrade,
            repeated=exchange.repeated,
        )
        try:
            response = await self.server.handler(request)
        except ConnectionError:
            raise
        except Exception:
            if self.upgraded is not None:
                log.exception("after the upgrade of %s %s", request.method, request.target)
                return False
            log.exception("%s %s", request.method, request.target)
            response = Response(status=500, headers=[("Content-Type", "text/plain")], body=b"internal error\n")
        if self.upgraded is not None:
            return False
        if response is None:
            raise ConnectionAbortedError("the handler gave no answer")
        del request
        unread = not exchange.body.complete
        close = unread or not exchange.keep_alive or self.server.closing
        self._patient = response.patient
        try:
            await self._send(exchange, response, close)
        finally:
            if response.sent is not None:
                response.sent()
        if unread:
            exchange.body.refused = True
            self._linger()
            return False
        if close:
            self.transport.close()
            return False
        if self._leftover is not None:  # it asked for an upgrade and got an ordinary answer: HTTP goes on
            data, self._leftover = self._leftover, None
            self._parser = httptools.HttpRequestParser(self)
            if data:
                self.loop.call_soon(self.data_received, data)
            self.resume()
        return True

    async def _send(self, exchange: _Exchange, response: Response, close: bool) -> None:
        body = response.body
        bodiless = exchange.method == "HEAD" or response.status in (204, 304)
        if isinstance(body, AsyncIterator):
            await self._send_chunks(exchange, response, body, close, bodiless)
            return
        parts: Sequence[bytes] = (body,) if isinstance(body, bytes) else body
        size = sum(map(len, parts))
        head = _head(
            response.status, response.headers, size, close, no_length=response.status in (204, 304), more=response.head
        )
        if bodiless:
            await self.send(head)
        elif size <= _WRITE_BYTES:
            await self.send(b"".join((head, *parts)))
        else:
            for block in _blocks(head, parts):
                await self.send(block)

    async def _send_chunks(
        self, exchange: _Exchange, response: Response, chunks: AsyncIterator[bytes], close: bool, bodiless: bool
    ) -> None:
        length = response.length
        chunked = not exchange.http10 and length is None
        exchange.headers, exchange.repeated = {}, {}  # a stream may last for hours
        try:
            close = close or (not chunked and length is None)
            chunking, more = chunked and not bodiless, response.head
            await self.send(_head(response.status, response.headers, length, close, chunked=chunking, more=more))
            if bodiless:
                return
            sent = 0
            async for chunk in chunks:
                if chunk:
                    sent += len(chunk)
                    await self.send(b"%x\r\n%b\r\n" % (len(chunk), chunk) if chunked else chunk)
            if chunked:
                await self.send(b"0\r\n\r\n")
            elif length is None:
                self.transport.close()
            elif sent != length:
                raise ConnectionAbortedError(f"{sent} bytes of {length}")
        except Exception as error:
            if not isinstance(error, ConnectionError):
                log.exception("while streaming the answer to %s %r", exchange.method, exchange.target)
            raise ConnectionAbortedError("the stream broke off") from error  # no last chunk: the client sees it
        finally:
            close_chunks = getattr(chunks, "aclose", None)
            if close_chunks is not None:
                with suppress(RuntimeError):
                    await close_chunks()

    async def _upgrade(self, headers: Headers) -> Stream:
        if self._leftover is None or len(self._queue) != 1:
            raise RuntimeError("the request does not ask for an upgrade")
        names = {name.lower() for name, _ in headers}
        lines = [f"{name}: {value}\r\n" for name, value in headers]
        if "connection" not in names:
            lines.append("Connection: Upgrade\r\n")
        self.transport.write(_STATUS_LINES[101] + "".join(lines).encode("latin-1") + b"\r\n")
        leftover, self._leftover = self._leftover, None
        self._reading_paused = False
        return self.detach(leftover)

    def finish(self) -> None:
        """The server closes: an idle connection goes at once, one with a request after its answer."""
        if self._task is None:
            self.transport.close()

    def abort(self) -> None:
        if self._task is not None:
            self._task.cancel()
        self.transport.abort()


class _HeadTooLarge(Exception):
    pass


_date: tuple[int, bytes] = (0, b"")


def _date_line() -> bytes:
    global _date
    now = int(time.time())
    if _date[0] != now:
        _date = (now, b"Date: " + formatdate(now, usegmt=True).encode() + b"\r\n")
    return _date[1]


def _head(
    status: int,
    headers: Headers,
    length: int | None,
    close: bool,
    *,
    chunked: bool = False,
    no_length: bool = False,
    more: bytes = b"",
) -> bytes:
    parts = [_STATUS_LINES.get(status) or b"HTTP/1.1 %d Unknown\r\n" % status, more]
    parts.extend(f"{name}: {value}\r\n".encode("latin-1", "replace") for name, value in headers)
    parts.append(_date_line())
    if chunked:
        parts.append(b"Transfer-Encoding: chunked\r\n")
    elif length is not None and not no_length:
        parts.append(b"Content-Length: %d\r\n" % length)
    if close:
        parts.append(b"Connection: close\r\n")
    parts.append(b"\r\n")
    return b"".join(parts)


def _blocks(head: bytes, parts: Sequence[bytes]) -> Iterator[bytes]:
    """Joins parts into blocks of about _WRITE_BYTES: few writes, and no second copy of a large body."""
    pending, size = [head], len(head)
    for part in parts:
        pending.append(part)
        size += len(part)
        if size >= _WRITE_BYTES:
            yield b"".join(pending)
            pending, size = [], 0
    if pending:
        yield b"".join(pending)


class Server:
    """A listening server. `port` is the real one when 0 was asked for."""

    def __init__(self, handler: Handler, limits: Limits) -> None:
        self.handler = handler
        self.limits = limits
        self.closing = False
        self.port = 0
        self._loop = asyncio.get_running_loop()
        self._listener: asyncio.Server | None = None
        self._connections: set[Connection] = set()
        # Ordered by when they began, so that only the front needs looking at.
        self._heads: OrderedDict[Connection, float] = OrderedDict()
        self._idle: OrderedDict[Connection, float] = OrderedDict()
        self._stalled: OrderedDict[Connection, float] = OrderedDict()
        self._sweeper: asyncio.TimerHandle | None = None
        self._sweep_at = 0.0
        self._empty: asyncio.Future[None] | None = None
        self._certificates: OrderedDict[bytes, bytes] = OrderedDict()

    @property
    def connection_count(self) -> int:
        return len(self._connections)

    async def listen(
        self, host: str | Sequence[str] | None, port: int, context: ssl.SSLContext | None, *, reuse_port: bool = False
    ) -> None:
        self._listener = await self._loop.create_server(
            lambda: Connection(self, self._loop),
            host,
            port,
            ssl=context,
            backlog=1024,
            reuse_port=reuse_port or None,
            ssl_handshake_timeout=self.limits.handshake_seconds_max if context else None,
        )
        self.port = self._listener.sockets[0].getsockname()[1]

    async def close(self, grace_seconds: float = 1.0) -> None:
        """Stops listening, lets running requests finish within the grace period, then cuts off the rest."""
        self.closing = True
        if self._listener is not None:
            self._listener.close()
        for connection in list(self._connections):
            connection.finish()
        await self._wait_empty(grace_seconds)
        for connection in list(self._connections):
            connection.abort()
        await self._wait_empty(1.0)
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None

    async def _wait_empty(self, seconds: float) -> None:
        if self._connections:
            self._empty = self._loop.create_future()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._empty, seconds)

    # ------------------------------------------------------------ what connections tell it

    def connected(self, connection: Connection) -> None:
        self._connections.add(connection)
        self.head_began(connection)

    def disconnected(self, connection: Connection) -> None:
        self._connections.discard(connection)
        self.stopped_waiting(connection)
        self.flows(connection)
        if not self._connections and self._empty is not None and not self._empty.done():
            self._empty.set_result(None)

    def head_began(self, connection: Connection) -> None:
        self._idle.pop(connection, None)
        deadline = self._loop.time() + self.limits.head_seconds_max
        self._heads.setdefault(connection, deadline)
        self._arm(deadline)

    def stopped_waiting(self, connection: Connection) -> None:
        self._heads.pop(connection, None)
        self._idle.pop(connection, None)

    def idled(self, connection: Connection) -> None:
        if not connection.closed:
            self._idle[connection] = deadline = self._loop.time() + self.limits.idle_seconds_max
            self._arm(deadline)

    def stalled(self, connection: Connection) -> None:
        deadline = self._loop.time() + self.limits.stall_seconds_max
        self._stalled.setdefault(connection, deadline)
        self._arm(deadline)

    def flows(self, connection: Connection) -> None:
        self._stalled.pop(connection, None)

    def shared_certificate(self, certificate: bytes) -> bytes:
        """Returns one bytes object for equal certificates: many connections of one client hold it once."""
        known = self._certificates.setdefault(certificate, certificate)
        if len(self._certificates) > 1024:
            self._certificates.popitem(last=False)
        return known

    def _deadlines(self) -> tuple[OrderedDict[Connection, float], ...]:
        return self._heads, self._idle, self._stalled

    def _arm(self, deadline: float) -> None:
        """Sees to it that somebody looks when the deadline has passed, or a little later."""
        if self._sweeper is not None:
            if deadline > self._sweep_at - _SWEEP_SECONDS:
                return
            self._sweeper.cancel()
        self._sweep_at = max(deadline, self._loop.time() + _SWEEP_SECONDS)
        self._sweeper = self._loop.call_at(self._sweep_at, self._sweep)

    def _sweep(self) -> None:
        self._sweeper = None
        now = self._loop.time()
        for queue in self._deadlines():
            while queue and next(iter(queue.values())) <= now:
                connection, _ = queue.popitem(last=False)
                connection.transport.abort()
        first = min((next(iter(queue.values())) for queue in self._deadlines() if queue), default=None)
        if first is not None:
            self._arm(first)


async def serve(
    handler: Handler,
    host: str | Sequence[str] | None = "127.0.0.1",
    port: int = 0,
    context: ssl.SSLContext | None = None,
    *,
    limits: Limits | None = None,
    reuse_port: bool = False,
) -> Server:
    """Starts a server; `context` makes it HTTPS (see wire/tls.py). Raises OSError if the port is taken."""
    server = Server(handler, limits or Limits())
    await server.listen(host, port, context, reuse_port=reuse_port)
    return server


def run(main: Coroutine[Any, Any, Any]) -> Any:
    """Runs a program's main coroutine under uvloop."""
    import uvloop

    return uvloop.run(main)
