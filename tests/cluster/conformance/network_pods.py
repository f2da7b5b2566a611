"""Pods for the network tests: servers that tell who answers (`net_server.py`), and clients with real tools.

`Net` is one namespace of them that all tests of a run share: three servers and a client on each of the two nodes, and
a client in a node's own network. Tests make services of their own for them, which costs no pod.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Sequence
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from tests.cluster.conformance.conftest import Api
from tests.cluster.conformance.objects import core, is_ready
from tests.cluster.conformance.webhook_pods import PYTHON, certificate
from tests.cluster.conftest import RunningCluster
from tests.cluster.waiting import eventually

TOOLS = "docker.io/library/nettools:latest"  # busybox, dig and curl
NODES = ("node-1", "node-2")
WEB = {"app": "web"}
SLICES = "/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices"
_PROGRAM = Path(__file__).with_name("net_server.py")
_SLEEP = "import time; time.sleep(36000)"
# What a client's Python runs: each line of its input is `host port times`; each answer of a UDP server is a line.
_ASK_UDP = """
import socket, sys
for line in sys.stdin:
    host, port, times, source, text = line.split(" ", 4)
    for _ in range(int(times)):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.settimeout(1)
            if int(source):
                client.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                client.bind(("", int(source)))
            try:
                client.connect((host, int(port)))
                client.send(text.strip().encode())
                print(client.recv(2048).decode(), flush=True)
            except OSError as error:
                print(type(error).__name__, flush=True)
"""


class Net:
    """A namespace of servers and clients. `web` are the servers' names, `clients` the client on each node."""

    def __init__(self, cluster: RunningCluster, api: Api, namespace: str) -> None:
        self.cluster = cluster
        self.api = api
        self.namespace = namespace
        self.web = ("web-0", "web-1", "web-2")
        self.clients = {node: f"client-{node}" for node in NODES}
        self.host_client = "host-client"  # on NODES[0]
        self.addresses: dict[str, str] = {}

    def start(self) -> None:
        """Makes the shared pods."""
        install_program(self.api, self.namespace)
        for number, name in enumerate(self.web):
            self.create("pods", server_pod(name, WEB | {"name": name}, nodeName=NODES[number % 2]))
        for node, name in self.clients.items():
            self.create("pods", client_pod(name, nodeName=node))
        self.create("pods", client_pod(self.host_client, nodeName=NODES[0], hostNetwork=True))

    def find(self) -> None:
        """Waits until all of the shared pods are ready, and learns their addresses."""
        self.addresses = self.wait_ready(*self.web, *self.clients.values(), self.host_client)

    def tidy(self) -> None:
        """Takes away what an earlier run left beside the shared pods."""
        shared = {*self.web, *self.clients.values(), self.host_client}
        self.api.delete(self.path("services"))
        self.api.delete(SLICES.format(namespace=self.namespace))
        for one in self.api.get(self.path("pods")).ok()["items"]:
            if one["metadata"]["name"] not in shared:
                self.remove("pods", one["metadata"]["name"])

    # ------------------------------------------------------------ objects

    def path(self, plural: str, name: str = "") -> str:
        return core(self.namespace, plural, name)

    def create(self, plural: str, body: dict[str, Any]) -> Any:
        return self.api.post(self.path(plural), body).ok()

    def wait_ready(self, *pods: str) -> dict[str, str]:
        """Waits until pods are ready; returns their addresses by name."""
        found = {name: eventually(lambda name=name: self._ready(name), 90, f"{name} ready") for name in pods}  # type: ignore[misc]
        return {name: one["status"]["podIP"] for name, one in found.items()}

    def _ready(self, name: str) -> Any:
        pod = self.api.get(self.path("pods", name)).ok()
        return pod if is_ready(pod) else None

    def remove(self, plural: str, *names: str) -> None:
        """Deletes objects at once; they may be gone already."""
        for name in names:
            self.api.delete(self.path(plural, name) + "?gracePeriodSeconds=0")

    def service(self, name: str, selector: dict[str, str] | None = WEB, **spec: Any) -> Any:
        """Creates a service, of port 80 to the servers' 80 unless told otherwise, and returns it."""
        spec.setdefault("ports", [{"name": "http", "port": 80, "protocol": "TCP"}])
        body = {"metadata": {"name": name}, "spec": spec | ({"selector": selector} if selector else {})}
        return self.create("services", body)

    def slices(self, service: str) -> list[Any]:
        path = SLICES.format(namespace=self.namespace)
        found = self.api.get(f"{path}?labelSelector=kubernetes.io%2Fservice-name%3D{service}").ok()["items"]
        return list(found)

    def serving(self, service: str) -> dict[int, set[str]]:
        """Returns the addresses of a service's ready endpoints by port, as its slices tell."""
        found: dict[int, set[str]] = {}
        for one in self.slices(service):
            ready = {each["addresses"][0] for each in one.get("endpoints") or () if each["conditions"].get("ready")}
            for port in one.get("ports") or ():
                found.setdefault(port["port"], set()).update(ready)
        return {port: addresses for port, addresses in found.items() if addresses}

    def node_address(self, node: str) -> str:
        """Returns a node's internal address."""
        found = self.api.get(f"/api/v1/nodes/{node}").ok()["status"]["addresses"]
        return str(next(one["address"] for one in found if one["type"] == "InternalIP"))

    def node_addresses(self) -> list[str]:
        return [self.node_address(node) for node in NODES]

    # ------------------------------------------------------------ traffic

    def run(self, pod: str, script: str) -> str:
        """Runs a shell script in a client; returns what it printed, whether it failed or not."""
        command = ["-n", self.namespace, "exec", pod, "-c", "main", "--", "sh", "-c", script]
        return self.cluster.run(*command, check=False).stdout

    def python(self, pod: str, program: str, *arguments: str, container: str = "python", text: str = "") -> str:
        """As `run`, for a program in Python; `text` is its input."""
        command = ["-n", self.namespace, "exec", "-i", pod, "-c", container, "--", "python3", "-c", program, *arguments]
        return self.cluster.run(*command, input=text, check=False).stdout

    def fetch_each(self, pod: str, urls: Sequence[str], times: int = 1, options: str = "") -> dict[str, list[str]]:
        """Fetches each URL so often with curl, each time by a connection of its own; returns the answers by URL.

        A failure is `failed CODE`: 7 for refused, 28 for no answer within a second.
        """
        fetch = f"curl -gs -m 1 -H 'Connection: close' -w ' %{{exitcode}}\\n' {options}"
        script = "".join(f"{fetch} {' '.join([shlex.quote(url)] * times)}; " for url in urls)
        lines = [line.rpartition(" ") for line in self.run(pod, script).splitlines()]
        answers = [body if code == "0" else f"failed {code}" for body, _, code in lines]
        return {url: answers[at * times : (at + 1) * times] for at, url in enumerate(urls)}

    def fetch(self, pod: str, url: str, times: int = 1, options: str = "") -> list[str]:
        """As `fetch_each`, for one URL."""
        return self.fetch_each(pod, [url], times, options)[url]

    def ask_udp(
        self, pod: str, host: str, port: int, times: int = 1, text: str = "hostname", source: int = 0
    ) -> list[str]:
        """Sends datagrams, each from a port of its own unless `source` is one; failures are named as Python does."""
        asked = f"{host} {port} {times} {source} {text}\n"
        return self.python(pod, _ASK_UDP, text=asked).splitlines()

    def reached(self, pod: str, urls: str | Sequence[str], names: Iterable[str], times: int = 15) -> bool:
        """Tells whether exactly these servers answer at each URL; for use with `eventually`."""
        wanted = set(names)
        for url, found in self.fetch_each(pod, [urls] if isinstance(urls, str) else urls, times).items():
            assert set(found) == wanted, f"{pod} to {url}: {found}, not {wanted}"
        return True

    def from_host(self, address: str, port: int, path: str = "/") -> str:
        """Fetches from the machine that the nodes are on; returns the body, or the failure's name."""
        connection = HTTPConnection(address, port, timeout=2)
        try:
            connection.request("GET", path)
            return connection.getresponse().read().decode()
        except OSError as error:
            return type(error).__name__
        finally:
            connection.close()


