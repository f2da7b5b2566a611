"""Pods as clients make, change, watch and end them: status, generation, deadlines, exec and logs over WebSockets."""

from __future__ import annotations

import json
import urllib.parse
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from websockets.sync.client import ClientConnection, connect

from tests.cluster.conformance.conftest import STRATEGIC, Api
from tests.cluster.conformance.fleet import Fleet, Obj, container, launched, pod_of, shell
from tests.cluster.conformance.objects import condition, core, is_ready
from tests.cluster.conformance.operations import replace
from tests.cluster.conftest import RunningCluster
from tests.cluster.waiting import eventually

pytestmark = pytest.mark.cluster

UPDATES = 499
SERVES = ("httpd", "-f", "-p", "9376", "-h", "/tmp")


def service(name: str, port: int, target: int, server: str) -> Obj:
    spec = {"selector": {"name": server}, "ports": [{"port": port, "targetPort": target}]}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}


def objects() -> list[Obj]:
    quota = {"cpu": "100m", "memory": "100Mi"}
    sleeper = container("main")
    guaranteed = container("main", resources={"requests": quota, "limits": quota})
    generation = pod_of("generation", sleeper, initContainers=[container("init", "true")], activeDeadlineSeconds=5000)
    counted = pod_of("counted", sleeper, activeDeadlineSeconds=5000)
    custom = pod_of("custom", sleeper)
    custom["metadata"]["generation"] = 100
    collection = [pod_of(f"test-pod-{index}", sleeper, terminationGracePeriodSeconds=1) for index in range(1, 4)]
    for one in collection:
        one["metadata"]["labels"] = {"type": "Testing"}
    return [
        service("fooservice", 8765, 8080, "server"),
        pod_of("server", container("main", *SERVES)),
        pod_of("host-ip", sleeper),
        pod_of("changing", sleeper),
        pod_of("deadline", sleeper),
        pod_of("patched", sleeper),
        shell("commanded", "echo container is alive; sleep 600"),
        generation,
        counted,
        custom,
        pod_of("qos", guaranteed),
        *collection,
    ]


@pytest.fixture(scope="module")
def fleet(cluster: RunningCluster, api: Api) -> Iterator[Fleet]:
    with launched(cluster, api, *objects()) as made:
        yield made


# ---------------------------------------------------------------- life


@pytest.mark.behaviour("[sig-node] Pods should get a host IP")
def test_host_ip(api: Api, fleet: Fleet) -> None:
    status = fleet.ready("host-ip")["status"]
    node = api.get(f"/api/v1/nodes/{fleet.get('host-ip')['spec']['nodeName']}").ok()
    assert status["hostIP"] in [one["address"] for one in node["status"]["addresses"] if one["type"] == "InternalIP"]


@pytest.mark.behaviour("[sig-node] Pods should be submitted and removed")
def test_submitted_and_removed(api: Api, fleet: Fleet) -> None:
    path, selector = core(fleet.namespace, "pods"), "?labelSelector=name%3Dsubmitted"
    listed = api.get(path + selector).ok()
    assert listed["items"] == []
    with api.watch(f"{path}{selector}&resourceVersion={listed['metadata']['resourceVersion']}", 60) as events:
        fleet.create(pod_of("submitted", container("main"), terminationGracePeriodSeconds=5))
        assert next(events)["type"] == "ADDED"
        assert len(api.get(path + selector).ok()["items"]) == 1
        fleet.ready("submitted")
        api.delete(fleet.path("submitted"), {"gracePeriodSeconds": 5}).ok()
        last = next(event for event in events if event["type"] == "DELETED")["object"]
    assert last["metadata"]["deletionTimestamp"]
    assert api.get(path + selector).ok()["items"] == []


