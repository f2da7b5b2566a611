"""Software that lives on custom resources, unmodified: a kopf operator, the Python client's dynamic client, kubectl."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.conftest import RunningCluster
from tests.cluster.waiting import eventually

pytestmark = pytest.mark.cluster


def definition(group: str) -> dict[str, Any]:
    """Databases: with status and scale, a printer column, a default."""
    spec = {
        "type": "object",
        "required": ["engine"],
        "properties": {
            "engine": {"type": "string", "enum": ["postgres", "mysql"]},
            "replicas": {"type": "integer", "default": 1, "minimum": 0},
            "storage": {"x-kubernetes-int-or-string": True},
        },
    }
    status = {
        "type": "object",
        "properties": {
            "phase": {"type": "string"},
            "replicas": {"type": "integer"},
            "selector": {"type": "string"},
            "kopf": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
        },
        "x-kubernetes-preserve-unknown-fields": True,
    }
    version = {
        "name": "v1",
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": spec, "status": status}}},
        "subresources": {
            "status": {},
            "scale": {
                "specReplicasPath": ".spec.replicas",
                "statusReplicasPath": ".status.replicas",
                "labelSelectorPath": ".status.selector",
            },
        },
        "additionalPrinterColumns": [{"name": "Phase", "type": "string", "jsonPath": ".status.phase"}],
    }
    names = {"plural": "databases", "singular": "database", "kind": "Database", "shortNames": ["db"]}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"databases.{group}"},
        "spec": {"group": group, "scope": "Namespaced", "names": names, "versions": [version]},
    }


@pytest.fixture
def group(cluster: RunningCluster) -> Iterator[str]:
    """The group of a definition that is there for one test."""
    name = f"g{uuid.uuid4().hex[:6]}.example.com"
    cluster.apply(definition(name))
    cluster.kubectl("wait", "--for=condition=Established", "crd", f"databases.{name}", "--timeout=30s")
    yield name
    cluster.kubectl("delete", "crd", f"databases.{name}", "--ignore-not-found", "--timeout=60s")


def database(group: str, name: str = "main", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": f"{group}/v1",
        "kind": "Database",
        "metadata": {"name": name},
        "spec": {"engine": "postgres", **spec},
    }


# ---------------------------------------------------------------- kopf

OPERATOR = """
import kopf
from kubernetes import client, config

config.load_kube_config()

@kopf.on.startup()
def configure(settings, **_):
    settings.persistence.finalizer = "GROUP/held"
    settings.posting.enabled = False

@kopf.on.create("GROUP", "v1", "databases")
def created(name, namespace, spec, body, patch, **_):
    owned = {"metadata": {"name": name + "-config"}, "data": {"engine": spec["engine"]}}
    kopf.adopt(owned, owner=body)
    client.CoreV1Api().create_namespaced_config_map(namespace, owned)
    patch.status["phase"] = "Ready"
    return {"made": name + "-config"}

@kopf.on.field("GROUP", "v1", "databases", field="spec.replicas")
def scaled(new, patch, **_):
    patch.status["replicas"] = new
    patch.status["selector"] = "app=database"

@kopf.on.delete("GROUP", "v1", "databases")
def deleted(name, namespace, **_):
    body = {"metadata": {"name": name + "-epitaph"}}
    client.CoreV1Api().create_namespaced_config_map(namespace, body)
