"""The HTTP/1.1 client against our server, with and without TLS."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from proa.wire.client import Dial, HttpClient
from proa.wire.http import BodyTooLarge, Handler, Request, Response
from proa.wire.server import serve
from proa.wire.stream import pipe
from proa.wire.tls import client_context, server_context


async def echo(request: Request) -> Response:
    body = await request.body.read(10_000_000)
    return Response(status=200, headers=[("X-Method", request.method)], body=request.target.encode() + b"|" + body)


@asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[HttpClient]:
    server = await serve(handler)
    async with asyncio.timeout(10), HttpClient(f"http://127.0.0.1:{server.port}") as client:
        yield client
    await server.close(0.1)


async def test_connections_are_kept_and_bodies_arrive() -> None:
    peers = set()

    async def handler(request: Request) -> Response:
        peers.add(id(request.upgrade.__self__))  # type: ignore[attr-defined]
        return await echo(request)

    async with serving(handler) as client:
        for size in (0, 10, 100_000, 3_000_000):
            response = await client.request("POST", "/a?b=c", body=b"x" * size)
            assert response.status == 200
            assert await response.read() == b"/a?b=c|" + b"x" * size
        response = await client.request("HEAD", "/h")
        assert (response.status, response.header("x-method"), await response.read()) == (200, "HEAD", b"")
        assert len(peers) == 1


async def test_dialled_connections_are_kept_by_route() -> None:
    dialled = []
    async with serving(echo) as client:
        port = int(client.base.rpartition(":")[2])

        def dialler(name: str) -> Dial:
            async def dial() -> socket.socket:
                dialled.append(name)
                made = socket.create_connection(("127.0.0.1", port))
                made.setblocking(False)
                return made

            return dial

        for name, route in (("a", "a"), ("a", "a"), ("b", "b"), ("a", "a"), ("free", ""), ("free", "")):
            response = await client.request("GET", "http://nowhere.example/x", dial=dialler(name), route=route)
            assert await response.read() == b"/x|"
    assert dialled == ["a", "b", "free", "free"]


async def test_streams_both_ways() -> None:
    async def handler(request: Request) -> Response:
        async def back() -> AsyncIterator[bytes]:
            while part := await request.body.read_some():
                yield part.upper()

        return Response(body=back())

    async def parts() -> AsyncIterator[bytes]:
        for _ in range(10):
            yield b"ab"
            await asyncio.sleep(0)

    async with serving(handler) as client:
        response = await client.request("PUT", "/", body=parts())
        assert b"".join([part async for part in response.chunks()]) == b"AB" * 10


async def test_broken_answer_is_an_error() -> None:
    async def back() -> AsyncIterator[bytes]:
        yield b"half"
        raise ValueError("breaks")

    async def handler(request: Request) -> Response:
        return Response(body=back())

    async with serving(handler) as client:
        response = await client.request("GET", "/")
        with pytest.raises(ConnectionError):
            await response.read()


async def test_too_large_answers_are_cut_off() -> None:
    async with serving(echo) as client:
        with pytest.raises(BodyTooLarge):
            await (await client.request("POST", "/", body=b"x" * 1000)).read(100)
        assert await (await client.request("GET", "/")).read() == b"/|"


async def test_upgrade_and_pipe() -> None:
    async def upper(request: Request) -> Response | None:
        if request.header("upgrade") != "x":
            return Response(status=400, body=b"bad")
        stream = await request.upgrade([("Upgrade", "x")])
        await stream.write(b"hello ")
        while data := await stream.read():
            await stream.write(data.upper())
        return None

    async with serving(upper) as backend:

        async def proxy(request: Request) -> Response | None:
            answer, there = await backend.upgrade("GET", "/", headers=[("Upgrade", request.header("upgrade"))])
            if there is None:
                return Response(status=answer.status, body=await answer.read())
            await pipe(await request.upgrade([("Upgrade", "x")]), there)
            return None

        async with serving(proxy) as client:
            response, none = await client.upgrade("GET", "/", headers=[("Upgrade", "y")])
            assert (response.status, none, await response.read()) == (400, None, b"bad")
            _, stream = await client.upgrade("GET", "/", headers=[("Upgrade", "x")])
            assert stream is not None
            await stream.write(b"abc" * 100_000)
            received = b""
            while len(received) < 300_006:
                received += await stream.read()
            assert received == b"hello " + b"ABC" * 100_000
            await stream.close()


def make_certificate(folder: Path, name: str, issuer: tuple[x509.Certificate, ec.EllipticCurvePrivateKey] | None):  # type: ignore[no-untyped-def]
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer[0].subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
    )
    certificate = builder.sign(issuer[1] if issuer else key, hashes.SHA256())
    (folder / f"{name}.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / f"{name}.key").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return certificate, key


async def test_tls_client_certificates_are_optional_but_verified(tmp_path: Path) -> None:
    ca = make_certificate(tmp_path, "ca", None)
    alice, _ = make_certificate(tmp_path, "alice", ca)
    make_certificate(tmp_path, "server", ca)
    make_certificate(tmp_path, "mallory", make_certificate(tmp_path, "other", None))

    async def who(request: Request) -> Response:
        return Response(body=request.peer_certificate or b"nobody")

    context = server_context(tmp_path / "server.crt", tmp_path / "server.key", tmp_path / "ca.crt")
    server = await serve(who, context=context)

    async def ask(name: str | None) -> bytes:
        files = (tmp_path / f"{name}.crt", tmp_path / f"{name}.key") if name else (None, None)
        async with HttpClient(
            f"https://127.0.0.1:{server.port}", context=client_context(tmp_path / "ca.crt", *files)
        ) as client:
            return await (await client.request("GET", "/")).read()

    async with asyncio.timeout(10):
        assert await ask("alice") == alice.public_bytes(serialization.Encoding.DER)
        assert await ask(None) == b"nobody"
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await ask("mallory")
        old = client_context(tmp_path / "ca.crt")
        old.minimum_version = ssl.TLSVersion.TLSv1_2
        old.maximum_version = ssl.TLSVersion.TLSv1_2
        old.set_ciphers("ECDHE+AES128+SHA256")
        with pytest.raises((ssl.SSLError, ConnectionError)):
            async with HttpClient(f"https://127.0.0.1:{server.port}", context=old) as client:
                await client.request("GET", "/")
    await server.close(0.1)


async def test_a_connection_serves_the_next_request_before_the_first_has_woken_up() -> None:
    """An answer that is complete at once frees its connection; another task may take it in that very moment."""

    async def handler(request: Request) -> Response:
        return Response(body=request.target.encode())

    server = await serve(handler)
    async with HttpClient(f"http://127.0.0.1:{server.port}") as client:

        async def ask(path: str) -> bytes:
            async with await client.request("GET", path) as response:
                return await response.read()

        async def ask_as_soon_as_one_is_free(path: str) -> bytes:
            while not any(client._pools.values()):
                await asyncio.sleep(0)
            return await ask(path)

        both = asyncio.gather(ask("/first"), ask_as_soon_as_one_is_free("/second"))
        assert await asyncio.wait_for(both, 5) == [b"/first", b"/second"]
    await server.close()
