"""The network of a cluster of two nodes: pods, services, names and policies, seen from pods, nodes and the host."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.clusters import Machine, need_machine, traces, until

pytestmark = pytest.mark.cluster
IMAGE = "docker.io/library/busybox:latest"


class Net:
    """A cluster with a server and a client pod on each node. The servers answer with their pod's name."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.name = machine.up("--nodes", "2")
        built = machine.proa("image", "build", "busybox", "--deb", "busybox-static", "--load", "--name", self.name)
        assert built.returncode == 0, built.stderr
        for number in (1, 2):
            serve = "mkdir /www; hostname >/www/index.html; exec httpd -f -p 8080 -h /www"
            self.pod(f"web-{number}", f"node-{number}", "web", serve)
            self.pod(f"client-{number}", f"node-{number}", "client", "exec sleep 3600")
        self.kubectl("wait", "--for=condition=Ready", "pod", "--all", "--timeout=60s")

    def kubectl(self, *arguments: str, text: str | None = None) -> str:
        return self.machine.kubectl(self.name, *arguments, text=text)

    def apply(self, *objects: dict[str, Any]) -> None:
        self.kubectl("apply", "-f", "-", text=json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))

    def pod(self, name: str, node: str, app: str, script: str) -> None:
        container = {
            "name": "main",
            "image": IMAGE,
            "imagePullPolicy": "IfNotPresent",
            "command": ["sh", "-c", script],
            "ports": [{"name": "http", "containerPort": 8080}] if app == "web" else [],
        }
        if app == "web":
            container["readinessProbe"] = {"tcpSocket": {"port": 8080}, "periodSeconds": 1}
        self.apply(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": name, "labels": {"app": app}},
                "spec": {"nodeName": node, "containers": [container], "terminationGracePeriodSeconds": 0},
            }
        )

    def service(self, name: str, **spec: Any) -> None:
        """Makes a service of the web pods and waits for its two endpoints."""
        ports = [{"port": 80, "targetPort": "http"}]
        self.apply(
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"name": name},
                "spec": {"selector": {"app": "web"}, "ports": ports, **spec},
            }
        )
        where = ("get", "endpointslices", "-l", f"kubernetes.io/service-name={name}", "-o")
        until(lambda: len(self.kubectl(*where, "jsonpath={.items[*].endpoints[*].addresses[0]}").split()) == 2, name)

    def run(self, pod: str, script: str) -> str:
        """Runs a script in a pod; returns what it printed."""
        done = self.machine.run("kubectl", "--context", f"proa-{self.name}", "exec", pod, "--", "sh", "-c", script)
        return done.stdout.strip()

    def ask(self, pod: str, url: str, times: int = 1) -> list[str]:
        """Fetches a page from a pod; failures are empty answers."""
        one = f"timeout 2 wget -q -O - {url} || echo"  # its own -T crashes in static builds
        return self.run(pod, f"for i in $(seq {times}); do {one}; done").split("\n")

    def field(self, *arguments: str) -> str:
        return self.kubectl("get", *arguments)


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Net]:
    need_machine()
    machine = Machine(tmp_path_factory.mktemp("net"))
    try:
        net = Net(machine)
        yield net
    finally:
        machine.close()
        assert [trace for name in machine.names for trace in traces(name, machine.home)] == []


BOTH = {"web-1", "web-2"}


def address(net: Net, pod: str) -> str:
    return net.field("pod", pod, "-o", "jsonpath={.status.podIP}")


@pytest.mark.parametrize("client", ["client-1", "client-2"])
@pytest.mark.parametrize("server", ["web-1", "web-2"])
def test_pods_reach_pods(net: Net, client: str, server: str) -> None:
    assert net.ask(client, f"http://{address(net, server)}:8080/") == [server]


def test_services_by_name_spread_over_nodes(net: Net) -> None:
    net.service("plain")
    for client in ("client-1", "client-2"):
        assert set(net.ask(client, "http://plain.default.svc.cluster.local/", 20)) == BOTH
        assert set(net.ask(client, "http://plain/", 20)) == BOTH


