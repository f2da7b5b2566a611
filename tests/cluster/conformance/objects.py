"""The small objects that the conformance tests make, and the paths of what they look at."""

from __future__ import annotations

from typing import Any

BUSYBOX = "docker.io/library/busybox:latest"
NGINX = "docker.io/library/nginx:latest"
# No node has this label: pods that want it stay Pending, which is all that some tests need.
NOWHERE = {"conformance.example.com/nowhere": "true"}


def core(namespace: str, plural: str, name: str = "") -> str:
    """The path of a collection, or of one object, of the core group."""
    return f"/api/v1/namespaces/{namespace}/{plural}" + (f"/{name}" if name else "")


def apps(namespace: str, plural: str, name: str = "") -> str:
    """As `core`, in the group apps."""
    return f"/apis/apps/v1/namespaces/{namespace}/{plural}" + (f"/{name}" if name else "")


def config_map(name: str, labels: dict[str, str] | None = None, **data: str) -> dict[str, Any]:
    made: dict[str, Any] = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}}
    if labels:
        made["metadata"]["labels"] = labels
    return made | ({"data": data} if data else {})


def pod(name: str, *command: str, labels: dict[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    """A pod of one busybox container named `main`; without a command it sleeps."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": labels or {"app": name}},
        "spec": pod_spec(*command, **spec),
    }


def pod_spec(*command: str, **spec: Any) -> dict[str, Any]:
    container = {"name": "main", "image": BUSYBOX, "imagePullPolicy": "IfNotPresent"}
    container["command"] = command or ("sleep", "3600")  # type: ignore[assignment]
    return {"terminationGracePeriodSeconds": 0, "containers": [container], **spec}


def replication_controller(name: str, replicas: int, **spec: Any) -> dict[str, Any]:
    """Its pods have the label `name`."""
    return {
        "apiVersion": "v1",
        "kind": "ReplicationController",
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"name": name},
            "template": {"metadata": {"labels": {"name": name}}, "spec": pod_spec(**spec)},
        },
    }


def workload(kind: str, name: str, replicas: int, **spec: Any) -> dict[str, Any]:
    """A Deployment or ReplicaSet whose pods have the label `name`."""
    return {
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"name": name}},
            "template": {"metadata": {"labels": {"name": name}}, "spec": pod_spec(**spec)},
        },
    }


def condition(obj: dict[str, Any], type: str) -> dict[str, Any]:
    """Returns a condition of an object's status, empty if it has none of that type."""
    listed = (obj.get("status") or {}).get("conditions") or []
    return next((one for one in listed if one["type"] == type), {})


def is_ready(obj: dict[str, Any]) -> bool:
    return condition(obj, "Ready").get("status") == "True"
