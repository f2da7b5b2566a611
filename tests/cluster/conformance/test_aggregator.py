"""An extension API server in a pod, registered as upstream's sample API server is: through Service and APIService."""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.conformance.conftest import JSON_PATCH, Api
from tests.cluster.conftest import RunningCluster
from tests.cluster.waiting import eventually
from tests.support import extension_server
from tests.support.extension import api_service, certificates, rights
from tests.support.extension_server import GROUP, VERSION

pytestmark = pytest.mark.cluster

BASE = f"/apis/{GROUP}/{VERSION}"
REGISTRATION = "/apis/apiregistration.k8s.io/v1/apiservices"
NAME = f"{VERSION}.{GROUP}"
SERVICE = "sample-api"
SERVICE_PORT = 7443
IMAGE = "docker.io/library/python:latest"


def flunder(name: str, namespace: str) -> dict[str, Any]:
    meta = {"name": name, "namespace": namespace, "labels": {"sample-label": "true"}}
    return {"apiVersion": f"{GROUP}/{VERSION}", "kind": "Flunder", "metadata": meta}


def deployment(namespace: str) -> dict[str, Any]:
    labels = {"app": "sample-apiserver", "apiserver": "true"}
    container = {
        "name": "sample-apiserver",
        "image": IMAGE,
        "imagePullPolicy": "Never",
        "command": ["python3", "/server/extension_server.py"],
        "volumeMounts": [
            {"name": "certificates", "mountPath": "/certificates", "readOnly": True},
            {"name": "server", "mountPath": "/server"},
        ],
    }
    volumes = [
        {"name": "certificates", "secret": {"secretName": "sample-apiserver-secret"}},
        {"name": "server", "configMap": {"name": "sample-apiserver"}},
    ]
    spec = {"terminationGracePeriodSeconds": 0, "containers": [container], "volumes": volumes}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "sample-apiserver-deployment", "namespace": namespace, "labels": labels},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": labels},
            "strategy": {"type": "RollingUpdate"},
            "template": {"metadata": {"labels": labels}, "spec": spec},
        },
    }


@pytest.fixture
def sample(cluster: RunningCluster, namespace: str, api: Api, tmp_path: Path) -> Iterator[str]:
    """Deploys and registers the server; returns its namespace."""
    pki = certificates(tmp_path, f"{SERVICE}.{namespace}.svc")
    pair = {"tls.crt": pki.certificate("extension"), "tls.key": pki.key("extension")}
    data = {name: base64.b64encode(file.read_bytes()).decode() for name, file in pair.items()}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "sample-apiserver-secret"}, "data": data}
    program = {"extension_server.py": Path(extension_server.__file__).read_text()}
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "sample-apiserver"}, "data": program}
    ports = [{"protocol": "TCP", "port": SERVICE_PORT, "targetPort": 443}]
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": SERVICE, "labels": {"test": "aggregator"}},
        "spec": {"selector": {"apiserver": "true"}, "ports": ports},
    }
    shared = rights("default", namespace)
    cluster.apply(secret, config, service, deployment(namespace), namespace=namespace)
    for one in shared:
        cluster.kubectl("apply", "-f", "-", input=json.dumps(one))
    cluster.kubectl("-n", namespace, "rollout", "status", "deployment/sample-apiserver-deployment", "--timeout=90s")
    registration = api_service(namespace, SERVICE, SERVICE_PORT, pki.certificate("ca").read_bytes())
    try:
        api.post(REGISTRATION, registration).ok()
        eventually(lambda: api.get(f"{BASE}/namespaces/default/flunders").status == 200)
        yield namespace
    finally:
        api.delete(f"{REGISTRATION}/{NAME}")
        for one in shared:
            cluster.run("delete", "--ignore-not-found", "-f", "-", input=json.dumps(one), check=False)


