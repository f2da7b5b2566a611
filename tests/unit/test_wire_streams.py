"""SPDY, WebSocket, remote command and port-forward: frames as bytes, and both sides against each other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import msgspec
import pytest

from proa.wire import portforward, remotecommand, spdy
from proa.wire.channel import Channel
from proa.wire.client import HttpClient
from proa.wire.http import Handler, Request, Response
from proa.wire.remotecommand import Session, Streams, UpgradeRefused
from proa.wire.server import serve


def test_spdy_frames_survive_any_split() -> None:
    ours, theirs = spdy.Framing(), spdy.Framing()
    sent = [
        ours.open_stream(1, {"streamType": "stdin"}),
        ours.open_stream(3, {"streamType": "stdout", "x": "a\0b"}, fin=True),
        spdy.data(1, b"hello"),
        spdy.data(1, b"", fin=True),
        spdy.ping(1),
        spdy.reset_stream(3, spdy.CANCEL),
        spdy.go_away(3),
    ]
    expected = [
        spdy.StreamOpened(1, {"streamtype": "stdin"}, False),
        spdy.StreamOpened(3, {"streamtype": "stdout", "x": "a\0b"}, True),
        spdy.DataReceived(1, b"hello", False),
        spdy.DataReceived(1, b"", True),
        spdy.Pinged(1),
        spdy.StreamReset(3, spdy.CANCEL),
        spdy.WentAway(3, 0),
    ]
    whole = b"".join(sent)
    assert list(theirs.receive(whole)) == expected
    byte_by_byte = spdy.Framing()
    assert [event for n in range(len(whole)) for event in byte_by_byte.receive(whole[n : n + 1])] == expected


# What Go's spdystream sends for a first stream with header "streamType: error": recorded layout, our own numbers.
@pytest.mark.parametrize(
    ("frame", "event"),
    [
        (bytes.fromhex("8003000600000004 00000005"), spdy.Pinged(5)),
        (bytes.fromhex("8003000300000008 00000007 00000005"), spdy.StreamReset(7, 5)),
        (bytes.fromhex("00000001 01000002 6869"), spdy.DataReceived(1, b"hi", True)),
        (bytes.fromhex("8003000900000008 00000001 00010000"), None),
    ],
)
def test_spdy_frames_by_bytes(frame: bytes, event: spdy.Event | None) -> None:
    assert list(spdy.Framing().receive(frame)) == ([event] if event else [])


@pytest.mark.parametrize(
    "garbage",
    [b"\x80\x02" + bytes(6), bytes.fromhex("80030001000000aa") + bytes(0xAA), b"\x00\x00\x00\x01\x00\xff\xff\xff"],
)
def test_spdy_garbage_is_an_error(garbage: bytes) -> None:
    with pytest.raises(spdy.SpdyError):
        list(spdy.Framing().receive(garbage))


@asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[HttpClient]:
    server = await serve(handler)
    async with asyncio.timeout(10), HttpClient(f"http://127.0.0.1:{server.port}") as client:
        yield client
    await server.close(0.1)


async def read_all(channel: Channel | None) -> bytes:
    assert channel is not None
    return b"".join([part async for part in iterate(channel)])


async def iterate(channel: Channel) -> AsyncIterator[bytes]:
    while part := await channel.read():
        yield part


def running(streams: Streams, command: Callable[[Session], Awaitable[None]]) -> Handler:
    async def handler(request: Request) -> Response | None:
        session = await remotecommand.accept(request, streams)
        if isinstance(session, Response):
            return session
        await command(session)
        return None

    return handler


async def upper(session: Session) -> None:
    assert session.stdin is not None and session.stdout is not None and session.stderr is not None
    while data := await session.stdin.read():
        await session.stdout.write(data.upper())
    await session.stderr.write(b"done")
    await session.finish(exit_code=3)


ALL = Streams(stdin=True, stdout=True, stderr=True)


async def converse(session: Session) -> None:
    assert session.stdin is not None and session.stdout is not None
    payload = b"abc" * 300_000
    writing = asyncio.create_task(session.stdin.write(payload))
    received = b""
    while len(received) < len(payload):
        received += await session.stdout.read()
    assert received == payload.upper()
    await writing
    await session.stdin.close()
    assert await read_all(session.stderr) == b"done"
    status = msgspec.json.decode(await read_all(session.error))
    assert status["reason"] == "NonZeroExitCode"
    assert status["details"]["causes"] == [{"reason": "ExitCode", "message": "3"}]
    await session.close()


@pytest.mark.parametrize("carrier", ["spdy", "websocket"])
async def test_exec(carrier: str) -> None:
    connect = remotecommand.connect if carrier == "spdy" else remotecommand.connect_websocket
    async with serving(running(ALL, upper)) as client:
        await converse(await connect(client, "/exec", ALL))


async def test_websocket_client_through_to_a_spdy_runtime() -> None:
    async with serving(running(ALL, upper)) as runtime:

        async def relay(session: Session) -> None:
            await remotecommand.join(session, await remotecommand.connect(runtime, "/exec", ALL))

        async with serving(running(ALL, relay)) as client:
            await converse(await remotecommand.connect_websocket(client, "/exec", ALL))
            await converse(await remotecommand.connect(client, "/exec", ALL))


async def test_terminal_sizes_and_base64() -> None:
    sizes = []

    async def command(session: Session) -> None:
        sizes.append(await remotecommand.read_sizes(session))
        assert session.stdout is not None and session.stderr is None
        await session.stdout.write(b"\x00\xff")
        await session.finish()

    terminal = Streams(stdin=True, stdout=True, tty=True)
    async with serving(running(terminal, command)) as client:
        for connecting in (
            remotecommand.connect(client, "/", terminal),
            remotecommand.connect_websocket(client, "/", terminal, versions=["v4.base64.channel.k8s.io"]),
        ):
            session = await connecting
            assert session.resize is not None and session.stdout is not None
            await session.resize.write(b'{"Width":80,"Height":24}\n')
            assert await session.stdout.read() == b"\x00\xff"
            assert msgspec.json.decode(await read_all(session.error)) == {"metadata": {}, "status": "Success"}
            await session.close()
    assert sizes == [(80, 24)] * 2


async def test_unknown_protocols_are_refused() -> None:
    async with serving(running(ALL, upper)) as client:
        with pytest.raises(UpgradeRefused) as refused:
            await remotecommand.connect_websocket(client, "/", ALL, versions=["v9.channel.k8s.io"])
        assert refused.value.status == 400
        response, _ = await client.upgrade(
            "POST", "/", headers=[("Upgrade", "SPDY/3.1"), ("X-Stream-Protocol-Version", "v9.channel.k8s.io")]
        )
        assert response.status == 403
        assert (await client.request("POST", "/")).status == 400


@pytest.mark.parametrize("tunnel", [False, True])
async def test_port_forward(tunnel: bool) -> None:
    async def handler(request: Request) -> Response | None:
        forwarding = await portforward.accept(request)
        if isinstance(forwarding, Response):
            return forwarding

        async def one(connection: portforward.Connection) -> None:
            if connection.port == 81:
                await connection.fail("nothing listens")
                return
            while data := await connection.data.read():
                await connection.data.write(b"%d:%b" % (connection.port, data))
            await connection.end()

        async with asyncio.TaskGroup() as tasks:
            async for connection in forwarding:
                tasks.create_task(one(connection))
        await forwarding.close()
        return None

    async with serving(handler) as client:
        forwarder = await portforward.connect(client, "/", tunnel=tunnel)
        first, second, third = await forwarder.open(80), await forwarder.open(8080), await forwarder.open(81)
        await second.data.write(b"b")
        await first.data.write(b"a")
        assert await first.data.read() == b"80:a"
        assert await second.data.read() == b"8080:b"
        assert await third.error.read() == b"nothing listens"
        assert await third.data.read() == b""
        await first.data.close()
        assert (await first.data.read(), await first.error.read()) == (b"", b"")
        await forwarder.close()
