"""Serves DNS over UDP and TCP, and forwards what is not the cluster's to other resolvers."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
from collections.abc import Sequence
from pathlib import Path

from proa.dns import message
from proa.dns.message import BadMessage, Question
from proa.dns.records import CNAME, Record, Resolver

_FORWARD_SECONDS = 2.0
_FORWARDS_MAX = 256
_FREE_PORT_ATTEMPTS = 10
_ALIASES_MAX = 8  # one after another, then it is a circle
_TCP_IDLE_SECONDS = 10.0


def host_resolvers(path: Path = Path("/etc/resolv.conf")) -> list[str]:
    """Returns the addresses of the host's resolvers, or none."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return []
    words = [line.split() for line in lines]
    return [one[1].partition("%")[0] for one in words if len(one) > 1 and one[0] == "nameserver"]


class DnsServer:
    """Listens on `addresses`, port 53 unless told otherwise (0: any free one; see `port`)."""

    def __init__(self, resolver: Resolver, addresses: Sequence[str], resolvers: Sequence[str], port: int = 53) -> None:
        self.resolver = resolver
        self.port = port
        self._addresses = list(addresses)
        self._resolvers = [one for one in resolvers if one not in addresses]
        self._transports: list[asyncio.DatagramTransport] = []
        self._servers: list[asyncio.Server] = []
        self._forwards = asyncio.Semaphore(_FORWARDS_MAX)
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listens; raises OSError if an address or the port is taken."""
        wanted = self.port
        for attempt in range(_FREE_PORT_ATTEMPTS):
            try:
                return await self._listen()
            except OSError:
                await self.stop()
                if wanted or attempt == _FREE_PORT_ATTEMPTS - 1:
                    raise
                self.port = wanted  # one that is free for UDP may be taken for TCP

    async def _listen(self) -> None:
        loop = asyncio.get_running_loop()
        for address in self._addresses:
            transport, _ = await loop.create_datagram_endpoint(lambda: _Udp(self), (address, self.port))
            self._transports.append(transport)
            self.port = transport.get_extra_info("sockname")[1]
            self._servers.append(await asyncio.start_server(self._serve_tcp, address, self.port))

    async def stop(self) -> None:
        for transport in self._transports:
            transport.close()
        for server in self._servers:
            server.close()
        self._transports.clear()
        self._servers.clear()
        for task in self._tasks:
            task.cancel()

    def answer_now(self, data: bytes, size_max: int = 0) -> bytes | Question:
        """Returns the answer's bytes, or the question if others must be asked. `size_max` 0: as the query says."""
        try:
            question = message.parse(data)
        except BadMessage as error:
            return message.reply_to_bad(error)
        answer = self.resolver.answer(question.name, question.type)
        alias = answer is not None and any(one.type == CNAME for one in answer.records)
        if answer is None or (alias and question.type != CNAME):
            return question
        return message.render(question, answer, self.resolver.domain, size_max or question.udp_bytes_max)

    async def answer(self, question: Question, data: bytes, *, tcp: bool) -> bytes:
        """Answers a question that `answer_now` left: aliases with what they stand for, or another's answer."""
        aliases: list[Record] = []
        asked: bytes | Question = question
        while isinstance(asked, Question):
            ours = self.resolver.answer(asked.name, asked.type)
            if ours is None or len(aliases) == _ALIASES_MAX:
                break
            aliases.append(ours.records[0])
            data = message.query(str(ours.records[0].data), question.type)
            asked = self.answer_now(data, 65535)
        if len(aliases) == _ALIASES_MAX:
            return message.failure(question, message.SERVFAIL)
        reply = asked if isinstance(asked, bytes) else await self._forward(data, tcp=tcp)
        if aliases:
            return message.with_aliases(question, aliases, reply, 65535 if tcp else question.udp_bytes_max)
        return reply or message.failure(question, message.SERVFAIL)

    async def _forward(self, data: bytes, *, tcp: bool) -> bytes:
        """Asks the other resolvers in turn; returns nothing if none answers."""
        async with self._forwards:
            for address in self._resolvers:
                with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError):
                    async with asyncio.timeout(_FORWARD_SECONDS):
                        return await (_ask_tcp(address, data) if tcp else _ask_udp(address, data))
        return b""

    def spawn(self, question: Question, data: bytes, transport: asyncio.DatagramTransport, peer: object) -> None:
        async def respond() -> None:
            transport.sendto(await self.answer(question, data, tcp=False), peer)  # type: ignore[arg-type]

        task = asyncio.create_task(respond())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve_tcp(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError):
            while True:
                async with asyncio.timeout(_TCP_IDLE_SECONDS):
                    (length,) = struct.unpack("!H", await reader.readexactly(2))
                    data = await reader.readexactly(length)
                reply = self.answer_now(data, 65535)
                if isinstance(reply, Question):
                    reply = await self.answer(reply, data, tcp=True)
                if not reply:
                    break
                writer.write(struct.pack("!H", len(reply)) + reply)
                await writer.drain()
        writer.close()


class _Udp(asyncio.DatagramProtocol):
    def __init__(self, server: DnsServer) -> None:
        self.server = server

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.DatagramTransport) or hasattr(transport, "sendto")
        self.transport: asyncio.DatagramTransport = transport  # type: ignore[assignment]

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        reply = self.server.answer_now(data)
        if isinstance(reply, Question):
            self.server.spawn(reply, data, self.transport, addr)
        elif reply:
            self.transport.sendto(reply, addr)


async def _ask_udp(address: str, data: bytes) -> bytes:
    """Sends a query under an identifier and from a port of its own, and waits for the answer to it."""
    loop = asyncio.get_running_loop()
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    number = random.getrandbits(16).to_bytes(2, "big")
    with socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
        sock.connect((address, 53))
        await loop.sock_sendall(sock, number + data[2:])
        while True:
            reply = await loop.sock_recv(sock, 65535)
            if reply[:2] == number and len(reply) >= 12:
                return data[:2] + reply[2:]


async def _ask_tcp(address: str, data: bytes) -> bytes:
    reader, writer = await asyncio.open_connection(address, 53)
    try:
        writer.write(struct.pack("!H", len(data)) + data)
        (length,) = struct.unpack("!H", await reader.readexactly(2))
        return await reader.readexactly(length)
    finally:
        writer.close()
