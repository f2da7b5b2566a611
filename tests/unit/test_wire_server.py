"""The HTTP/1.1 server, byte by byte over real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from proa.wire.http import BodyTooLarge, BodyTooSlow, Request, Response
from proa.wire.server import Limits, Server, serve


@asynccontextmanager
async def connected(
    handler: Callable[[Request], Awaitable[Response | None]], limits: Limits | None = None
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter, Server]]:
    server = await serve(handler, limits=limits)
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        async with asyncio.timeout(10):
            yield reader, writer, server
    finally:
        writer.close()
        await server.close(0.1)


async def head(reader: asyncio.StreamReader) -> tuple[int, dict[str, str]]:
    lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    return int(lines[0].split()[1]), {k.lower(): v for k, v in (line.split(": ", 1) for line in lines[1:] if line)}


async def answer(reader: asyncio.StreamReader) -> tuple[int, dict[str, str], bytes]:
    status, headers = await head(reader)
    body = b""
    if headers.get("transfer-encoding") == "chunked":
        while size := int(await reader.readline(), 16):
            body += (await reader.readexactly(size + 2))[:-2]
        await reader.readline()
    else:
        body = await reader.readexactly(int(headers.get("content-length", 0)))
    return status, headers, body


async def echo(request: Request) -> Response:
    return Response(body=request.target.encode() + b"|" + await request.body.read(1000))


async def test_pipelined_requests_are_answered_in_order() -> None:
    async def slow_first(request: Request) -> Response:
        if request.target == "/0":
            await asyncio.sleep(0.01)
        return await echo(request)

    async with connected(slow_first) as (reader, writer, _):
        for n in range(20):
            writer.write(b"POST /%d HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc" % n)
        for n in range(20):
            assert (await answer(reader))[2] == b"/%d|abc" % n


async def test_chunked_body_and_repeated_headers() -> None:
    async def handler(request: Request) -> Response:
        assert request.header_values("x-one") == ["a,b", "c"]
        assert request.headers["x-one"] == "a,b,c"
        return await echo(request)

    async with connected(handler) as (reader, writer, _):
        writer.write(b"POST / HTTP/1.1\r\nHost: h\r\nX-One: a,b\r\nx-one: c\r\nTransfer-Encoding: chunked\r\n\r\n")
        for part in (b"3\r\nabc\r\n", b"2\r\nd", b"e\r\n0\r\n", b"\r\n"):
            writer.write(part)
            await asyncio.sleep(0)
        assert (await answer(reader))[2] == b"/|abcde"


async def test_expect_continue_is_sent_when_the_body_is_wanted() -> None:
    async with connected(echo) as (reader, writer, _):
        writer.write(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"ok")
        assert (await answer(reader))[2] == b"/|ok"


async def test_large_body_is_refused_and_the_refusal_arrives() -> None:
    async def handler(request: Request) -> Response:
        try:
            await request.body.read(1000)
        except BodyTooLarge:
            return Response(status=413, body=b"no")
        raise AssertionError("not refused")

    async with connected(handler) as (reader, writer, _):
        writer.write(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 10000000\r\n\r\n" + b"x" * 2_000_000)
        status, headers, _body = await answer(reader)
        assert (status, headers["connection"]) == (413, "close")


async def test_upgrade_loses_no_bytes() -> None:
    async def handler(request: Request) -> None:
        stream = await request.upgrade([("Upgrade", "SPDY/3.1")])
        while data := await stream.read():
            await stream.write(data.upper())

    async with connected(handler) as (reader, writer, _):
        writer.write(b"POST /x HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\nearly")
        status, headers = await head(reader)
        assert (status, headers["upgrade"], headers["connection"]) == (101, "SPDY/3.1", "Upgrade")
        writer.write(b" later")
        assert await reader.readexactly(11) == b"EARLY LATER"
        writer.write_eof()
        assert await reader.read() == b""


async def test_refused_upgrade_goes_on_as_http() -> None:
    async with connected(echo) as (reader, writer, _):
        writer.write(b"GET /a HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n")
        writer.write(b"GET /b HTTP/1.1\r\nHost: h\r\n\r\n")
        assert (await answer(reader))[2] == b"/a|"
        assert (await answer(reader))[2] == b"/b|"


async def test_stream_is_chunked_flushed_and_cancelled_with_the_client() -> None:
    ended = asyncio.Event()

    async def chunks() -> AsyncIterator[bytes]:
        try:
            yield b"one"
            await asyncio.Event().wait()
        finally:
            ended.set()

    async def handler(request: Request) -> Response:
        return Response(body=chunks())

    async with connected(handler) as (reader, writer, _):
        writer.write(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        await head(reader)
        assert await reader.readexactly(8) == b"3\r\none\r\n"
        writer.close()
        await ended.wait()


async def test_slow_reader_holds_the_stream_back() -> None:
    sent = 0

    async def chunks() -> AsyncIterator[bytes]:
        nonlocal sent
        for _ in range(1000):
            yield b"x" * 100_000
            sent += 1

    async def handler(request: Request) -> Response:
        return Response(body=chunks())

    async with connected(handler) as (_reader, writer, _):
        writer.write(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        before = -1
        while before != sent or not sent:
            before = sent
            await asyncio.sleep(0.05)
        assert sent < 500


@pytest.mark.parametrize("streams", [False, True])
async def test_clients_that_stop_reading_are_cut_off(streams: bool) -> None:
    ended = asyncio.Event()

    async def chunks() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 100_000

    async def handler(request: Request) -> Response:
        return Response(body=chunks() if streams else b"x" * 50_000_000, sent=ended.set)

    async with connected(handler, Limits(stall_seconds_max=0.05)) as (_, writer, server):
        writer.write(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        await ended.wait()
        while server.connection_count:
            await asyncio.sleep(0)


async def test_some_answers_have_patience() -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b"x" * 100_000

    async def handler(request: Request) -> Response:
        return Response(body=chunks(), patient=True)

    async with connected(handler, Limits(stall_seconds_max=0.0)) as (reader, writer, server):
        writer.write(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        await asyncio.sleep(1.1)  # the server looks once a second
        assert server.connection_count == 1
        assert len((await answer(reader))[2]) == 10_000_000


async def test_a_body_that_trickles_is_not_waited_for_for_ever() -> None:
    async def handler(request: Request) -> Response:
        with pytest.raises(BodyTooSlow):
            await request.body.read(100)
        return Response(status=504)

    async with connected(handler, Limits(body_seconds_max=0.05)) as (reader, writer, _):
        writer.write(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nx")
        assert (await answer(reader))[0] == 504
        assert await reader.read() == b""


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET / HTTP/1.1\r\nX: " + b"a" * 5000, 431),
        (b"GET /" + b"a" * 5000 + b" HTTP/1.1\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\n" + b"X: a\r\n" * 20 + b"\r\n", 431),
        (b"nonsense\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
    ],
)
async def test_bad_heads_are_refused(data: bytes, status: int) -> None:
    async with connected(echo, Limits(head_bytes_max=4096, header_count_max=16)) as (reader, writer, _):
        writer.write(data)
        assert (await answer(reader))[0] == status


@pytest.mark.parametrize("data", [b"", b"GET / HTTP/1.1\r\nHos", b"GET / HTTP/1.1\r\n\r\n"])
async def test_slow_and_idle_connections_are_closed(data: bytes) -> None:
    async with connected(echo, Limits(head_seconds_max=0.05, idle_seconds_max=0.05)) as (reader, writer, server):
        writer.write(data)
        if data.endswith(b"\r\n\r\n"):
            await answer(reader)
        try:
            assert await reader.read() == b""
        except ConnectionResetError:
            pass
        assert server.connection_count == 0


async def test_handler_failure_is_a_500_and_the_connection_lives() -> None:
    async def handler(request: Request) -> Response:
        if request.target == "/bad":
            raise ValueError("boom")
        return await echo(request)

    async with connected(handler) as (reader, writer, _):
        writer.write(b"GET /bad HTTP/1.1\r\nHost: h\r\n\r\nHEAD /good HTTP/1.1\r\nHost: h\r\n\r\n")
        assert (await answer(reader))[0] == 500
        assert (await head(reader))[0] == 200


async def test_close_lets_a_running_request_finish() -> None:
    entered = asyncio.Event()

    async def handler(request: Request) -> Response:
        entered.set()
        await asyncio.sleep(0.05)
        return Response(body=b"done")

    async with connected(handler) as (reader, writer, server):
        writer.write(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        await entered.wait()
        closing = asyncio.create_task(server.close(5))
        status, headers, body = await answer(reader)
        assert (status, headers["connection"], body) == (200, "close", b"done")
        await closing