@pytest.mark.behaviour("[sig-node] Pods should be updated")
def test_updated(api: Api, fleet: Fleet) -> None:
    fleet.ready("changing")

    def change(one: Obj) -> None:
        one["metadata"]["labels"]["time"] = "later"

    replace(api, fleet.path("changing"), change)
    (found,) = api.get(core(fleet.namespace, "pods") + "?labelSelector=time%3Dlater").ok()["items"]
    assert found["metadata"]["name"] == "changing"
    assert is_ready(fleet.get("changing"))


@pytest.mark.behaviour("[sig-node] Pods should allow activeDeadlineSeconds to be updated")
def test_deadline(api: Api, fleet: Fleet) -> None:
    fleet.ready("deadline")

    def change(one: Obj) -> None:
        one["spec"]["activeDeadlineSeconds"] = 5

    replace(api, fleet.path("deadline"), change)
    ended = fleet.phase("deadline", "Failed")["status"]
    assert ended["reason"] == "DeadlineExceeded"


@pytest.mark.behaviour("[sig-node] Pods should contain environment variables for services")
def test_service_variables(api: Api, fleet: Fleet) -> None:
    """The service is there before the pod is made: the pod's environment names it."""
    address = api.get(core(fleet.namespace, "services", "fooservice")).ok()["spec"]["clusterIP"]
    fleet.create(pod_of("client", container("main", "env")))
    found = dict(line.split("=", 1) for line in fleet.output("client").splitlines() if "=" in line)
    expected = {
        "FOOSERVICE_SERVICE_HOST": address,
        "FOOSERVICE_SERVICE_PORT": "8765",
        "FOOSERVICE_PORT": f"tcp://{address}:8765",
        "FOOSERVICE_PORT_8765_TCP_PORT": "8765",
        "FOOSERVICE_PORT_8765_TCP_PROTO": "tcp",
        "FOOSERVICE_PORT_8765_TCP": f"tcp://{address}:8765",
        "FOOSERVICE_PORT_8765_TCP_ADDR": address,
    }
    assert {key: found.get(key) for key in expected} == expected


@pytest.mark.behaviour("[sig-node] Pods should delete a collection of pods")
def test_delete_a_collection(api: Api, fleet: Fleet) -> None:
    path = core(fleet.namespace, "pods") + "?labelSelector=type%3DTesting"
    assert len(api.get(path).ok()["items"]) == 3
    for index in range(1, 4):
        fleet.phase(f"test-pod-{index}", "Running")
    api.delete(path, {"gracePeriodSeconds": 1}).ok()
    eventually(lambda: api.get(path).ok()["items"] == [])


# ---------------------------------------------------------------- status


@pytest.mark.behaviour("[sig-node] Pods should patch a pod status")
def test_patch_status(api: Api, fleet: Fleet) -> None:
    """What somebody else writes into message and reason stays there: the kubelet has nothing else to say in them."""
    fleet.ready("patched")
    status = {"status": {"message": "Patched by e2e test", "reason": "E2E"}}
    patched = api.patch(fleet.path("patched") + "/status", status, STRATEGIC).ok()["status"]
    assert (patched["message"], patched["reason"]) == ("Patched by e2e test", "E2E")
    assert patched["phase"] == "Running"
    api.patch(fleet.path("patched"), {"metadata": {"labels": {"another": "sync"}}}).ok()
    found = fleet.status("patched")
    assert (found["message"], found["reason"]) == ("Patched by e2e test", "E2E")


