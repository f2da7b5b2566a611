"""Pods that show the files of their volumes: many behaviours share a pod, and all pods of a module run at once."""

from __future__ import annotations

import base64
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.cluster.conformance.objects import BUSYBOX
from tests.cluster.conftest import RunningCluster
from tests.cluster.waiting import eventually

# One line for each file below /v, links followed: path, permissions, content in base64.
SHOW = (
    r"find -L /v -path '*/..*' -prune -o -type f -print | while read -r file; do "
    r'echo "$file $(stat -L -c %A "$file") $(base64 -w0 "$file")"; done'
)


@dataclass(frozen=True)
class Shown:
    """A file as a container saw it: permissions as `ls` writes them, and content."""

    mode: str
    data: bytes


@dataclass(frozen=True)
class Case:
    """Volumes that a container of `user` mounts, and the files that it must find: path (below /v) -> mode, content.

    Cases of one `user` share a container, those of one `group` (the pod's fsGroup) a pod.
    """

    volumes: dict[str, dict[str, Any]]
    files: dict[str, Shown]
    user: int | None = None
    group: int | None = None


def text(content: str, mode: str = "-rw-r--r--") -> Shown:
    return Shown(mode, content.encode())


def config_map(name: str, **data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def secret(name: str, **data: str) -> dict[str, Any]:
    encoded = {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": encoded}


def container(name: str, script: str, mounts: dict[str, str], user: int | None = None, **fields: Any) -> dict[str, Any]:
    """A container that runs a script; `mounts` is volume name -> path."""
    made: dict[str, Any] = {
        "name": name,
        "image": BUSYBOX,
        "imagePullPolicy": "IfNotPresent",
        "command": ["sh", "-c", script],
        "volumeMounts": [{"name": volume, "mountPath": path} for volume, path in mounts.items()],
        **fields,
    }
    if user is not None:
        made["securityContext"] = {"runAsUser": user}
    return made


def pod(name: str, containers: list[dict[str, Any]], volumes: dict[str, dict[str, Any]], **spec: Any) -> dict[str, Any]:
    fixed = {"restartPolicy": "Never", "terminationGracePeriodSeconds": 0, "automountServiceAccountToken": False}
    listed = [{"name": key, **source} for key, source in volumes.items()]
    meta = {"name": name, "labels": {"app": name}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": meta,
        "spec": {**fixed, "containers": containers, "volumes": listed, **spec},
    }


def pods_for(cases: Sequence[Any]) -> list[dict[str, Any]]:
    """Returns the pods that show the volumes of all `Case`s."""
    made = []
    for group in sorted({case.group or 0 for case in cases}):
        inside = [case for case in cases if (case.group or 0) == group]
        containers = []
        for user in sorted({case.user or 0 for case in inside}):
            names = [name for case in inside if (case.user or 0) == user for name in case.volumes]
            containers.append(container(f"user-{user}", SHOW, {one: f"/v/{one}" for one in names}, user or None))
        volumes = {name: source for case in inside for name, source in case.volumes.items()}
        context = {"securityContext": {"fsGroup": group}} if group else {}
        made.append(pod(f"shows-{group}", containers, volumes, **context))
    return made


@dataclass
class Show:
    """A namespace with pods in it, and what their containers printed."""

    cluster: RunningCluster
    namespace: str
    logs: dict[tuple[str, str], str] = field(default_factory=dict)

    def log(self, pod: str, container: str) -> str:
        """Returns what a container printed, once its pod has succeeded."""
        key = pod, container
        if key not in self.logs:
            eventually(lambda: self.phase(pod) == "Succeeded", what=f"{pod} succeeds")
            self.logs[key] = self.cluster.kubectl("-n", self.namespace, "logs", pod, "-c", container)
        return self.logs[key]

    def phase(self, pod: str) -> str:
        phase = self.cluster.json("-n", self.namespace, "get", "pod", pod).get("status", {}).get("phase")
        assert phase != "Failed", self.cluster.kubectl("-n", self.namespace, "describe", "pod", pod)
        return str(phase)

    def files(self, case: Case) -> dict[str, Shown]:
        """Returns the files of a case's volumes, by path below /v."""
        found = {}
        for line in self.log(f"shows-{case.group or 0}", f"user-{case.user or 0}").splitlines():
            path, mode, *content = line.split(" ")
            name = path.removeprefix("/v/")
            if name.split("/")[0] in case.volumes:
                found[name] = Shown(mode, base64.b64decode(content[0] if content else ""))
        return found

    def read(self, pod: str, file: str) -> str:
        """Returns what a file of a running pod holds now, nothing if it is not there."""
        done = self.cluster.run("-n", self.namespace, "exec", pod, "--", "cat", file, check=False)
        return done.stdout if done.returncode == 0 else ""


@contextmanager
def show(cluster: RunningCluster, *manifests: dict[str, Any]) -> Iterator[Show]:
    """Makes objects in a namespace of their own, which goes at the end."""
    namespace = f"t-{uuid.uuid4().hex[:8]}"
    cluster.kubectl("create", "namespace", namespace)
    eventually(lambda: cluster.run("-n", namespace, "get", "serviceaccount", "default", check=False).returncode == 0)
    try:
        cluster.apply(*manifests, namespace=namespace)
        yield Show(cluster, namespace)
    finally:
        cluster.kubectl("delete", "namespace", namespace, "--wait=false")