def conditions(found: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {one["type"]: one for one in found["status"].get("conditions") or ()}


@pytest.mark.behaviour(
    "[sig-api-machinery] Aggregator Should be able to support the 1.17 Sample API Server using the current Aggregator "
    "[LinuxOnly]"
)
def test_sample_api_server(cluster: RunningCluster, api: Api, sample: str) -> None:
    path = f"{BASE}/namespaces/default/flunders"
    name = f"rest-flunder-{uuid.uuid4().hex[:8]}"
    created = api.post(path, flunder(name, "default"))
    assert created.status == 201
    assert [one["metadata"]["name"] for one in api.get(path).ok()["items"]] == [name]
    api.delete(f"{path}/{name}").ok()
    assert api.get(path).ok()["items"] == []

    # As dynamic clients do: by what discovery says.
    resources = {one["name"]: one for one in api.get(BASE).ok()["resources"]}
    assert resources["flunders"]["namespaced"]
    listed = cluster.kubectl("api-resources", "--api-group", GROUP, "--namespaced", "-o", "name")
    assert f"flunders.{GROUP}" in listed
    cluster.kubectl("create", "-f", "-", input=json.dumps(flunder("dynamic-flunder", sample)))
    shown = cluster.kubectl("-n", sample, "get", "flunders", "-o", "name")
    assert shown.split() == [f"flunder.{GROUP}/dynamic-flunder"]
    if cluster.kubectl_version >= (1, 27):
        assert "refers to another object" in cluster.kubectl("explain", "flunder.spec")

    registration = api.get(f"{REGISTRATION}/{NAME}/status").ok()
    available = conditions(registration)["Available"]
    assert (available["status"], available["reason"], available["message"]) == ("True", "Passed", "all checks passed")
    cluster.kubectl("patch", "apiservice", NAME, "--type", "merge", "-p", '{"spec":{"versionPriority":400}}')
    found = {one["metadata"]["name"]: one for one in api.get(REGISTRATION).ok()["items"]}
    assert found[NAME]["spec"]["versionPriority"] == 400

    labels = [{"op": "add", "path": "/metadata/labels", "value": {"e2e-of": "patched"}}]
    patched = api.patch(f"{REGISTRATION}/{NAME}", json.dumps(labels), JSON_PATCH).ok()
    assert patched["metadata"]["labels"]["e2e-of"] == "patched"

    def update_status() -> Any:
        current = api.get(f"{REGISTRATION}/{NAME}").ok()
        mine = {"type": "StatusUpdated", "status": "True", "reason": "E2E", "message": "Set by an e2e test"}
        current["status"]["conditions"] = [*current["status"]["conditions"], mine]
        return api.put(f"{REGISTRATION}/{NAME}/status", current).status == 200

    eventually(update_status)
    assert conditions(api.get(f"{REGISTRATION}/{NAME}/status").ok())["StatusUpdated"]["reason"] == "E2E"

    def replace() -> Any:
        current = api.get(f"{REGISTRATION}/{NAME}").ok()
        current["metadata"]["labels"] = {NAME: "updated"}
        return api.put(f"{REGISTRATION}/{NAME}", current).status == 200

    eventually(replace)
    cluster.kubectl("-n", sample, "delete", "flunder", "dynamic-flunder")
    assert api.get(f"{BASE}/namespaces/{sample}/flunders").ok()["items"] == []
    api.post(f"{BASE}/namespaces/{sample}/flunders", flunder("test-flunder", sample)).ok()
    api.delete(f"{BASE}/namespaces/{sample}/flunders").ok()
    assert api.get(f"{BASE}/namespaces/{sample}/flunders").ok()["items"] == []

    api.delete(f"{REGISTRATION}?labelSelector={NAME}%3Dupdated").ok()
    assert NAME not in [one["metadata"]["name"] for one in api.get(REGISTRATION).ok()["items"]]
    eventually(lambda: api.get(path).status == 404)


def test_it_comes_and_goes_with_its_pods(cluster: RunningCluster, api: Api, sample: str) -> None:
    path = f"{BASE}/namespaces/{sample}/flunders"
    since = api.get(path).ok()["metadata"]["resourceVersion"]
    with api.watch(f"{path}?resourceVersion={since}") as events:
        api.post(path, flunder("watched", sample)).ok()
        assert next(events)["object"]["metadata"]["name"] == "watched"
    scale = ("-n", sample, "scale", "deployment/sample-apiserver-deployment")
    cluster.kubectl(*scale, "--replicas=0")

    def available() -> dict[str, Any]:
        return conditions(api.get(f"{REGISTRATION}/{NAME}").ok())["Available"]

    eventually(lambda: available()["reason"] in ("MissingEndpoints", "EndpointsNotFound"))
    eventually(lambda: api.get(path).status == 503)
    assert "False (" in cluster.kubectl("get", "apiservice", NAME)
    cluster.kubectl(*scale, "--replicas=2")
    eventually(lambda: available()["reason"] == "Passed")
    eventually(lambda: api.get(path).status == 200)


def test_usage_of_nodes_and_pods(cluster: RunningCluster, namespace: str, api: Api) -> None:
    meta = {"name": "busy", "namespace": namespace, "labels": {"app": "busy"}}
    command = ["sh", "-c", "while true; do :; done"]
    limits = {"limits": {"cpu": "200m", "memory": "32Mi"}}
    container = {"name": "main", "image": "docker.io/library/busybox:latest", "command": command, "resources": limits}
    spec = {"terminationGracePeriodSeconds": 0, "containers": [{**container, "imagePullPolicy": "Never"}]}
    cluster.apply({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec}, namespace=namespace)
    cluster.kubectl("-n", namespace, "wait", "--for=condition=Ready", "pod/busy", "--timeout=60s")

    def is_busy() -> bool:
        lines = cluster.run("-n", namespace, "top", "pods", "-l", "app=busy", "--no-headers", check=False).stdout
        return lines.startswith("busy") and int(lines.split()[1].removesuffix("m")) > 20

    eventually(is_busy)
    listed = cluster.kubectl("-n", namespace, "top", "pods", "--containers", "--no-headers").split()
    assert listed[:2] == ["busy", "main"]
    nodes = [one.split() for one in cluster.kubectl("top", "nodes", "--no-headers").splitlines()]
    assert nodes
    assert all(int(one[1].removesuffix("m")) > 0 and one[3].endswith("Mi") for one in nodes)
    found = api.get(f"/apis/metrics.k8s.io/v1beta1/namespaces/{namespace}/pods/busy").ok()
    assert found["containers"][0]["name"] == "main"
    assert found["window"].endswith("s")
