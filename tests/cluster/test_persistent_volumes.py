"""Claims on real nodes: local-path volumes from the default class, through kubectl. Data outlives pods, not claims."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.conftest import RunningCluster
from tests.cluster.waiting import eventually

pytestmark = pytest.mark.cluster

BUSYBOX = "docker.io/library/busybox:latest"
FOREVER = "trap 'exit 0' TERM; while :; do sleep 1; done"


def claim(name: str, size: str = "1Gi", **spec: Any) -> dict[str, Any]:
    wanted = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}, **spec}
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name}, "spec": wanted}


def container(script: str = FOREVER, **fields: Any) -> dict[str, Any]:
    mounts = [{"name": "data", "mountPath": "/data"}]
    made = {"name": "c", "image": BUSYBOX, "imagePullPolicy": "IfNotPresent", "command": ["sh", "-c", script]}
    return {**made, "volumeMounts": mounts, **fields}


def pod(name: str, claim: str, script: str = FOREVER, **spec: Any) -> dict[str, Any]:
    volumes = [{"name": "data", "persistentVolumeClaim": {"claimName": claim}}]
    wanted = {"containers": [container(script)], "volumes": volumes, "terminationGracePeriodSeconds": 0, **spec}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": wanted}


class Here:
    """kubectl in one namespace."""

    def __init__(self, cluster: RunningCluster, namespace: str) -> None:
        self.cluster = cluster
        self.namespace = namespace

    def kubectl(self, *arguments: str) -> str:
        return self.cluster.kubectl("-n", self.namespace, *arguments)

    def apply(self, *manifests: dict[str, Any]) -> None:
        self.cluster.apply(*manifests, namespace=self.namespace)

    def get(self, kind: str, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self.cluster.json("-n", self.namespace, "get", kind, name)
        return found

    def ready(self, name: str) -> None:
        self.kubectl("wait", "--for=condition=Ready", f"pod/{name}", "--timeout=60s")

    def run(self, pod: str, script: str) -> str:
        return self.kubectl("exec", pod, "--", "sh", "-c", script)

    def events(self, name: str) -> dict[str, str]:
        listed = self.cluster.json(
            "-n", self.namespace, "get", "events", f"--field-selector=involvedObject.name={name}"
        )
        return {one["reason"]: one["message"] for one in listed["items"]}

    def volume_of(self, claim: str) -> dict[str, Any]:
        return self.get("pv", self.get("pvc", claim)["spec"]["volumeName"])


@pytest.fixture
def here(cluster: RunningCluster, namespace: str) -> Here:
    return Here(cluster, namespace)


def test_a_claim_waits_for_its_pod_grows_and_leaves_no_directory(here: Here) -> None:
    here.apply(claim("data"))
    waits = "waiting for first consumer to be created before binding"
    eventually(lambda: here.events("data").get("WaitForFirstConsumer") == waits)
    assert here.get("pvc", "data")["spec"]["storageClassName"] == "local-path"
    assert here.get("pvc", "data")["status"]["phase"] == "Pending"
    here.apply(pod("web", "data", securityContext={"runAsUser": 1000, "fsGroup": 2000}))
    here.ready("web")
    here.run("web", "echo kept >/data/file")
    events = eventually(lambda: (found := here.events("data")) and "ProvisioningSucceeded" in found and found)
    volume = here.volume_of("data")
    name = volume["metadata"]["name"]
    assert events["Provisioning"] == f'External provisioner is provisioning volume for claim "{here.namespace}/data"'
    assert events["ProvisioningSucceeded"] == f"Successfully provisioned volume {name}"
    assert "external provisioner 'proa.dev/local-path'" in events["ExternalProvisioning"]
    (term,) = volume["spec"]["nodeAffinity"]["required"]["nodeSelectorTerms"]
    node = here.get("pod", "web")["spec"]["nodeName"]
    assert term["matchExpressions"][0]["values"] == [node]
    directory = Path(volume["spec"]["local"]["path"])  # isolated nodes share this machine's files
    assert (directory / "file").read_text() == "kept\n"
    assert (directory / "file").stat().st_gid == 2000

    patch = '{"spec":{"resources":{"requests":{"storage":"2Gi"}}}}'
    here.kubectl("patch", "pvc", "data", "-p", patch)
    eventually(lambda: here.get("pvc", "data")["status"]["capacity"] == {"storage": "2Gi"})
    assert here.volume_of("data")["spec"]["capacity"] == {"storage": "2Gi"}
    eventually(lambda: "VolumeResizeSuccessful" in here.events("data"))
    small = here.cluster.run(
        "-n", here.namespace, "patch", "pvc", "data", "-p", patch.replace("2Gi", "1Gi"), check=False
    )
    assert "field can not be less than status.capacity" in small.stderr

    proxy = f"/api/v1/nodes/{node}/proxy"
    summary = json.loads(here.kubectl("get", "--raw", f"{proxy}/stats/summary"))
    (shown,) = [one for one in summary["pods"] if one["podRef"]["namespace"] == here.namespace]
    (used,) = [one for one in shown["volume"] if one["name"] == "data"]
    assert used["pvcRef"] == {"name": "data", "namespace": here.namespace}
    assert 0 < used["usedBytes"] <= used["capacityBytes"]
    labels = f'{{namespace="{here.namespace}",persistentvolumeclaim="data"}}'
    assert f"kubelet_volume_stats_used_bytes{labels} " in here.kubectl("get", "--raw", f"{proxy}/metrics")

    here.kubectl("delete", "pod", "web")
    here.apply(pod("again", "data"))
    here.ready("again")
    assert here.get("pod", "again")["spec"]["nodeName"] == node
    assert here.run("again", "cat /data/file") == "kept\n"
    here.kubectl("delete", "pvc", "data", "--wait=false")
    assert here.get("pvc", "data")["metadata"]["deletionTimestamp"]  # protected while the pod uses it
    here.kubectl("delete", "pod", "again")
    here.cluster.kubectl("wait", "--for=delete", f"pv/{name}", "--timeout=60s")
    assert not directory.exists()


def test_a_stateful_set_keeps_what_its_pods_wrote(here: Here) -> None:
    template = {
        "metadata": {"labels": {"app": "db"}},
        "spec": {"terminationGracePeriodSeconds": 0, "containers": [container()]},
    }
    here.apply(
        {
            "apiVersion": "apps/v1",
            "kind": "StatefulSet",
            "metadata": {"name": "db"},
            "spec": {
                "serviceName": "db",
                "replicas": 2,
                "podManagementPolicy": "Parallel",
                "selector": {"matchLabels": {"app": "db"}},
                "template": template,
                "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": claim("x", "16Mi")["spec"]}],
                "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Delete", "whenScaled": "Retain"},
            },
        }
    )
    here.kubectl("rollout", "status", "statefulset/db", "--timeout=60s")
    for number in (0, 1):
        here.run(f"db-{number}", f"echo {number} >/data/me")
    first = here.get("pod", "db-0")["metadata"]["uid"]
    here.kubectl("delete", "pod", "db-0", "db-1")
    eventually(lambda: here.get("pod", "db-0")["metadata"]["uid"] != first)
    here.kubectl("rollout", "status", "statefulset/db", "--timeout=60s")
    for number in (0, 1):
        assert here.run(f"db-{number}", "cat /data/me") == f"{number}\n"
    volumes = [here.volume_of(f"data-db-{number}") for number in (0, 1)]
    here.kubectl("delete", "statefulset", "db")
    for volume in volumes:
        here.cluster.kubectl("wait", "--for=delete", f"pv/{volume['metadata']['name']}", "--timeout=60s")
        assert not Path(volume["spec"]["local"]["path"]).exists()


def test_an_ephemeral_volume_goes_with_its_pod(here: Here) -> None:
    template = {"spec": claim("x", "16Mi")["spec"]}
    volumes = [{"name": "data", "ephemeral": {"volumeClaimTemplate": template}}]
    made = pod("job", "", "echo done >/data/file; ls /data")
    made["spec"] |= {"volumes": volumes, "restartPolicy": "Never"}
    here.apply(made)
    eventually(lambda: here.get("pod", "job")["status"].get("phase") == "Succeeded")
    assert here.kubectl("logs", "job") == "file\n"
    name = here.volume_of("job-data")["metadata"]["name"]
    here.kubectl("delete", "pod", "job")
    here.cluster.kubectl("wait", "--for=delete", f"pv/{name}", "--timeout=60s")
