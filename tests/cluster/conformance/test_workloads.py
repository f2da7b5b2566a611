"""What of the workloads only real containers show; all else about them is in tests/controllers/conformance."""

from __future__ import annotations

from typing import Any

import pytest

from tests.cluster.conformance.conftest import Api
from tests.cluster.conformance.objects import apps, core, is_ready, pod_spec, replication_controller, workload
from tests.cluster.waiting import eventually

pytestmark = pytest.mark.cluster

PORT = 9376
SERVE_HOSTNAME = ("sh", "-c", f"hostname > /tmp/index.html && exec httpd -f -p {PORT} -h /tmp")


def serves_on_each(api: Api, namespace: str, name: str) -> None:
    """Waits for two ready pods; each answers with its own name through the API server's proxy."""

    def ready() -> list[dict[str, Any]]:
        pods = api.get(core(namespace, "pods") + f"?labelSelector=name%3D{name}").ok()["items"]
        return pods if len(pods) == 2 and all(map(is_ready, pods)) else []

    for one in eventually(ready):
        pod = one["metadata"]["name"]
        answer = eventually(lambda pod=pod: _answer(api, f"{core(namespace, 'pods', pod)}:{PORT}/proxy/"))
        assert answer.strip() == pod


def _answer(api: Api, path: str) -> str:
    reply = api.get(path)
    return reply.body.decode() if reply.status == 200 else ""


def _serving(template: dict[str, Any]) -> None:
    template["spec"] = pod_spec(*SERVE_HOSTNAME)


@pytest.mark.behaviour(
    "[sig-apps] ReplicationController should serve a basic image on each replica with a public image"
)
def test_a_replication_controller_serves(api: Api, namespace: str) -> None:
    made = replication_controller("my-hostname-basic", 2)
    _serving(made["spec"]["template"])
    api.post(core(namespace, "replicationcontrollers"), made).ok()
    serves_on_each(api, namespace, "my-hostname-basic")


@pytest.mark.behaviour("[sig-apps] ReplicaSet should serve a basic image on each replica with a public image")
def test_a_replica_set_serves(api: Api, namespace: str) -> None:
    made = workload("ReplicaSet", "my-hostname-basic", 2)
    _serving(made["spec"]["template"])
    api.post(apps(namespace, "replicasets"), made).ok()
    serves_on_each(api, namespace, "my-hostname-basic")


def test_the_container_of_an_index_knows_it(api: Api, namespace: str) -> None:
    spec = pod_spec("sh", "-c", "echo $JOB_COMPLETION_INDEX $(hostname)", restartPolicy="Never")
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "indexed"},
        "spec": {"completions": 2, "parallelism": 2, "completionMode": "Indexed", "template": {"spec": spec}},
    }
    path = f"/apis/batch/v1/namespaces/{namespace}/jobs"
    api.post(path, job).ok()
    eventually(lambda: api.get(f"{path}/indexed").ok().get("status", {}).get("succeeded") == 2)
    pods = api.get(core(namespace, "pods")).ok()["items"]
    said = sorted(api.get(core(namespace, "pods", one["metadata"]["name"]) + "/log").body.decode() for one in pods)
    assert said == ["0 indexed-0\n", "1 indexed-1\n"]
