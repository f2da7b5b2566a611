"""Port forwarding: connections to ports, several within one client connection, for servers and clients.

Follows Kubernetes' portforward.k8s.io over SPDY/3.1 (an error and a data stream per connection, paired by `requestID`),
the same within a WebSocket (SPDY/3.1+portforward.k8s.io), and v4.channel.k8s.io over WebSocket (two channels per port).
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from proa.wire import websocket as ws
from proa.wire.channel import Channel, carry, quietly
from proa.wire.client import HttpClient
from proa.wire.http import Headers, Request, Response
from proa.wire.remotecommand import UpgradeRefused as UpgradeRefused
from proa.wire.remotecommand import WebSocketChannels, negotiate_spdy
from proa.wire.spdysession import SpdySession, SpdyStream

PROTOCOL = "portforward.k8s.io"
TUNNEL_PROTOCOL = "SPDY/3.1+portforward.k8s.io"
_CHANNEL_PROTOCOLS = ("v4.channel.k8s.io", "v4.base64.channel.k8s.io")
_PAIR_SECONDS_MAX = 30.0  # for the second stream of a pair to come


@dataclass(slots=True)
class Connection:
    """One forwarded connection: `data` carries its bytes; `error` a text if it could not be made or broke off."""

    port: int
    data: Channel
    error: Channel

    async def fail(self, text: str) -> None:
        """Server side: tells the client why the connection is of no use, and ends it."""
        with suppress(ConnectionError):
            await self.error.write(text.encode())
        await self.end()

    async def end(self) -> None:
        """Server side: ends both channels."""
        await quietly(self.error.close)
        await quietly(self.data.close)


class _Near:
    """The client's side of a forwarded connection: that it goes away is an end, not a failure."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self.gone = asyncio.Event()

    async def read(self) -> bytes:
        try:
            return await self._channel.read()
        except ConnectionError:
            self.gone.set()
            return b""

    async def write(self, data: bytes) -> None:
        try:
            await self._channel.write(data)
        except ConnectionError:
            self.gone.set()
            raise

    async def close(self) -> None:
        await self._channel.close()


async def join(connection: Connection, far: Channel) -> None:
    """Server side: carries a forwarded connection to and from what it leads to, until both directions ended.

    A client that goes away (kubectl resets its streams when it has all it wants) ends both at once; only what goes
    wrong on the far side is an error to be told.
    """
    near = _Near(connection.data)
    both: asyncio.Future[Any] = asyncio.gather(carry(near, far), carry(far, near), return_exceptions=True)
    gone: asyncio.Future[Any] = asyncio.create_task(near.gone.wait())
    try:
        await asyncio.wait([both, gone], return_when=asyncio.FIRST_COMPLETED)
        if near.gone.is_set():
            await connection.end()
            return
        failure = next((result for result in both.result() if isinstance(result, OSError)), None)
        if failure is not None:
            await connection.fail(f"error forwarding port {connection.port}: {failure}")
        else:
            await connection.end()
    finally:
        gone.cancel()
        both.cancel()
        with suppress(asyncio.CancelledError):
            await both


class Forwarding:
    """Server side of one client: iterate over its connections as they come, then close."""

    def __init__(self, connections: AsyncIterator[Connection], close: Callable[[], Awaitable[None]]) -> None:
        self._connections = connections
        self._close = close

    def __aiter__(self) -> AsyncIterator[Connection]:
        return self._connections

    async def close(self) -> None:
        await self._close()


async def accept(request: Request, ports: Sequence[int] = ()) -> Forwarding | Response:
    """Answers a client's request to forward; `ports` are those in the query (WebSocket v4 needs them)."""
    if ws.is_requested(request):
        chosen = ws.choose_subprotocol(ws.offered_subprotocols(request), (TUNNEL_PROTOCOL, *_CHANNEL_PROTOCOLS, ""))
        if chosen is None or not request.header("sec-websocket-key"):
            return Response(status=400, body=b"requested protocols are not supported\n")
        if chosen == TUNNEL_PROTOCOL:
            return _over_spdy(SpdySession(ws.Tunnel(await ws.accept(request, chosen)), server=True).start())
        if not ports:
            return Response(status=400, body=b'query parameter "ports" is required\n')
        return await _over_channels(await ws.accept(request, chosen), ports)
    if request.header("upgrade").lower() != "spdy/3.1":
        return Response(status=400, body=b"Upgrade request required\n")
    version = negotiate_spdy(request, (PROTOCOL,))
    if isinstance(version, Response):
        return version
    raw = await request.upgrade([("Upgrade", "SPDY/3.1"), ("X-Stream-Protocol-Version", version)])
    return _over_spdy(SpdySession(raw, server=True).start())