"""


@contextmanager
def operator(cluster: RunningCluster, namespace: str, script: Path, log: Path) -> Iterator[None]:
    with log.open("w") as output:
        running = subprocess.Popen(
            [str(Path(sys.executable).with_name("kopf")), "run", "--namespace", namespace, str(script)],
            env={**os.environ, "KUBECONFIG": str(cluster.kubeconfig)},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        yield
    finally:
        running.terminate()
        running.wait(20)


def test_kopf_operator_of_a_custom_resource(
    cluster: RunningCluster, namespace: str, group: str, tmp_path: Path
) -> None:
    script, log = tmp_path / "operator.py", tmp_path / "log"
    script.write_text(OPERATOR.replace("GROUP", group))
    resource = f"databases.{group}"
    with operator(cluster, namespace, script, log):
        cluster.apply(database(group, replicas=2), namespace=namespace)

        def ready() -> bool:
            found = cluster.json("-n", namespace, "get", resource, "main")
            status = found.get("status") or {}
            return (
                status.get("phase") == "Ready"
                and status.get("created") == {"made": "main-config"}
                and status.get("replicas") == 2
                and found["metadata"].get("finalizers") == [f"{group}/held"]
            )

        eventually(ready, what=log.read_text())
        assert cluster.kubectl("-n", namespace, "get", "db").split()[:4] == ["NAME", "PHASE", "main", "Ready"]
        cluster.kubectl("-n", namespace, "scale", resource, "main", "--replicas=5")
        eventually(
            lambda: cluster.json("-n", namespace, "get", resource, "main")["status"].get("replicas") == 5,
            what=log.read_text(),
        )
        generation = cluster.json("-n", namespace, "get", resource, "main")["metadata"]["generation"]
        assert generation == 2, "writes of the status do not count"
        cluster.kubectl("-n", namespace, "delete", resource, "main", "--timeout=30s")
        assert cluster.json("-n", namespace, "get", "configmap", "main-epitaph")["metadata"]["name"]
        gone = ("-n", namespace, "get", "configmap", "main-config")
        eventually(lambda: cluster.run(*gone, check=False).returncode != 0, what="what it owned is collected")


# ---------------------------------------------------------------- the Python client


def test_dynamic_client(cluster: RunningCluster, namespace: str, group: str) -> None:
    from kubernetes import config
    from kubernetes.dynamic import DynamicClient
    from kubernetes.dynamic.exceptions import ConflictError, NotFoundError, UnprocessibleEntityError

    client = DynamicClient(config.new_client_from_config(str(cluster.kubeconfig)))
    databases = client.resources.get(api_version=f"{group}/v1", kind="Database")
    assert databases.namespaced
    assert set(databases.subresources) == {"status", "scale"}
    seen: list[tuple[str, str | None]] = []

    def follow() -> None:
        for event in databases.watch(namespace=namespace, timeout=20):
            seen.append((event["type"], (event["object"].status or {}).get("phase")))
            if event["type"] == "DELETED":
                return

    watching = threading.Thread(target=follow)
    watching.start()
    made = databases.create(body=database(group, storage="1Gi"), namespace=namespace)
    assert (made.spec.replicas, made.spec.storage) == (1, "1Gi")
    eventually(lambda: seen)
    with pytest.raises(ConflictError):
        databases.create(body=database(group), namespace=namespace)
    with pytest.raises(UnprocessibleEntityError):
        databases.create(body=database(group, name="bad", engine="dbase"), namespace=namespace)
    stale = made.to_dict()
    patched = databases.patch(
        name="main",
        namespace=namespace,
        body={"spec": {"storage": 3}},
        content_type="application/merge-patch+json",
    )
    assert patched.spec.storage == 3
    with pytest.raises(ConflictError):
        databases.replace(body=stale, namespace=namespace)
    current = databases.get(name="main", namespace=namespace).to_dict()
    current["status"] = {"phase": "Up"}
    assert databases.status.replace(body=current, namespace=namespace).status.phase == "Up"
    version = databases.get(name="main", namespace=namespace).metadata.resourceVersion
    changed = {**current, "status": {"phase": "Down"}, "metadata": {"name": "main", "resourceVersion": version}}
    kept = databases.replace(body=changed, namespace=namespace)
    assert kept.status.phase == "Up", "the status is its subresource's"
    scale = databases.scale.get(name="main", namespace=namespace)
    assert (scale.kind, scale.spec.replicas) == ("Scale", 1)
    applied = databases.server_side_apply(
        body={"apiVersion": f"{group}/v1", "kind": "Database", "metadata": {"name": "main"}, "spec": {"replicas": 4}},
        name="main",
        namespace=namespace,
        field_manager="test",
        force_conflicts=True,
    )
    assert applied.spec.replicas == 4
    assert [one.metadata.name for one in databases.get(namespace=namespace).items] == ["main"]
    databases.delete(name="main", namespace=namespace)
    watching.join(30)
    assert seen[0] == ("ADDED", None)
    assert seen[-1] == ("DELETED", "Up")
    with pytest.raises(NotFoundError):
        databases.get(name="main", namespace=namespace)


# ---------------------------------------------------------------- kubectl, namespaces


def test_objects_go_with_their_namespace(cluster: RunningCluster, group: str) -> None:
    name = f"t-{uuid.uuid4().hex[:6]}"
    cluster.kubectl("create", "namespace", name)
    cluster.apply(database(group), database(group, "other"), namespace=name)
    cluster.kubectl("delete", "namespace", name, "--timeout=60s")
    assert cluster.json("get", f"databases.{group}", "-A")["items"] == []


def test_a_definition_of_a_megabyte(cluster: RunningCluster, namespace: str, group: str) -> None:
    found = cluster.json("get", "crd", f"databases.{group}")
    spec = found["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    for number in range(4000):
        spec["properties"][f"field{number}"] = {"type": "string", "description": "x" * 200}
    for key in ("managedFields", "annotations"):
        found["metadata"].pop(key, None)
    cluster.kubectl("replace", "-f", "-", input=json.dumps(found))
    cluster.kubectl(
        "-n", namespace, "apply", "--server-side", "-f", "-", input=json.dumps(database(group, field3999="y"))
    )
    assert "field3999" in cluster.kubectl("explain", "databases.spec")
    bad = cluster.run("-n", namespace, "create", "-f", "-", input=json.dumps(database(group, "b", nope=1)), check=False)
    # kubectl before 1.25 checks by itself, with words of its own.
    assert 'unknown field "spec.nope"' in bad.stderr or 'unknown field "nope"' in bad.stderr