@pytest.mark.behaviour("[sig-node] Pods should run through the lifecycle of Pods and PodStatus")
def test_lifecycle_and_status(api: Api, fleet: Fleet) -> None:
    path, selector = core(fleet.namespace, "pods"), "?labelSelector=test-pod-static%3Dtrue"
    start = api.get(path + selector).ok()["metadata"]["resourceVersion"]
    made = pod_of("lifecycle", container("main"), terminationGracePeriodSeconds=1)
    made["metadata"]["labels"] = {"test-pod-static": "true"}
    with api.watch(f"{path}{selector}&resourceVersion={start}", 60) as events:
        fleet.create(made)
        first = next(events)
        assert (first["type"], first["object"]["metadata"]["name"]) == ("ADDED", "lifecycle")
        wait_for(events, lambda one: one["status"].get("phase") == "Running")
        change = {
            "metadata": {"labels": {"test-pod": "patched"}},
            "spec": {"terminationGracePeriodSeconds": 1, "containers": [{"name": "main", "image": "busybox"}]},
        }
        api.patch(f"{path}/lifecycle", change, STRATEGIC).ok()
        wait_for(events, lambda one: one["metadata"]["labels"].get("test-pod") == "patched")
        found = api.get(f"{path}/lifecycle").ok()
        assert found["spec"]["containers"][0]["image"] == "busybox"
        _replace_status(api, f"{path}/lifecycle/status")
        wait_for(events, lambda one: condition(one, "Ready").get("status") == "False")
        api.delete(path + selector).ok()
        last = next(event for event in events if event["type"] == "DELETED")
        assert last["object"]["metadata"]["name"] == "lifecycle"
    api.get(f"{path}/lifecycle").failed(404, "NotFound")


def _replace_status(api: Api, path: str) -> None:
    """Says that the pod is not ready, as a client that has its whole status in hand does."""
    before = api.get(path).ok()

    def change(one: Obj) -> None:
        for each in one["status"]["conditions"]:
            if each["type"] in ("Ready", "ContainersReady"):
                each["status"] = "False"

    after = replace(api, path, change)
    assert condition(after, "Ready")["status"] == condition(after, "ContainersReady")["status"] == "False"
    assert after["spec"] == before["spec"]


def wait_for(events: Iterator[Obj], holds: Callable[[Obj], Any]) -> Obj:
    """Reads events until one is a change after which this holds."""
    for event in events:
        if event["type"] in ("ADDED", "MODIFIED") and holds(event["object"]):
            return dict(event["object"])
    raise AssertionError("the watch ended")


@pytest.mark.behaviour(
    "[sig-node] Pods Extended Pods Set QOS Class should be set on Pods with matching resource requests and limits for "
    "memory and cpu"
)
def test_qos_class(fleet: Fleet) -> None:
    assert fleet.status("qos")["qosClass"] == "Guaranteed"


# ---------------------------------------------------------------- generation


@pytest.mark.behaviour(
    "[sig-node] Pods Extended (pod generation) Pod Generation pod generation should start at 1 and increment per "
    "update [MinimumKubeletVersion:1.34]"
)
def test_generation(api: Api, fleet: Fleet) -> None:
    """Changes of the spec count, by whatever way they come; others do not. The kubelet says which it has seen."""
    name, generation = "generation", 1
    path = fleet.path(name)
    assert fleet.ready(name)["metadata"]["generation"] == 1
    _observed(fleet, name, generation)

    def tolerate(one: Obj) -> None:
        one["spec"].setdefault("tolerations", []).append(
            {"key": "foo-key", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 90}
        )

    def set_image(one: Obj) -> None:
        one["spec"]["containers"][0]["image"] = "docker.io/library/busybox"

    def set_init_image(one: Obj) -> None:
        one["spec"]["initContainers"][0]["image"] = "docker.io/library/busybox"

    def set_deadline(one: Obj) -> None:
        one["spec"]["activeDeadlineSeconds"] = 4000

    steps: list[tuple[Callable[[Obj], None], int]] = [
        (lambda one: None, 0),
        (lambda one: one["metadata"]["labels"].update(custom="label"), 0),
        (tolerate, 1),
        (set_image, 1),
        (set_init_image, 1),
        (set_deadline, 1),
    ]
    for change, bump in steps:
        generation += bump
        assert replace(api, path, change)["metadata"]["generation"] == generation
        _observed(fleet, name, generation)
    resources = {"name": "main", "resources": {"requests": {"cpu": "10m"}}}
    debugger = {"spec": {"ephemeralContainers": [container("debugger")]}}
    api.patch(path + "/resize", {"spec": {"containers": [resources]}}, STRATEGIC).failed(422, "Invalid")
    added = api.patch(path + "/ephemeralcontainers", debugger, STRATEGIC).ok()
    assert added["metadata"]["generation"] == generation + 1
    _observed(fleet, name, generation + 1)