def install_program(api: Api, namespace: str) -> None:
    """Puts the server's program, and a certificate that nobody trusts, into a namespace."""
    _, signed, key = certificate("nobody.example.com")
    data = {"server.py": _PROGRAM.read_text(), "tls.crt": signed.decode(), "tls.key": key.decode()}
    api.post(core(namespace, "configmaps"), {"metadata": {"name": "program"}, "data": data}).ok()


# They end at once when asked to, and outlast the tests that drive all pods from a node.
_LASTING = {"terminationGracePeriodSeconds": 0, "tolerations": [{"operator": "Exists"}]}


def server_pod(
    name: str,
    labels: dict[str, str],
    serves: dict[str, Any] | None = None,
    ports: Sequence[dict[str, Any]] = (),
    ready: int = 80,
    **spec: Any,
) -> dict[str, Any]:
    """A pod that serves (see `net_server.py`; HTTP and UDP on 80 if not told); ready once port `ready` answers."""
    served = {"http": {"80": None, "8080": None}, "udp": [80]} if serves is None else serves
    container: dict[str, Any] = {
        "name": "main",
        "image": PYTHON,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python3", "/program/server.py", json.dumps(served)],
        "ports": list(ports) or [{"name": "web", "containerPort": 80}],
        "volumeMounts": [{"name": "program", "mountPath": "/program"}],
    }
    if ready:
        check = {"httpGet": {"path": "/ready", "port": ready}, "periodSeconds": 1, "failureThreshold": 1}
        container["readinessProbe"] = check
    volumes = [{"name": "program", "configMap": {"name": "program"}}]
    own = {**_LASTING, "containers": [container], "volumes": volumes, **spec}
    return {"metadata": {"name": name, "labels": labels}, "spec": own}


def client_pod(name: str, labels: dict[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    """A pod that only asks: container `main` has curl and dig, `python` Python."""
    asleep = {"main": (TOOLS, ["sleep", "36000"]), "python": (PYTHON, ["python3", "-c", _SLEEP])}
    containers = [
        {"name": one, "image": image, "imagePullPolicy": "IfNotPresent", "command": command}
        for one, (image, command) in asleep.items()
    ]
    own = {**_LASTING, "containers": containers, **spec}
    return {"metadata": {"name": name, "labels": labels or {"app": "client"}}, "spec": own}
