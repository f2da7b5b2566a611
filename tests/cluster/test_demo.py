"""script/demo: the hello world of the tutorial, step by step, as a newcomer runs it."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.clusters import Machine, free_port, need_machine, traces, unique_name

pytestmark = pytest.mark.cluster
ROOT = Path(__file__).parents[2]
STEPS = (
    "Start a cluster",
    "Provide the image",
    "kubectl create deployment",
    "kubectl expose deployment",
    "kubectl scale deployment",
    "kubectl get deployment",
    "kubectl port-forward",
    "kubectl get services",
    "kubectl delete service",
)


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    need_machine()
    machine = Machine(tmp_path)
    yield machine
    machine.close()


def test_the_story(machine: Machine) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", 1234))
        except OSError:
            pytest.skip("port 1234, which the story forwards, is taken")
    name = unique_name()
    machine.names.append(name)
    machine.environment["PROA_DEMO_NAME"] = name
    machine.environment["PROA_DEMO_PORT"] = str(free_port())
    for _ in range(2):  # a second run of the story finds its cluster running
        done = machine.run(str(ROOT / "script" / "demo"), seconds=300)
        assert done.returncode == 0, done.stdout + done.stderr
        told = [line for line in done.stdout.splitlines() if line.startswith(STEPS)]
        assert [line[: len(step)] for line, step in zip(told, STEPS, strict=True)] == list(STEPS)
        assert done.stdout.count("Welcome to nginx!") == 2
        assert " 2/2 " in done.stdout
        assert "are gone" in done.stdout
    assert machine.kubectl(name, "get", "all", "-o", "name").split() == ["service/kubernetes"]
    assert machine.proa("down", "--name", name).returncode == 0
    assert traces(name, machine.home) == []