def _observed(fleet: Fleet, name: str, generation: int) -> None:
    """Waits until the kubelet has seen this generation, and says so in the status and in all of its conditions."""

    def seen(one: Obj) -> bool:
        by_kubelet = [each for each in one["status"]["conditions"] if each["type"] != "PodScheduled"]
        return bool(
            one["status"].get("observedGeneration") == generation
            and all(each.get("observedGeneration") == generation for each in by_kubelet)
        )

    assert fleet.until(name, seen, what=f"generation {generation} not seen")["metadata"]["generation"] == generation


@pytest.mark.behaviour(
    "[sig-node] Pods Extended (pod generation) Pod Generation custom-set generation on new pods and graceful delete"
)
def test_deletion_counts_as_a_change(api: Api, fleet: Fleet) -> None:
    assert fleet.phase("custom", "Running")["metadata"]["generation"] == 1  # whatever its creator said
    api.delete(fleet.path("custom") + "?gracePeriodSeconds=60").ok()
    reply = api.get(fleet.path("custom"))
    assert reply.ok()["metadata"]["generation"] == 2
    api.delete(fleet.path("custom") + "?gracePeriodSeconds=0")


@pytest.mark.behaviour(
    "[sig-node] Pods Extended (pod generation) Pod Generation issue 500 podspec updates and verify generation and "
    "observedGeneration eventually converge [MinimumKubeletVersion:1.34]"
)
def test_many_updates(api: Api, fleet: Fleet) -> None:
    found = fleet.ready("counted")
    connection = api.connect()
    headers = {"Accept": "application/json", "Content-Type": "application/json"}

    def ask(method: str, body: Obj | None = None) -> tuple[int, Obj]:
        connection.request(method, fleet.path("counted"), json.dumps(body) if body else None, headers)
        with connection.getresponse() as response:
            return response.status, json.load(response)

    done = 0
    while done < UPDATES:
        found["spec"]["activeDeadlineSeconds"] -= 1
        status, answer = ask("PUT", found)
        assert status in (200, 409), answer
        done += status == 200
        found = answer if status == 200 else ask("GET")[1]
    connection.close()
    _observed(fleet, "counted", UPDATES + 1)


# ---------------------------------------------------------------- WebSockets


def open_websocket(api: Api, path: str, protocol: str) -> ClientConnection:
    return connect(
        f"wss://{api.host}:{api.port}{path}",
        ssl=api.tls,
        subprotocols=[protocol],  # type: ignore[list-item]
        max_size=None,
    )


@pytest.mark.behaviour("[sig-node] Pods should support remote command execution over websockets")
def test_exec_over_websockets(api: Api, fleet: Fleet) -> None:
    fleet.ready("commanded")
    query = urllib.parse.urlencode(
        [("stderr", "1"), ("stdout", "1"), ("container", "main"), ("command", "echo"), ("command", "remote execution")]
    )
    with open_websocket(api, f"{fleet.path('commanded')}/exec?{query}", "v4.channel.k8s.io") as socket:
        frames = [frame for frame in socket if isinstance(frame, bytes)]
    assert b"".join(frame[1:] for frame in frames if frame[0] == 1) == b"remote execution\n"
    assert not b"".join(frame[1:] for frame in frames if frame[0] == 2)
    (status,) = [frame[1:] for frame in frames if frame[0] == 3]
    assert b'"Success"' in status


@pytest.mark.behaviour("[sig-node] Pods should support retrieving logs from the container over websockets")
def test_logs_over_websockets(api: Api, fleet: Fleet) -> None:
    fleet.ready("commanded")
    path = f"{fleet.path('commanded')}/log?container=main"
    with open_websocket(api, path, "binary.k8s.io") as socket:
        said = b"".join(frame for frame in socket if isinstance(frame, bytes))
    assert said == b"container is alive\n"
