"""Pods reach pods on every node, from within pods and from the nodes themselves, over HTTP and UDP."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cluster.conformance.conftest import Api
from tests.cluster.conformance.fleet import PYTHON, SERVER_FILES, Fleet, container, launched, pod_of, server
from tests.cluster.conformance.objects import is_ready
from tests.cluster.conftest import RunningCluster

pytestmark = pytest.mark.cluster

UDP_PORT = 8081
HTTP = """
import urllib.request
print(urllib.request.urlopen("http://{address}:8080/hostname", timeout=5).read().decode())
"""
# A datagram may be lost: it is sent again, as upstream's client does.
UDP = f"""
import socket
client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
client.settimeout(2)
client.connect(("{{address}}", {UDP_PORT}))
for _ in range(5):
    client.send(b"hostname")
    try:
        print(client.recv(1024).decode())
        break
    except TimeoutError:
        pass
"""


@pytest.fixture(scope="module")
def fleet(cluster: RunningCluster, api: Api) -> Iterator[Fleet]:
    """A server on each node, a client in the pods' network and one in the host's."""
    nodes = [one["metadata"]["name"] for one in api.get("/api/v1/nodes").ok()["items"] if is_ready(one)]
    sleeper = container("main", "python3", "-c", "import signal; signal.pause()", image=PYTHON)
    pods = [pod_of("test-container", sleeper), pod_of("host-test", sleeper, hostNetwork=True)]
    for index, node in enumerate(nodes):
        there = {"kubernetes.io/hostname": node}
        listening = {"tcpSocket": {"port": 8080}, "periodSeconds": 1}
        servers = {"pod": {"nodeSelector": there}, "readinessProbe": listening}
        pods.append(server(f"netserver-{index}", "--udp", str(UDP_PORT), **servers))
    with launched(cluster, api, SERVER_FILES, *pods) as made:
        for one in pods:
            made.ready(one["metadata"]["name"])
        yield made


def servers(fleet: Fleet) -> dict[str, str]:
    """Name and address of each server; they are on different nodes."""
    pods = [
        one for one in fleet.api.get(fleet.path("")).ok()["items"] if one["metadata"]["name"].startswith("netserver")
    ]
    assert len({one["spec"]["nodeName"] for one in pods}) == len(pods) >= 2
    return {one["metadata"]["name"]: one["status"]["podIP"] for one in pods}


@pytest.mark.behaviour(
    "[sig-network] Networking Granular Checks: Pods should function for intra-pod communication: http",
    "[sig-network] Networking Granular Checks: Pods should function for node-pod communication: http [LinuxOnly]",
)
@pytest.mark.parametrize("client", ["test-container", "host-test"])
def test_http(fleet: Fleet, client: str) -> None:
    for name, address in servers(fleet).items():
        assert fleet.execute(client, "python3", "-c", HTTP.format(address=address)).strip() == name


@pytest.mark.behaviour(
    "[sig-network] Networking Granular Checks: Pods should function for intra-pod communication: udp",
    "[sig-network] Networking Granular Checks: Pods should function for node-pod communication: udp [LinuxOnly]",
)
@pytest.mark.parametrize("client", ["test-container", "host-test"])
def test_udp(fleet: Fleet, client: str) -> None:
    for name, address in servers(fleet).items():
        assert fleet.execute(client, "python3", "-c", UDP.format(address=address)).strip() == name
