"""Connections into a pod's network namespace, to its loopback: what port-forwarding needs."""

from __future__ import annotations

import asyncio
import ctypes
import os
import socket
import threading

_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


def _socket_in(namespace: str, family: int) -> socket.socket:
    """Makes a socket that belongs to the namespace at this path, however the calling thread's namespace is."""
    made: list[socket.socket | OSError] = []

    def work() -> None:
        # The thread ends with the namespace it entered; no other thread is touched.
        try:
            descriptor = os.open(namespace, os.O_RDONLY | os.O_CLOEXEC)
            try:
                if _libc.setns(descriptor, _CLONE_NEWNET):
                    number = ctypes.get_errno()
                    raise OSError(number, os.strerror(number), namespace)
                made.append(socket.socket(family, socket.SOCK_STREAM))
            finally:
                os.close(descriptor)
        except OSError as error:
            made.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    if isinstance(made[0], OSError):
        raise made[0]
    return made[0]


async def connect(namespace: str, port: int) -> TcpChannel:
    """Connects to a port on the loopback of a network namespace (empty: the agent's own); raises OSError."""
    loop = asyncio.get_running_loop()
    failure: OSError = ConnectionRefusedError(f"connect: connection refused: {port}")
    for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        try:
            made = _socket_in(namespace, family) if namespace else socket.socket(family, socket.SOCK_STREAM)
        except OSError as error:
            failure = error
            continue
        made.setblocking(False)
        try:
            await loop.sock_connect(made, (address, port))
        except OSError as error:
            made.close()
            if family == socket.AF_INET:
                failure = error
            continue
        reader, writer = await asyncio.open_connection(sock=made)
        return TcpChannel(reader, writer)
    raise failure


class TcpChannel:
    """A TCP connection as a channel: both halves may end on their own."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def read(self) -> bytes:
        return await self._reader.read(64 * 1024)

    async def write(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def close(self) -> None:
        """Ends our half."""
        if self._writer.can_write_eof() and not self._writer.is_closing():
            self._writer.write_eof()

    def abort(self) -> None:
        self._writer.transport.abort()
