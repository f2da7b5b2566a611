"""Isolated nodes' networks: who reaches whom, that nothing leads outside, and that nothing is left."""

import asyncio
import ctypes
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from proa.cluster import nodes
from proa.cluster.state import Cluster, Node

pytestmark = pytest.mark.cluster


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    segment = nodes.free_segment(200, [])
    both = tuple(Node(name=f"node-{number}", number=number) for number in (1, 2))
    cluster = Cluster(name=f"t{uuid.uuid4().hex[:6]}", directory=str(tmp_path), port=1, segment=segment, nodes=both)
    try:
        nodes.create(cluster)
        yield cluster
    finally:
        nodes.remove(cluster)
        assert not list(Path("/run/netns").glob(f"proa.{cluster.name}*"))
        assert not Path(f"/sys/class/net/{nodes.host_link(cluster)}").exists()


def inside(cluster: Cluster, node: str, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*nodes.enter(cluster.name, node), *command], capture_output=True, text=True, check=False)


def socket_inside(cluster: Cluster, node: str, address: str) -> socket.socket:
    """Returns a socket of this process that is bound inside a node."""
    libc = ctypes.CDLL(None, use_errno=True)
    with open("/proc/thread-self/ns/net") as home, open(nodes.namespace_path(cluster.name, node)) as place:
        assert libc.setns(place.fileno(), 0x40000000) == 0
        try:
            sock = socket.socket()
            sock.bind((address, 8080))
        finally:
            assert libc.setns(home.fileno(), 0x40000000) == 0
    return sock


async def serve(cluster: Cluster, node: str, address: str) -> asyncio.Server:
    """Serves inside a node, from this process."""

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(node.encode())
        writer.close()

    return await asyncio.start_server(answer, sock=socket_inside(cluster, node, address))


async def test_host_and_nodes_reach_each_other(cluster: Cluster) -> None:
    second = cluster.nodes[1]
    address = nodes.node_address(cluster, second)
    server = await serve(cluster, second.name, address)
    async with server:
        reader, _ = await asyncio.open_connection(address, 8080)
        assert await reader.read() == b"node-2"
        command = f"import socket; print(socket.create_connection(('{address}', 8080)).recv(99).decode())"
        asked = await asyncio.to_thread(inside, cluster, "node-1", sys.executable, "-c", command)
        assert asked.stdout.strip() == "node-2"


def test_nothing_leads_outside(cluster: Cluster) -> None:
    routes = inside(cluster, "node-1", "ip", "route", "show", "table", "all").stdout
    assert "default" not in "\n".join(one for one in routes.splitlines() if not one.startswith(("ff00", "local")))
    assert inside(cluster, "node-1", "ip", "route", "get", "192.0.2.1").returncode != 0


def test_settings_are_the_nodes_own(cluster: Cluster) -> None:
    assert inside(cluster, "node-1", "cat", "/proc/sys/net/ipv4/ip_forward").stdout.strip() == "1"
    assert all(nodes.exists(cluster, node) for node in cluster.nodes)


def test_a_taken_segment_is_passed_over(cluster: Cluster) -> None:
    assert nodes.free_segment(cluster.segment, []) != cluster.segment
    assert nodes.free_segment(7, [7, 8]) not in (7, 8)
