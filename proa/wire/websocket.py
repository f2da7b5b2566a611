"""WebSockets over a raw stream: handshake of both sides, whole messages in and out.

Framing is the `websockets` package's sans-I/O layer (RFC 6455).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence

from websockets.exceptions import ProtocolError
from websockets.frames import Frame, Opcode
from websockets.protocol import Protocol, Side
from websockets.utils import accept_key, generate_key

from proa.wire.client import ClientResponse, HttpClient
from proa.wire.http import Headers, Request, Stream

MESSAGE_BYTES_MAX = 4 * 1024 * 1024


class WebSocket:
    """An open connection. One reader at a time; `send` may be called from anywhere."""

    def __init__(self, stream: Stream, side: Side, subprotocol: str) -> None:
        self.subprotocol = subprotocol
        self._stream = stream
        self._protocol = Protocol(side, max_size=MESSAGE_BYTES_MAX)
        self._frames: deque[Frame] = deque()
        self._over = False

    async def receive(self) -> tuple[bool, bytes] | None:
        """Returns the next message: whether it is text, and its bytes; None once the connection is closed."""
        parts: list[bytes] = []
        text = False
        while (frame := await self._next_frame()) is not None:
            if frame.opcode in (Opcode.TEXT, Opcode.BINARY):
                text = frame.opcode is Opcode.TEXT
            elif frame.opcode is not Opcode.CONT:
                continue
            parts.append(bytes(frame.data))
            if frame.fin:
                return text, b"".join(parts)
        return None

    async def _next_frame(self) -> Frame | None:
        while not self._frames:
            if self._over:
                return None
            data = await self._stream.read()
            if data:
                self._protocol.receive_data(data)
            else:
                self._protocol.receive_eof()
                self._over = True
            self._frames.extend(event for event in self._protocol.events_received() if isinstance(event, Frame))
            if self._protocol.close_rcvd is not None or self._protocol.parser_exc is not None:
                self._over = True
            await self._flush()
        return self._frames.popleft()

    async def send(self, data: bytes, *, text: bool = False) -> None:
        """Sends a message; raises ConnectionError if the connection is closed."""
        try:
            (self._protocol.send_text if text else self._protocol.send_binary)(data)
        except ProtocolError as error:  # InvalidState among them
            raise BrokenPipeError("the WebSocket is closed") from error
        await self._flush()

    async def close(self, code: int = 1000, reason: str = "", linger_seconds: float = 1.0) -> None:
        """Sends the close frame, waits a moment for the peer's, and closes."""
        try:
            async with asyncio.timeout(linger_seconds):
                if self._protocol.close_sent is None and not self._over:
                    self._protocol.send_close(code, reason)
                    await self._flush()
                while await self._next_frame() is not None:
                    pass
        except (TimeoutError, ConnectionError, ProtocolError):
            pass
        finally:
            await self._stream.close()

    async def _flush(self) -> None:
        data = b"".join(self._protocol.data_to_send())
        if data:
            await self._stream.write(data)


class Tunnel:
    """The `Stream` of bytes within a WebSocket's binary messages."""

    def __init__(self, websocket: WebSocket) -> None:
        self._websocket = websocket

    async def read(self) -> bytes:
        while (message := await self._websocket.receive()) is not None:
            if message[1]:
                return message[1]
        return b""

    async def write(self, data: bytes) -> None:
        await self._websocket.send(data)

    async def close(self) -> None:
        await self._websocket.close()


def is_requested(request: Request) -> bool:
    """Whether the request asks for a WebSocket."""
    return request.header("upgrade").lower() == "websocket"


def offered_subprotocols(request: Request) -> list[str]:
    offers = (one.strip() for one in request.header("sec-websocket-protocol").split(","))
    return [one for one in offers if one]


def choose_subprotocol(offered: Sequence[str], supported: Sequence[str]) -> str | None:
    """Returns the first offer that is supported, None if there is none. Without offers: "" if that is supported."""
    return next((one for one in offered or [""] if one in supported), None)


async def accept(request: Request, subprotocol: str) -> WebSocket:
    """Answers the handshake with the chosen subprotocol ("": none); raises ValueError if it is not a proper one."""
    key = request.header("sec-websocket-key")
    if not key or request.header("sec-websocket-version") != "13":
        raise ValueError("not a WebSocket handshake of version 13")
    headers = [("Upgrade", "websocket"), ("Sec-WebSocket-Accept", accept_key(key))]
    if subprotocol:
        headers.append(("Sec-WebSocket-Protocol", subprotocol))
    return WebSocket(await request.upgrade(headers), Side.SERVER, subprotocol)


async def connect(
    client: HttpClient, url: str, subprotocols: Sequence[str], headers: Headers = ()
) -> tuple[ClientResponse, WebSocket | None]:
    """Opens a WebSocket; returns the answer and None if the server does not agree."""
    key = generate_key()
    wanted = [
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Key", key),
        ("Sec-WebSocket-Version", "13"),
        *([("Sec-WebSocket-Protocol", ", ".join(subprotocols))] if subprotocols else []),
        *headers,
    ]
    response, stream = await client.upgrade("GET", url, headers=wanted)
    if stream is None:
        return response, None
    if response.header("sec-websocket-accept") != accept_key(key):
        await stream.close()
        raise ConnectionError("the server's WebSocket handshake is wrong")
    return response, WebSocket(stream, Side.CLIENT, response.header("sec-websocket-protocol"))
