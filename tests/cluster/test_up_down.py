"""Clusters come, survive what happens to their processes, and go without a trace."""

import json
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.clusters import Machine, need_machine, traces, until

pytestmark = pytest.mark.cluster


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    need_machine()
    machine = Machine(tmp_path)
    yield machine
    machine.close()


def test_two_clusters_at_once_each_with_its_own_nodes(machine: Machine) -> None:
    one, two = machine.up(), machine.up("--nodes", "2")
    assert machine.kubectl(one, "get", "nodes", "-o", "name").split() == ["node/node-1"]
    assert machine.kubectl(two, "get", "nodes", "-o", "name").split() == ["node/node-1", "node/node-2"]
    listed = machine.proa("list").stdout
    assert one in listed
    assert two in listed
    again = machine.proa("up", "--name", one)
    assert "is running" in again.stdout
    other = machine.proa("up", "--name", one, "--nodes", "3")
    assert other.returncode == 1
    assert len(other.stderr.splitlines()) == 1
    assert "nodes 1, not 3" in other.stderr
    for name in (one, two):
        assert machine.proa("down", "--name", name).returncode == 0
        assert traces(name, machine.home) == []
    assert not machine.kubeconfig.exists()


def test_down_after_everything_was_killed(machine: Machine) -> None:
    name = machine.up()
    run_pod(machine, name)
    for _ in range(3):
        for pid in machine.processes(name):
            os.kill(pid, signal.SIGKILL)
    until(lambda: not machine.processes(name), "all processes to be gone")
    assert machine.proa("status", "--name", name).returncode == 1
    assert machine.proa("down", "--name", name).returncode == 0
    assert traces(name, machine.home) == []


def test_up_again_after_everything_was_killed_keeps_objects_and_volumes(machine: Machine, tmp_path: Path) -> None:
    name = machine.up()
    run_pod(machine, name)
    machine.kubectl(name, "create", "configmap", "kept", "--from-literal=a=b")
    manifest = tmp_path / "claimed.json"
    manifest.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": claimed()}))
    machine.kubectl(name, "apply", "-f", str(manifest))
    ready = ("wait", "--for=condition=Ready", "pod/claimed", "--timeout=60s")
    machine.kubectl(name, *ready)
    machine.kubectl(name, "exec", "claimed", "--", "sh", "-c", "echo kept >/data/file")
    for _ in range(3):
        for pid in machine.processes(name):
            os.kill(pid, signal.SIGKILL)
    until(lambda: not machine.processes(name), "all processes to be gone")
    assert machine.proa("up", "--name", name).returncode == 0
    assert machine.kubectl(name, "get", "configmap", "kept", "-o", "jsonpath={.data.a}") == "b"
    machine.kubectl(name, "delete", "pod", "claimed", "--now")
    machine.kubectl(name, "apply", "-f", str(manifest))
    machine.kubectl(name, *ready)
    assert machine.kubectl(name, "exec", "claimed", "--", "cat", "/data/file").strip() == "kept"


@pytest.mark.parametrize("component", ["server", "agent.node-1", "containerd.node-1"])
def test_a_component_that_dies_comes_back_and_no_container_restarts(machine: Machine, component: str) -> None:
    from proa.cluster import state

    name = machine.up()
    run_pod(machine, name)
    run = machine.cluster(name).run
    before = state.processes(run)[component]
    os.kill(before.pid, signal.SIGKILL)

    def is_back() -> bool:
        now = state.processes(run).get(component)
        return now is not None and now.pid != before.pid and now.alive

    until(is_back, f"{component} to come back")
    until(lambda: machine.proa("status", "--name", name).returncode == 0, "the cluster to be well")
    until(lambda: machine.run("kubectl", "--context", f"proa-{name}", "get", "pods").returncode == 0, "the API")
    assert (
        machine.kubectl(name, "get", "pod", "busy", "-o", "jsonpath={.status.containerStatuses[0].restartCount}") == "0"
    )
    echo = ("kubectl", "--context", f"proa-{name}", "exec", "busy", "--", "echo", "here")
    until(lambda: machine.run(*echo).stdout.strip() == "here", "the node to serve exec")


def test_a_taken_port_is_said_in_one_line(machine: Machine) -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        port = sock.getsockname()[1]
        done = machine.proa("up", "--name", "taken", "--port", str(port))
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        f"proa: port {port} of 127.0.0.1, the chosen API server port, is taken: choose another: --port P"
    ]
    assert not (machine.home / "taken").exists()


def test_a_missing_containerd_is_said_in_one_line(machine: Machine, tmp_path: Path) -> None:
    bare = tmp_path / "bin"
    bare.mkdir()
    for tool in ("ip", "nsenter", "sh"):
        (bare / tool).symlink_to(f"/usr/bin/{tool}")
    machine.environment["PATH"] = str(bare)
    done = machine.proa("up", "--name", "bare")
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "proa: containerd is not installed: run script/setup, or: apt-get install containerd runc"
    ]


def claimed() -> list[dict[str, Any]]:
    """A claim of the default class, and the pod `claimed` that mounts it at /data."""
    container = {"name": "c", "image": "busybox", "imagePullPolicy": "IfNotPresent", "command": ["sleep", "3600"]}
    spec = {
        "containers": [{**container, "volumeMounts": [{"name": "data", "mountPath": "/data"}]}],
        "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}],
    }
    wanted = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "16Mi"}}}
    return [
        {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data"}, "spec": wanted},
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "claimed"}, "spec": spec},
    ]


def run_pod(machine: Machine, name: str) -> None:
    """Runs a busybox pod named `busy` and waits until it does."""
    built = machine.proa("image", "build", "busybox", "--deb", "busybox-static", "--load", "--name", name)
    assert built.returncode == 0, built.stderr
    machine.kubectl(name, "run", "busy", "--image=busybox", "--image-pull-policy=IfNotPresent", "--", "sleep", "3600")
    status = ("get", "pod", "busy", "-o", "jsonpath={.status.phase}")
    until(lambda: machine.kubectl(name, *status) == "Running", "the pod to run")
