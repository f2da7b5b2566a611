"""Simulated nodes as a user meets them: `proa up --simulation`, kubectl, faults by annotation."""

import json
from collections.abc import Iterator
from pathlib import Path

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


def refused(machine: Machine, name: str, *arguments: str) -> str:
    done = machine.run("kubectl", "--kubeconfig", str(machine.kubeconfig), "--context", f"proa-{name}", *arguments)
    assert done.returncode != 0, done.stdout
    return done.stderr


@pytest.mark.parametrize("arrangement", [(), ("--separate",)])
def test_lives_and_faults(machine: Machine, tmp_path: Path, arrangement: tuple[str, ...]) -> None:
    file = tmp_path / "simulation.yaml"
    file.write_text(SIMULATION.replace("seconds: 1,", "secons: 1,", 1))
    wrong = machine.proa("up", "--name", "wrong", "--nodes", "0", "--simulated-nodes", "5", "--simulation", str(file))
    assert wrong.returncode == 1 and wrong.stderr.count("\n") == 1
    assert "lives[0].run: unknown field 'secons'; there are: seconds, exitCode, reason, message" in wrong.stderr
    file.write_text(SIMULATION)
    name = machine.up("--nodes", "0", "--simulated-nodes", "5", "--simulation", str(file), *arrangement)

    def kubectl(*arguments: str) -> str:
        return machine.kubectl(name, *arguments)

    def first(app: str) -> dict:
        return json.loads(kubectl("get", "pods", "-l", f"app={app}", "-o", "json"))["items"][0]

    wide = kubectl("get", "nodes", "-o", "wide").splitlines()
    assert [line.split()[0] for line in wide[1:]] == ["big-0", *(f"simulated-{number}" for number in range(4))]
    assert all("simulated://1" in line and " Ready " in line and "100.64." in line for line in wide[1:])

    kubectl("create", "deployment", "web", "--image=web:1", "--replicas=3")
    kubectl("create", "deployment", "crash", "--image=web:1")
    kubectl("create", "deployment", "broken", "--image=web:broken")
    kubectl("rollout", "status", "deployment/web", "--timeout=30s")
    until(lambda: "CrashLoopBackOff" in kubectl("get", "pods", "-l", "app=crash"), "a crash loop")
    until(lambda: "ImagePullBackOff" in kubectl("get", "pods", "-l", "app=broken"), "a pull that fails")
    told = kubectl("describe", "pod", "-l", "app=broken")
    assert 'Failed to pull image "web:broken": registry says no' in told and "Error: ErrImagePull" in told
    assert "no disk\nsimulated container web ends with exit code 3" in kubectl("logs", "-l", "app=crash")
    pod = first("web")["metadata"]["name"]
    assert "is simulated: its pods run nothing that one could talk to" in refused(
        machine, name, "exec", pod, "--", "ls"
    )

    node = first("web")["spec"]["nodeName"]
    told = kubectl("describe", "node", node)
    assert "Events:" in told and "NodeReady" in told and "cpu:                7500m" in told and pod in told
    kubectl("annotate", "node", node, "proa.dev/fault=fail")
    until(lambda: " NotReady " in kubectl("get", "node", node), "a node that is not ready", 90)
    assert "node.kubernetes.io/unreachable:NoSchedule" in kubectl("describe", "node", node)
    assert "i/o timeout" in refused(machine, name, "logs", pod)
    kubectl("annotate", "node", node, "proa.dev/fault-")
    until(lambda: " Ready " in kubectl("get", "node", node), "the node back")
    until(lambda: first("web")["status"]["containerStatuses"][0]["ready"], "its pod back")
    assert first("web")["status"]["containerStatuses"][0]["restartCount"] == 1
    assert "has been rebooted, boot id:" in kubectl("describe", "node", node)

    file.write_text(SIMULATION.replace(', error: "registry says no"', ""))
    until(lambda: first("broken")["status"]["phase"] == "Running", "the file to be followed", 60)
