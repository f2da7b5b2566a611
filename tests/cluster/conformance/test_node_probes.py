"""Probes: what restarts a container, what does not, and when a pod is ready."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

import pytest

from tests.cluster.conformance.conftest import Api
from tests.cluster.conformance.fleet import SERVER_FILES, Fleet, Obj, launched, server, shell
from tests.cluster.conformance.objects import condition, is_ready
from tests.cluster.conftest import RunningCluster
from tests.cluster.waiting import eventually

pytestmark = pytest.mark.cluster

INITIAL_DELAY_SECONDS = 8
GRPC_PORT = 5000
HEALTH_FILE = "echo ok >/tmp/health; "
CHECK_FILE = {"command": ["sh", "-c", "cat /tmp/health && echo probed >>/tmp/probes"]}


def http(path: str) -> Obj:
    return {"httpGet": {"path": path, "port": 8080}}


def often(handler: Obj, failures: int = 1) -> Obj:
    return {**handler, "initialDelaySeconds": 1, "periodSeconds": 1, "failureThreshold": failures, "timeoutSeconds": 5}


def probed(name: str, *arguments: str, liveness: Obj) -> Obj:
    """A server whose liveness is asked for once it listens."""
    listening = {"tcpSocket": {"port": 8080}, "periodSeconds": 1, "failureThreshold": 60}
    return server(name, *arguments, startupProbe=listening, livenessProbe=liveness)


def restarting(name: str, script: str, probe: Obj) -> Obj:
    return shell(name, script, livenessProbe=probe, pod={"restartPolicy": "Always"})


def objects() -> list[Obj]:
    by_port = {"grpc": {"port": GRPC_PORT, "service": "liveness"}}
    wrong_port = {"grpc": {"port": 2333}}
    delayed = {**http("/"), "initialDelaySeconds": INITIAL_DELAY_SECONDS, "periodSeconds": 1}
    false = {"exec": {"command": ["/bin/false"]}, "initialDelaySeconds": 1, "periodSeconds": 1}
    ends = HEALTH_FILE + "sleep 3; rm /tmp/health; sleep 600"
    return [
        SERVER_FILES,
        restarting("file-stays", HEALTH_FILE + "sleep 600", often({"exec": CHECK_FILE}, 5)),
        restarting("file-goes", ends, often({"exec": {"command": ["cat", "/tmp/health"]}})),
        probed("http-good", liveness=often(http("/"), 5)),
        probed("http-bad", "--healthy", "3", liveness=often(http("/healthz"))),
        probed("tcp-good", "--healthy", "1", liveness=often({"tcpSocket": {"port": 8080}}, 5)),
        probed("grpc-good", "--grpc", str(GRPC_PORT), liveness=often(by_port, 5)),
        probed("grpc-bad", "--grpc", str(GRPC_PORT), liveness=often(wrong_port)),
        server("ready-later", readinessProbe=delayed),
        shell("never-ready", "sleep 600", readinessProbe=false),
    ]


@pytest.fixture(scope="module")
def fleet(cluster: RunningCluster, api: Api) -> Iterator[Fleet]:
    with launched(cluster, api, *objects()) as made:
        yield made


def event(fleet: Fleet, name: str, reason: str, text: str) -> Obj:
    """Waits for an event of the pod and returns it."""

    def find() -> Obj | None:
        found = fleet.events(name)
        return next((one for one in found if one["reason"] == reason and text in one["message"]), None)

    found = eventually(find, what=f"{name} has an event {reason}: {text}")
    assert found is not None
    return found


def count(fleet: Fleet, name: str, text: str) -> int:
    return fleet.logs(name).count(text)


@pytest.mark.behaviour(
    '[sig-node] Probing container should be restarted with a exec "cat /tmp/health" liveness probe',
    "[sig-node] Probing container should be restarted with a /healthz http liveness probe",
    "[sig-node] Probing container should be restarted with a GRPC liveness probe",
)
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("file-goes", "Liveness probe failed: cat: can't open '/tmp/health'"),
        ("http-bad", "Liveness probe failed: HTTP probe failed with statuscode: 500"),
        ("grpc-bad", "Liveness probe failed: "),
    ],
)
def test_failing_liveness_restarts(fleet: Fleet, name: str, said: str) -> None:
    eventually(lambda: fleet.container(name).get("restartCount", 0) >= 1, what=f"{name} is restarted")
    assert event(fleet, name, "Unhealthy", said)["type"] == "Warning"
    event(fleet, name, "Killing", "Container main failed liveness probe, will be restarted")
    last = fleet.container(name)["lastState"]["terminated"]
    assert last["exitCode"] != 0 or last["reason"] == "Completed"


@pytest.mark.behaviour(
    '[sig-node] Probing container should *not* be restarted with a exec "cat /tmp/health" liveness probe'
)
def test_good_exec_probe(fleet: Fleet) -> None:
    fleet.ready("file-stays")
    eventually(lambda: fleet.run("file-stays", "cat /tmp/probes || true").count("probed") >= 5)
    assert fleet.container("file-stays")["restartCount"] == 0


@pytest.mark.behaviour(
    "[sig-node] Probing container should *not* be restarted with a /healthz http liveness probe",
    "[sig-node] Probing container should *not* be restarted with a tcp:8080 liveness probe",
    "[sig-node] Probing container should *not* be restarted with a GRPC liveness probe",
)
@pytest.mark.parametrize(
    ("name", "trace"),
    [("http-good", "http GET / kube-probe/1.36"), ("tcp-good", "connected"), ("grpc-good", "grpc b'\\n\\x08liveness'")],
)
def test_good_probes_over_the_network(fleet: Fleet, name: str, trace: str) -> None:
    fleet.ready(name)
    eventually(lambda: count(fleet, name, trace) >= 5, what=f"{name} is probed: {fleet.logs(name)}")
    assert fleet.container(name)["restartCount"] == 0


@pytest.mark.behaviour(
    "[sig-node] Probing container with readiness probe should not be ready before initial delay and never restart"
)
def test_ready_after_the_initial_delay(fleet: Fleet) -> None:
    pod = fleet.ready("ready-later")
    ready_at = datetime.fromisoformat(condition(pod, "Ready")["lastTransitionTime"])
    started_at = datetime.fromisoformat(pod["status"]["containerStatuses"][0]["state"]["running"]["startedAt"])
    assert (ready_at - started_at).total_seconds() >= INITIAL_DELAY_SECONDS
    assert fleet.container("ready-later")["restartCount"] == 0


@pytest.mark.behaviour(
    "[sig-node] Probing container with readiness probe that fails should never be ready and never restart"
)
def test_failing_readiness(fleet: Fleet) -> None:
    eventually(lambda: event(fleet, "never-ready", "Unhealthy", "Readiness probe failed: ").get("count", 0) >= 5)
    pod = fleet.get("never-ready")
    assert not is_ready(pod) and condition(pod, "ContainersReady")["reason"] == "ContainersNotReady"
    assert pod["status"]["containerStatuses"][0]["restartCount"] == 0
    assert pod["status"]["phase"] == "Running"
