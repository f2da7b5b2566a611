"""A SPDY connection over a raw stream: opens and accepts streams, answers pings."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from proa.wire import spdy
from proa.wire.channel import Inbox
from proa.wire.http import Stream

STREAMS_MAX = 1000  # open at once


class SpdyStream:
    """One stream, a `Channel`. `headers` are those with which it was opened (names lower case)."""

    def __init__(self, session: SpdySession, number: int, headers: Mapping[str, str]) -> None:
        self.number = number
        self.headers = headers
        self.inbox = Inbox()
        self.half_closed = False
        self._session = session

    async def read(self) -> bytes:
        return await self.inbox.read()

    async def write(self, data: bytes) -> None:
        if self.half_closed:
            raise BrokenPipeError("our half of the stream is closed")
        for start in range(0, len(data), spdy.DATA_BYTES_MAX):
            await self._session.send(spdy.data(self.number, data[start : start + spdy.DATA_BYTES_MAX]))

    async def close(self) -> None:
        if not self.half_closed:
            self.half_closed = True
            self._session.forget(self)
            await self._session.send(spdy.data(self.number, b"", fin=True))

    async def reset(self, status: int = spdy.CANCEL) -> None:
        """Ends both halves at once."""
        self.half_closed = True
        self.inbox.discard()
        self._session.forget(self)
        await self._session.send(spdy.reset_stream(self.number, status))


class SpdySession:
    """Runs from `start` to `close`. The server's streams have even numbers, the client's odd ones."""

    def __init__(self, stream: Stream, *, server: bool) -> None:
        self._stream = stream
        self._server = server
        self._framing = spdy.Framing()
        self._streams: dict[int, SpdyStream] = {}
        self._arrived: asyncio.Queue[SpdyStream | None] = asyncio.Queue()
        self._next = 2 if server else 1
        self._last_accepted = 0
        self._reader: asyncio.Task[None] | None = None
        self.closed = asyncio.Event()

    def start(self) -> SpdySession:
        self._reader = asyncio.create_task(self._read())
        return self

    async def open(self, headers: Mapping[str, str]) -> SpdyStream:
        """Opens a stream; does not wait for the peer's consent, as data may follow at once."""
        number, self._next = self._next, self._next + 2
        stream = self._streams[number] = SpdyStream(self, number, headers)
        await self.send(self._framing.open_stream(number, headers))
        return stream

    async def accept(self) -> SpdyStream | None:
        """Returns the next stream that the peer opened; None when the connection ends."""
        if self.closed.is_set() and self._arrived.empty():
            return None
        return await self._arrived.get()

    async def send(self, frame: bytes) -> None:
        await self._stream.write(frame)

    def forget(self, stream: SpdyStream) -> None:
        """Called when a half closes: drops the stream once both are."""
        if stream.half_closed and stream.inbox.ended:
            self._streams.pop(stream.number, None)

    async def close(self, linger_seconds: float = 1.0) -> None:
        """Says goodbye and closes; a server first waits a moment for the client to close, so that it has read all."""
        try:
            await self.send(spdy.go_away(self._last_accepted))
            if self._server:
                await asyncio.wait_for(self.closed.wait(), linger_seconds)
        except (TimeoutError, ConnectionError):
            pass
        finally:
            if self._reader is not None:
                self._reader.cancel()
            self._end()
            await self._stream.close()

    async def _read(self) -> None:
        try:
            while data := await self._stream.read():
                for event in self._framing.receive(data):
                    await self._handle(event)
        except (ConnectionError, spdy.SpdyError):
            pass
        finally:
            self._end()

    def _end(self) -> None:
        if not self.closed.is_set():
            self.closed.set()
            self._arrived.put_nowait(None)
        for stream in self._streams.values():
            stream.inbox.end(broken=True)
        self._streams.clear()

    async def _handle(self, event: spdy.Event) -> None:
        if isinstance(event, spdy.DataReceived):
            await self._take_data(event)
        elif isinstance(event, spdy.StreamOpened):
            await self._take_stream(event)
        elif isinstance(event, spdy.StreamReset):
            stream = self._streams.pop(event.stream, None)
            if stream is not None:
                stream.half_closed = True
                stream.inbox.end(broken=True)
        elif isinstance(event, spdy.Pinged):
            if event.id % 2 == (1 if self._server else 0):
                await self.send(spdy.ping(event.id))
        elif isinstance(event, spdy.StreamAccepted) and event.fin:
            await self._take_data(spdy.DataReceived(event.stream, b"", True))

    async def _take_data(self, event: spdy.DataReceived) -> None:
        stream = self._streams.get(event.stream)
        if stream is None:
            return  # late data of a stream that is over
        if event.data:
            stream.inbox.feed(event.data)
            await stream.inbox.room()
        if event.fin:
            stream.inbox.end()
            self.forget(stream)

    async def _take_stream(self, event: spdy.StreamOpened) -> None:
        if event.stream % 2 == (0 if self._server else 1) or event.stream <= self._last_accepted:
            raise spdy.SpdyError("a stream number out of order")
        if len(self._streams) >= STREAMS_MAX:
            await self.send(spdy.reset_stream(event.stream, spdy.REFUSED_STREAM))
            return
        self._last_accepted = event.stream
        stream = self._streams[event.stream] = SpdyStream(self, event.stream, event.headers)
        await self.send(self._framing.accept_stream(event.stream))
        if event.fin:
            stream.inbox.end()
        self._arrived.put_nowait(stream)