def test_a_pod_reaches_itself_through_its_service(net: Net) -> None:
    net.service("loop")
    assert set(net.ask("web-1", "http://loop/", 20)) == BOTH


def test_headless_services_name_their_pods(net: Net) -> None:
    net.service("headless", clusterIP="None")
    found = net.run("client-1", "nslookup headless.default.svc.cluster.local")
    for pod in BOTH:
        assert address(net, pod) in found


def test_what_does_not_exist_has_no_name(net: Net) -> None:
    assert "NXDOMAIN" in net.run("client-1", "nslookup nothing.default.svc.cluster.local 2>&1; true")


def test_node_ports_answer_on_every_node_to_the_host(net: Net) -> None:
    net.service("nodeport", type="NodePort")
    port = net.field("service", "nodeport", "-o", "jsonpath={.spec.ports[0].nodePort}")
    where = "jsonpath={.items[*].status.addresses[?(@.type=='InternalIP')].address}"
    nodes = net.field("nodes", "-o", where).split()
    assert len(nodes) == 2
    for node in nodes:
        assert {fetch(f"http://{node}:{port}/") for _ in range(20)} == BOTH


def fetch(url: str) -> str:
    program = f"import urllib.request as u; print(u.urlopen({url!r}, timeout=2).read().decode().strip())"
    return subprocess.run(["python3", "-c", program], capture_output=True, text=True, check=False).stdout.strip()


def test_a_load_balancer_of_policy_local_keeps_the_clients_address(net: Net) -> None:
    net.service("balanced", type="LoadBalancer", externalTrafficPolicy="Local")
    where = ("service", "balanced", "-o", "jsonpath={.status.loadBalancer.ingress[0].ip}")
    until(lambda: net.field(*where) != "", "an address")
    until(lambda: fetch(f"http://{net.field(*where)}/") in BOTH, "an answer to the host")
    assert len({fetch(f"http://{net.field(*where)}/") for _ in range(10)}) == 1  # the announcing node's own pod


def test_client_affinity(net: Net) -> None:
    net.service("sticky", sessionAffinity="ClientIP")
    assert len(set(net.ask("client-1", "http://sticky/", 20))) == 1


def test_a_service_without_endpoints_refuses(net: Net) -> None:
    net.apply(
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "empty"},
            "spec": {"selector": {"app": "nobody"}, "ports": [{"port": 80}]},
        }
    )
    until(lambda: "refused" in net.run("client-1", "timeout 2 wget -O - http://empty/ 2>&1; true"), "refusal")


def test_pods_reach_the_api_server(net: Net) -> None:
    assert "open" in net.run("client-2", "nc -w 2 kubernetes.default 443 </dev/null && echo open")


def test_policies_cut_and_allow(net: Net) -> None:
    url = f"http://{address(net, 'web-1')}:8080/"
    policy: dict[str, Any] = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "web"},
        "spec": {"podSelector": {"matchLabels": {"app": "web"}}, "policyTypes": ["Ingress"]},
    }
    try:
        net.apply(policy)
        for client in ("client-1", "client-2"):
            until(lambda client=client: net.ask(client, url) == [""], "the policy to cut")  # type: ignore[misc]
        policy["spec"]["ingress"] = [{"from": [{"podSelector": {"matchLabels": {"app": "client"}}}]}]
        net.apply(policy)
        for client in ("client-1", "client-2"):
            until(lambda client=client: net.ask(client, url) == ["web-1"], "the policy to allow")  # type: ignore[misc]
        assert net.ask("web-2", url) == [""]
    finally:
        net.kubectl("delete", "networkpolicy", "web")
    until(lambda: net.ask("web-2", url) == ["web-1"], "the policy to go")


def test_nothing_leads_out_of_the_nodes(net: Net, tmp_path: Path) -> None:
    assert "unreachable" in net.run("client-1", "nc -w 2 192.0.2.1 80 2>&1; true").lower()
