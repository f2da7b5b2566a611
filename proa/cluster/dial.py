"""Connections from the host into a cluster's network, where pods and services have their addresses.

The host has no route there, on purpose. A socket belongs to the network namespace in which it was made, so the server
steps into a node's namespace for the microseconds that making one takes; the connection then starts on that node, and
its proxy leads service addresses on.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import socket
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path

from proa.cluster import nodes
from proa.cluster.state import Cluster

_NEW_NETWORK = 0x40000000  # CLONE_NEWNET
_libc = ctypes.CDLL(None, use_errno=True)

Connect = Callable[[str, int], Awaitable[socket.socket]]


@contextlib.contextmanager
def inside(namespace: Path) -> Iterator[None]:
    """Puts this thread into a network namespace. Nothing may be awaited meanwhile. Raises OSError."""
    with open("/proc/thread-self/ns/net") as home, open(namespace) as place:
        _enter(place.fileno())
        try:
            yield
        finally:
            _enter(home.fileno())


def _enter(descriptor: int) -> None:
    if _libc.setns(descriptor, _NEW_NETWORK):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def into(cluster: Cluster) -> Connect | None:
    """Returns a function that connects to an address and port as the cluster's first living node sees them; None if
    the cluster has no isolated nodes. The function raises OSError."""
    places = [nodes.namespace_path(cluster.name, node.name) for node in cluster.nodes]
    return _connector(places) if places else None


def _connector(places: Sequence[Path]) -> Connect:
    async def connect(address: str, port: int) -> socket.socket:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        sock: socket.socket | None = None
        for place in places:
            with contextlib.suppress(FileNotFoundError), inside(place):
                sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
                break
        if sock is None:
            raise ConnectionError("no node of the cluster has a network")
        try:
            await asyncio.get_running_loop().sock_connect(sock, (address, port))
        except BaseException:
            sock.close()
            raise
        return sock

    return connect
