"""The control plane as one process per component, over HTTPS: everything works as in one process."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.test_up_down import claimed
from tests.support.clusters import Machine, need_machine, until

pytestmark = pytest.mark.cluster


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    need_machine()
    machine = Machine(tmp_path)
    yield machine
    machine.close()


def test_a_deployment_behind_a_load_balancer(machine: Machine) -> None:
    name = machine.up("--separate")
    built = machine.proa("image", "build", "busybox", "--deb", "busybox-static", "--load", "--name", name)
    assert built.returncode == 0, built.stderr
    command = ("--", "httpd", "-f", "-p", "80", "-h", "/etc")
    machine.kubectl(name, "create", "deployment", "web", "--image=busybox:latest", *command)
    machine.kubectl(name, "patch", "deployment", "web", "--type=json", "-p", PULL_IF_ABSENT)
    machine.kubectl(name, "expose", "deployment", "web", "--port=80", "--type=LoadBalancer")
    address = ("get", "service", "web", "-o", "jsonpath={.status.loadBalancer.ingress[0].ip}")
    until(lambda: machine.kubectl(name, *address) != "", "an address")
    where = machine.kubectl(name, *address)
    ask = f"import urllib.request as u; print(u.urlopen('http://{where}/passwd', timeout=2).read().decode())"
    until(lambda: "root:x:0:0" in machine.run("python3", "-c", ask).stdout, "the service to answer from the host")
    leases = machine.kubectl(name, "get", "leases", "-n", "kube-system", "-o", "name").split()
    for component in ("kube-scheduler", "kube-controller-manager", "cloud-controller-manager"):
        assert f"lease.coordination.k8s.io/{component}" in leases
    claims = json.dumps({"apiVersion": "v1", "kind": "List", "items": claimed()})
    manifest = machine.home / "claimed.json"
    manifest.write_text(claims)
    machine.kubectl(name, "apply", "-f", str(manifest))
    machine.kubectl(name, "wait", "--for=condition=Ready", "pod/claimed", "--timeout=60s")
    assert machine.kubectl(name, "get", "pvc", "data", "-o", "jsonpath={.status.phase}") == "Bound"


PULL_IF_ABSENT = '[{"op":"add","path":"/spec/template/spec/containers/0/imagePullPolicy","value":"IfNotPresent"}]'
