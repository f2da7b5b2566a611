"""What server and client connections share: write back-pressure, and becoming a raw byte stream after an upgrade."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from proa.wire.http import Stream

BUFFER_BYTES_MAX = 256 * 1024  # unread bytes beyond which a connection stops reading from its socket


class Endpoint(asyncio.Protocol):
    """One side of a connection. Subclasses parse what arrives in `bytes_received` until `upgraded` is set."""

    __slots__ = ("_writable", "closed", "loop", "transport", "upgraded")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.transport: asyncio.Transport = None  # type: ignore[assignment]
        self.closed = False
        self.upgraded: RawStream | None = None
        self._writable: asyncio.Future[None] | None = None

    def bytes_received(self, data: bytes) -> None:
        raise NotImplementedError

    def lost(self) -> None:
        """Called once when the connection is gone."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        if self.upgraded is not None:
            self.upgraded.feed(data)
        else:
            self.bytes_received(data)

    def eof_received(self) -> bool:
        if self.upgraded is not None:
            self.upgraded.feed(b"")
            return self.transport.get_extra_info("ssl_object") is None  # TLS has no half-close here
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        self.resume_writing()
        if self.upgraded is not None:
            self.upgraded.feed(b"")
        self.lost()

    def pause_writing(self) -> None:
        if self._writable is None:
            self._writable = self.loop.create_future()

    def resume_writing(self) -> None:
        waiting, self._writable = self._writable, None
        if waiting is not None and not waiting.done():
            waiting.set_result(None)

    async def send(self, data: bytes) -> None:
        """Writes, then waits while the peer reads slowly; raises ConnectionError if it is gone."""
        if self.closed:
            raise ConnectionResetError("the peer closed the connection")
        self.transport.write(data)
        if self._writable is not None:
            await asyncio.shield(self._writable)
            if self.closed:
                raise ConnectionResetError("the peer closed the connection")

    def detach(self, leftover: bytes) -> RawStream:
        """Turns the connection into a raw stream that begins with the bytes already received."""
        self.upgraded = RawStream(self)
        if leftover:
            self.upgraded.feed(leftover)
        self.transport.resume_reading()
        return self.upgraded


class RawStream:
    """The `Stream` of an upgraded connection."""

    __slots__ = ("_buffer", "_ended", "_endpoint", "_paused", "_waiter")

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._buffer = bytearray()
        self._ended = False
        self._paused = False
        self._waiter: asyncio.Future[None] | None = None

    def feed(self, data: bytes) -> None:
        """Takes received bytes; empty at the end of the peer's half."""
        if data:
            self._buffer += data
            if len(self._buffer) > BUFFER_BYTES_MAX and not self._paused:
                self._paused = True
                self._endpoint.transport.pause_reading()
        else:
            self._ended = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def read(self) -> bytes:
        while not self._buffer:
            if self._ended:
                return b""
            self._waiter = self._endpoint.loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        data = bytes(self._buffer)
        self._buffer.clear()
        if self._paused:
            self._paused = False
            if not self._endpoint.closed:
                self._endpoint.transport.resume_reading()
        return data

    async def write(self, data: bytes) -> None:
        await self._endpoint.send(data)

    async def close(self) -> None:
        """Closes after what was written is sent."""
        if not self._endpoint.closed:
            self._endpoint.transport.close()


async def pipe(one: Stream, other: Stream) -> None:
    """Carries bytes both ways between two streams until either ends; then closes both.

    This is all that a proxy of upgraded connections has to do.
    """

    async def carry(source: Stream, sink: Stream) -> None:
        try:
            while data := await source.read():
                await sink.write(data)
        except ConnectionError:
            pass

    tasks = [asyncio.ensure_future(carry(one, other)), asyncio.ensure_future(carry(other, one))]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        await asyncio.shield(_finish(tasks, (one.close, other.close)))


async def _finish(tasks: Sequence[asyncio.Future[None]], closes: tuple[Callable[[], Awaitable[None]], ...]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for close in closes:
        await close()
