"""One half-closable channel of several within a connection: a SPDY stream, or a channel of a WebSocket."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Protocol

CHANNEL_BYTES_MAX = 1024 * 1024  # unread bytes of a channel beyond which its connection stops reading


class Channel(Protocol):
    """A channel: both halves may end on their own."""

    async def read(self) -> bytes:
        """Returns the next bytes; empty at the end of the peer's half. Raises ConnectionError if it broke off."""
        ...

    async def write(self, data: bytes) -> None:
        """Sends bytes; raises ConnectionError if the connection is gone."""
        ...

    async def close(self) -> None:
        """Ends our half; the peer's half stays readable."""
        ...


class Inbox:
    """Bytes that arrived for one channel and wait to be read; whoever fills it waits while it is full."""

    __slots__ = ("_broken", "_buffer", "_changed", "ended")

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._changed: asyncio.Event | None = None
        self._broken = False
        self.ended = False

    def feed(self, data: bytes) -> None:
        if not self.ended:
            self._buffer += data
            self._notify()

    def end(self, *, broken: bool = False) -> None:
        if not self.ended:
            self.ended, self._broken = True, broken
        self._notify()

    async def room(self) -> None:
        """Waits until the inbox may take more."""
        while len(self._buffer) > CHANNEL_BYTES_MAX and not self.ended:
            await self._wait()

    async def read(self) -> bytes:
        while not self._buffer:
            if self._broken:
                raise ConnectionResetError("the channel broke off")
            if self.ended:
                return b""
            await self._wait()
        taken = bytes(self._buffer)
        self._buffer.clear()
        self._notify()
        return taken

    def discard(self) -> None:
        """Nobody will read any more: what arrives is dropped."""
        self._buffer.clear()
        self.ended = True
        self._notify()

    async def _wait(self) -> None:
        if self._changed is None:
            self._changed = asyncio.Event()
        await self._changed.wait()

    def _notify(self) -> None:
        changed, self._changed = self._changed, None
        if changed is not None:
            changed.set()


async def carry(source: Channel, sink: Channel) -> None:
    """Carries bytes one way, and then the end of the source's half."""
    try:
        while data := await source.read():
            await sink.write(data)
    finally:
        await quietly(sink.close)


async def quietly(action: Callable[[], Awaitable[None]]) -> None:
    """Does something that does not matter any more if the peer is gone."""
    try:
        await action()
    except ConnectionError:
        pass


async def as_socket(channel: Channel) -> socket.socket:
    """Returns a socket that leads to the channel: what code that needs a real one (TLS, HTTP) can use.

    Ends with either side; the bytes are carried by tasks in between.
    """
    near, far = socket.socketpair()
    near.setblocking(False)
    far.setblocking(False)
    loop = asyncio.get_running_loop()

    async def outward() -> None:
        while data := await loop.sock_recv(far, 65536):
            await channel.write(data)
        await channel.close()

    async def inward() -> None:
        while data := await channel.read():
            await loop.sock_sendall(far, data)
        far.shutdown(socket.SHUT_WR)

    async def both() -> None:
        try:
            await asyncio.gather(outward(), inward(), return_exceptions=True)
        finally:
            far.close()
            await quietly(channel.close)

    task = loop.create_task(both())
    _carriers.add(task)
    task.add_done_callback(_carriers.discard)
    return near


_carriers: set[asyncio.Task[None]] = set()
