"""Simulated nodes as a user meets them: `proa up --simulation`, kubectl, faults by annotation."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.clusters import Machine, need_machine, until

pytestmark = pytest.mark.cluster

SIMULATION = """
apiVersion: simulation.proa.dev/v1
kind: Simulation
nodes:
- {zones: [a, b], cpu: 8, reserved: {cpu: 500m}}
- {name: big, count: 1, cpu: 64, taints: [{key: big, effect: NoSchedule}]}
lives:
- {name: crash, match: {labels: {app: crash}}, run: {seconds: 1, exitCode: 3, message: no disk}}
- {name: broken, match: {image: "*:broken"}, pull: {seconds: 1, error: "registry says no"}}
"""


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    need_machine()
    machine = Machine(tmp_path)
    yield machine
    machine.close()


class Simulation:
    """A cluster with nodes as SIMULATION says, and what a user does with it."""

    def __init__(self, machine: Machine, file: Path, *options: str) -> None:
        self.machine = machine
        file.write_text(SIMULATION)
        self.name = machine.up("--nodes", "0", "--simulated-nodes", "5", "--simulation", str(file), *options)

    def kubectl(self, *arguments: str) -> str:
        return self.machine.kubectl(self.name, *arguments)

    def refusal(self, *arguments: str) -> str:
        context = ("--kubeconfig", str(self.machine.kubeconfig), "--context", f"proa-{self.name}")
        done = self.machine.run("kubectl", *context, *arguments)
        assert done.returncode != 0, done.stdout
        return done.stderr

    def first(self, app: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.kubectl("get", "pods", "-l", f"app={app}", "-o", "json"))["items"][0]
        return found

    def check_lives(self) -> None:
        """Three Deployments, one of which works."""
        self.kubectl("create", "deployment", "web", "--image=web:1", "--replicas=3")
        self.kubectl("create", "deployment", "crash", "--image=web:1")
        self.kubectl("create", "deployment", "broken", "--image=web:broken")
        self.kubectl("rollout", "status", "deployment/web", "--timeout=30s")
        until(lambda: "CrashLoopBackOff" in self.kubectl("get", "pods", "-l", "app=crash"), "a crash loop")
        until(lambda: "ImagePullBackOff" in self.kubectl("get", "pods", "-l", "app=broken"), "a pull that fails")


def test_nodes_lives_and_faults(machine: Machine, tmp_path: Path) -> None:
    file = tmp_path / "simulation.yaml"
    one = Simulation(machine, file)
    wide = one.kubectl("get", "nodes", "-o", "wide").splitlines()
    assert [line.split()[0] for line in wide[1:]] == ["big-0", *(f"simulated-{number}" for number in range(4))]
    assert all("simulated://1" in line and " Ready " in line and "100.64." in line for line in wide[1:])
    one.check_lives()
    node, pod = one.first("web")["spec"]["nodeName"], one.first("web")["metadata"]["name"]
    until(lambda: "no disk\n" in one.kubectl("logs", "-l", "app=crash"), "a log of the end")
    assert "is simulated: its pods run nothing that one could talk to" in one.refusal("exec", pod, "--", "ls")
    one.kubectl("annotate", "node", node, "proa.dev/fault=fail")

    # It takes a while until anybody notices.
    told = one.kubectl("describe", "node", node)
    assert "NodeReady" in told and "cpu:                7500m" in told and pod in told
    told = one.kubectl("describe", "pod", "-l", "app=broken")
    assert 'Failed to pull image "web:broken": registry says no' in told and "Error: ErrImagePull" in told
    assert "i/o timeout" in one.refusal("logs", pod)
    file.write_text(SIMULATION.replace(', error: "registry says no"', ""))
    until(lambda: one.first("broken")["status"]["phase"] == "Running", "the file to be followed", 60)

    one.kubectl("wait", f"node/{node}", "--for=condition=Ready=Unknown", "--timeout=90s")
    assert " NotReady " in one.kubectl("get", "node", node)
    assert "node.kubernetes.io/unreachable:NoSchedule" in one.kubectl("describe", "node", node)
    one.kubectl("annotate", "node", node, "proa.dev/fault-")
    one.kubectl("wait", f"node/{node}", "--for=condition=Ready", "--timeout=30s")
    until(lambda: one.first("web")["status"]["containerStatuses"][0]["ready"], "its pod back")
    assert one.first("web")["status"]["containerStatuses"][0]["restartCount"] == 1
    assert "has been rebooted, boot id:" in one.kubectl("describe", "node", node)


def test_a_file_that_is_not_valid_is_one_line(machine: Machine, tmp_path: Path) -> None:
    file = tmp_path / "simulation.yaml"
    file.write_text(SIMULATION.replace("seconds: 1,", "secons: 1,", 1))
    wrong = machine.proa("up", "--name", "wrong", "--nodes", "0", "--simulated-nodes", "5", "--simulation", str(file))
    assert wrong.returncode == 1 and wrong.stderr.count("\n") == 1
    assert "lives[0].run: unknown field 'secons'; there are: seconds, exitCode, reason, message" in wrong.stderr


def test_in_a_process_of_their_own(machine: Machine, tmp_path: Path) -> None:
    Simulation(machine, tmp_path / "simulation.yaml", "--separate").check_lives()