def _over_spdy(session: SpdySession) -> Forwarding:
    return Forwarding(_pairs(session), session.close)


async def _pairs(session: SpdySession) -> AsyncIterator[Connection]:
    """Yields a connection once both its streams are there. A client without requestIDs opens error, then data."""
    halves: dict[str, dict[str, SpdyStream]] = {}
    loop = asyncio.get_running_loop()

    def expire(request_id: str) -> None:
        for stream in halves.pop(request_id, {}).values():
            task = loop.create_task(quietly(stream.reset))
            expiring.add(task)
            task.add_done_callback(expiring.discard)

    expiring: set[asyncio.Task[None]] = set()
    while (stream := await session.accept()) is not None:
        kind, port = stream.headers.get("streamtype", ""), stream.headers.get("port", "")
        if kind not in ("error", "data") or not port.isdigit() or not 0 < int(port) < 65536:
            await quietly(stream.reset)
            continue
        number = stream.number if kind == "error" else stream.number - 2
        request_id = stream.headers.get("requestid") or f"stream {number}"
        pair = halves.setdefault(request_id, {})
        if kind in pair:
            await quietly(stream.reset)
            continue
        pair[kind] = stream
        if len(pair) == 2:
            del halves[request_id]
            yield Connection(int(port), pair["data"], pair["error"])
        else:
            loop.call_later(_PAIR_SECONDS_MAX, expire, request_id)


async def _over_channels(websocket: ws.WebSocket, ports: Sequence[int]) -> Forwarding:
    split = WebSocketChannels(websocket, base64_text="base64" in websocket.subprotocol, closable=False, server=True)
    connections = [
        Connection(port, split.channel(2 * index), split.channel(2 * index + 1)) for index, port in enumerate(ports)
    ]
    split.start()
    for one in connections:  # each channel begins with its port
        for channel in (one.data, one.error):
            await channel.write(struct.pack("<H", one.port))

    async def come() -> AsyncIterator[Connection]:
        for one in connections:
            yield one
        await split.ended.wait()

    return Forwarding(come(), split.close)


class Forwarder:
    """Client side: opens connections to ports through one SPDY connection."""

    def __init__(self, session: SpdySession) -> None:
        self._session = session
        self._count = 0

    async def open(self, port: int) -> Connection:
        """Opens a connection; `error` of it yields a text if it fails."""
        headers = {"port": str(port), "requestID": str(self._count)}
        self._count += 1
        error = await self._session.open({"streamType": "error", **headers})
        await error.close()
        return Connection(port, await self._session.open({"streamType": "data", **headers}), error)

    async def close(self) -> None:
        await self._session.close()


class OwnedData:
    """The data of a forwarded connection, as a `Channel` that takes its forwarder along when it closes."""

    def __init__(self, connection: Connection, forwarder: Forwarder) -> None:
        self._connection = connection
        self._forwarder = forwarder

    async def read(self) -> bytes:
        data = await self._connection.data.read()
        if not data:
            await self._forwarder.close()
        return data

    async def write(self, data: bytes) -> None:
        await self._connection.data.write(data)

    async def close(self) -> None:
        await self._connection.data.close()


async def connect(client: HttpClient, url: str, *, tunnel: bool = False, headers: Headers = ()) -> Forwarder:
    """Opens a forwarder over SPDY, or over SPDY within a WebSocket; raises UpgradeRefused."""
    if tunnel:
        response, websocket = await ws.connect(client, url, (TUNNEL_PROTOCOL,), headers)
        if websocket is None:
            raise UpgradeRefused(response.status, await response.read(65536))
        return Forwarder(SpdySession(ws.Tunnel(websocket), server=False).start())
    wanted = [("Upgrade", "SPDY/3.1"), ("X-Stream-Protocol-Version", PROTOCOL), *headers]
    response, raw = await client.upgrade("POST", url, headers=wanted)
    if raw is None:
        raise UpgradeRefused(response.status, await response.read(65536))
    return Forwarder(SpdySession(raw, server=False).start())
