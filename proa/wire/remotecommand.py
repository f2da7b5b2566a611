"""Exec and attach: one `Session` of channels, whatever carries it, for servers and clients.

Follows Kubernetes' remote command protocols: v1 to v4.channel.k8s.io over SPDY/3.1 (a stream per channel, named by its
`streamType` header) and over WebSocket channel.k8s.io, v4 and v5, binary or base64 (a message's first byte names the
channel; in v5, channel 255 closes another one).
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import msgspec

from proa.wire import websocket as ws
from proa.wire.channel import Channel, Inbox, carry, quietly
from proa.wire.client import HttpClient
from proa.wire.http import Headers, Request, Response
from proa.wire.spdysession import SpdySession, SpdyStream
from proa.wire.websocket import WebSocket

STDIN, STDOUT, STDERR, ERROR, RESIZE = range(5)
_CLOSE = 255
_NAMES = ("stdin", "stdout", "stderr", "error", "resize")

SPDY_PROTOCOLS = ("v4.channel.k8s.io", "v3.channel.k8s.io", "v2.channel.k8s.io", "channel.k8s.io")
_WEBSOCKET_PROTOCOLS = (
    "v5.channel.k8s.io",
    "v4.channel.k8s.io",
    "v4.base64.channel.k8s.io",
    "channel.k8s.io",
    "base64.channel.k8s.io",
    "",
)
_STREAMS_SECONDS_MAX = 30.0  # for a SPDY client to open its streams


@dataclass(frozen=True, slots=True)
class Streams:
    """Which channels a command has. With a terminal there is no stderr of its own."""

    stdin: bool = False
    stdout: bool = False
    stderr: bool = False
    tty: bool = False

    def channels(self, version: str) -> list[int]:
        """Returns the channels in use, in the order in which clients open them."""
        wanted = [ERROR]
        wanted += [STDIN] if self.stdin else []
        wanted += [STDOUT] if self.stdout else []
        wanted += [STDERR] if self.stderr and not self.tty else []
        wanted += [RESIZE] if self.tty and version[:2] in ("v3", "v4", "v5") else []
        return wanted


class Session:
    """The channels of one running command; those not in use are None.

    Servers read `stdin` and `resize` and write the others; clients the other way round.
    """

    def __init__(self, version: str, channels: dict[int, Channel], close: Callable[[], Awaitable[None]]) -> None:
        self.version = version
        self.stdin = channels.get(STDIN)
        self.stdout = channels.get(STDOUT)
        self.stderr = channels.get(STDERR)
        self.error = channels[ERROR]
        self.resize = channels.get(RESIZE)
        self._close = close

    @property
    def structured_errors(self) -> bool:
        """Whether the error channel carries a Status object (v4 and later) or plain text."""
        return self.version[:2] in ("v4", "v5")

    async def finish(self, exit_code: int = 0, failure: str = "") -> None:
        """Server side: tells how the command ended, then closes. `failure` says why it could not run at all."""
        for channel in (self.stdout, self.stderr):
            if channel is not None:
                await quietly(channel.close)
        try:
            message = outcome(exit_code, failure, structured=self.structured_errors)
            if message:
                await self.error.write(message)
            await self.error.close()
        except ConnectionError:
            pass
        await self.close()

    async def close(self) -> None:
        await self._close()


def outcome(exit_code: int, failure: str, *, structured: bool) -> bytes:
    """Returns what the error channel says: a Status object, or a text that is empty for success."""
    if failure:
        status: dict[str, Any] = {
            "metadata": {},
            "status": "Failure",
            "message": failure,
            "reason": "InternalError",
            "details": {"causes": [{"message": failure}]},
            "code": 500,
        }
    elif exit_code:
        status = {
            "metadata": {},
            "status": "Failure",
            "message": f"command terminated with non-zero exit code: exit status {exit_code}",
            "reason": "NonZeroExitCode",
            "details": {"causes": [{"reason": "ExitCode", "message": str(exit_code)}]},
        }
    else:
        status = {"metadata": {}, "status": "Success"}
    if structured:
        return msgspec.json.encode(status)
    return str(status.get("message", "")).encode()


async def join(client: Session, command: Session) -> None:
    """Connects a client's session to a command's (such as the container runtime's): bytes, ends, sizes, outcome."""
    inward = [
        asyncio.create_task(carry(source, sink))
        for source, sink in ((client.stdin, command.stdin), (client.resize, command.resize))
        if source is not None and sink is not None
    ]
    outward = [
        asyncio.create_task(carry(source, sink))
        for source, sink in ((command.stdout, client.stdout), (command.stderr, client.stderr))
        if source is not None and sink is not None
    ]
    try:
        result = await _read_all(command.error)
        await asyncio.gather(*outward, return_exceptions=True)
        with suppress(ConnectionError):
            if result:
                await client.error.write(result)
            await client.error.close()
    finally:
        for task in (*inward, *outward):
            task.cancel()
        await asyncio.gather(*inward, *outward, return_exceptions=True)
        await command.close()
        await client.close()


async def _read_all(channel: Channel) -> bytes:
    parts: list[bytes] = []
    with suppress(ConnectionError):
        while part := await channel.read():
            parts.append(part)
    return b"".join(parts)


async def read_sizes(session: Session) -> tuple[int, int] | None:
    """Server side: returns the terminal's next (width, height) in characters; None when there will be no more."""
    if session.resize is None:
        return None
    while data := await session.resize.read():
        with suppress(msgspec.DecodeError, KeyError, TypeError, ValueError):
            size = msgspec.json.decode(data.strip().rsplit(b"\n", 1)[-1])
            return int(size["Width"]), int(size["Height"])
    return None


# ---------------------------------------------------------------- server side


async def accept(request: Request, streams: Streams) -> Session | Response:
    """Answers a client's request for a session; a Response says why there is none."""
    if ws.is_requested(request):
        offered = ws.offered_subprotocols(request)
        version = ws.choose_subprotocol(offered, _WEBSOCKET_PROTOCOLS)
        if version is None or not request.header("sec-websocket-key"):
            text = f"requested protocols are not supported: {offered}; supported: {list(_WEBSOCKET_PROTOCOLS)}"
            return _refusal(400, text)
        return await _websocket_session(await ws.accept(request, version), streams, server=True)
    if request.header("upgrade").lower() == "spdy/3.1":
        return await _accept_spdy(request, streams)
    return _refusal(400, "Upgrade request required")


def negotiate_spdy(request: Request, supported: Sequence[str]) -> str | Response:
    """Returns the protocol version that both sides know, or the refusal."""
    offered = [one.strip() for one in request.header("x-stream-protocol-version").split(",") if one.strip()]
    if not offered:
        return supported[-1]
    version = next((one for one in offered if one in supported), None)
    if version is not None:
        return version
    text = f"unable to negotiate protocol: client supports {offered}, server accepts {list(supported)}"
    return _refusal(403, text, [("X-Accepted-Stream-Protocol-Versions", one) for one in supported])


def _refusal(status: int, text: str, headers: Headers = ()) -> Response:
    return Response(status=status, headers=[("Content-Type", "text/plain"), *headers], body=text.encode() + b"\n")


async def _accept_spdy(request: Request, streams: Streams) -> Session | Response:
    version = negotiate_spdy(request, SPDY_PROTOCOLS)
    if isinstance(version, Response):
        return version
    raw = await request.upgrade([("Upgrade", "SPDY/3.1"), ("X-Stream-Protocol-Version", version)])
    spdy = SpdySession(raw, server=True).start()
    channels: dict[int, Channel] = {}
    wanted = set(streams.channels(version))
    try:
        async with asyncio.timeout(_STREAMS_SECONDS_MAX):
            while wanted - channels.keys():
                stream = await spdy.accept()
                if stream is None:
                    raise ConnectionResetError("the client closed before it opened its streams")
                await _assign(stream, wanted, channels)
    except BaseException:
        await spdy.close(0)
        raise
    return Session(version, channels, spdy.close)


async def _assign(stream: SpdyStream, wanted: set[int], channels: dict[int, Channel]) -> None:
    name = stream.headers.get("streamtype", "")
    channel = _NAMES.index(name) if name in _NAMES else -1
    if channel in wanted and channel not in channels:
        channels[channel] = stream
    else:
        await stream.reset()


# ---------------------------------------------------------------- client side


class UpgradeRefused(Exception):
    """The server did not switch protocols: its status and body."""

    def __init__(self, status: int, body: bytes) -> None:
        super().__init__(f"the server answered {status}: {body.decode('utf-8', 'replace').strip()}")
        self.status = status
        self.body = body


async def connect(client: HttpClient, url: str, streams: Streams, *, headers: Headers = ()) -> Session:
    """Opens a session over SPDY; raises UpgradeRefused."""
    offers = [("X-Stream-Protocol-Version", version) for version in SPDY_PROTOCOLS]
    response, raw = await client.upgrade("POST", url, headers=[("Upgrade", "SPDY/3.1"), *offers, *headers])
    if raw is None:
        raise UpgradeRefused(response.status, await response.read(65536))
    version = response.header("x-stream-protocol-version") or SPDY_PROTOCOLS[-1]
    spdy = SpdySession(raw, server=False).start()
    channels: dict[int, Channel] = {}
    for channel in streams.channels(version):
        channels[channel] = await spdy.open({"streamType": _NAMES[channel]})
        if channel == ERROR:
            await channels[channel].close()
    return Session(version, channels, spdy.close)


async def connect_websocket(
    client: HttpClient,
    url: str,
    streams: Streams,
    *,
    versions: Sequence[str] = ("v5.channel.k8s.io",),
    headers: Headers = (),
) -> Session:
    """Opens a session over WebSocket; raises UpgradeRefused."""
    response, websocket = await ws.connect(client, url, versions, headers)
    if websocket is None:
        raise UpgradeRefused(response.status, await response.read(65536))
    return await _websocket_session(websocket, streams, server=False)


# ---------------------------------------------------------------- channels of a WebSocket


class WebSocketChannels:
    """Splits a WebSocket into numbered channels; a task reads it and fills the channels' inboxes."""

    def __init__(self, websocket: WebSocket, *, base64_text: bool, closable: bool, server: bool) -> None:
        self._websocket = websocket
        self._base64 = base64_text
        self._closable = closable  # v5: clients can end a channel
        self._server = server
        self._inboxes: dict[int, Inbox] = {}
        self._reader: asyncio.Task[None] | None = None
        self.ended = asyncio.Event()

    def channel(self, number: int) -> WebSocketChannel:
        inbox = self._inboxes.setdefault(number, Inbox())
        return WebSocketChannel(self, number, inbox)

    def start(self) -> None:
        self._reader = asyncio.create_task(self._read())

    async def send(self, number: int, data: bytes) -> None:
        if self._base64:
            await self._websocket.send(b"%d" % number + base64.b64encode(data), text=True)
        else:
            await self._websocket.send(bytes((number,)) + data)

    async def send_end(self, number: int) -> None:
        if self._closable and not self._server:
            await self.send(_CLOSE, bytes((number,)))

    async def close(self) -> None:
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.gather(self._reader, return_exceptions=True)
        await self._websocket.close()

    async def _read(self) -> None:
        broken = False
        try:
            while (message := await self._websocket.receive()) is not None:
                await self._take(message[1])
        except ConnectionError:
            broken = True
        finally:
            self.ended.set()
            for inbox in self._inboxes.values():
                inbox.end(broken=broken)

    async def _take(self, message: bytes) -> None:
        if not message:
            return
        number, data = message[0], message[1:]
        if self._base64:
            number -= ord("0")
            try:
                data = base64.b64decode(data)
            except binascii.Error:
                return
        if number == _CLOSE and self._closable and data:
            if (ended := self._inboxes.get(data[0])) is not None:
                ended.end()
        elif (inbox := self._inboxes.get(number)) is not None and data:
            inbox.feed(data)
            await inbox.room()


class WebSocketChannel:
    """One of a WebSocket's channels, a `Channel`."""

    def __init__(self, channels: WebSocketChannels, number: int, inbox: Inbox) -> None:
        self._channels = channels
        self._number = number
        self._inbox = inbox
        self._closed = False

    async def read(self) -> bytes:
        return await self._inbox.read()

    async def write(self, data: bytes) -> None:
        await self._channels.send(self._number, data)

    async def close(self) -> None:
        if not self._closed:
            self._closed = True
            await self._channels.send_end(self._number)


async def _websocket_session(websocket: WebSocket, streams: Streams, *, server: bool) -> Session:
    version = websocket.subprotocol
    split = WebSocketChannels(
        websocket, base64_text="base64" in version, closable=version.startswith("v5."), server=server
    )
    split_version = version if version[:2] in ("v4", "v5") else "v3"  # resizing has always been there over WebSocket
    channels: dict[int, Channel] = {number: split.channel(number) for number in streams.channels(split_version)}
    split.start()
    if server:  # an empty message tells the client that it may begin
        await split.send(STDOUT if streams.stdout else STDERR if streams.stderr else ERROR, b"")
    return Session(version, channels, split.close)
