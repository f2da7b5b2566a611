"""Many pods at once: what a module's tests look at is all created first, and each test waits for its own part.

A module has one `fleet` fixture that posts everything; that the pods start side by side is what makes the tests cheap.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.cluster.conformance.conftest import Api
from tests.cluster.conformance.objects import BUSYBOX, core, is_ready
from tests.cluster.conftest import RunningCluster
from tests.cluster.waiting import eventually

PYTHON = "docker.io/library/python:latest"
PLURALS = {"Pod": "pods", "ConfigMap": "configmaps", "Secret": "secrets", "Service": "services"}
SECONDS_MAX = 120.0
Obj = dict[str, Any]


def container(name: str, *command: str, image: str = BUSYBOX, **fields: Any) -> Obj:
    """A container of busybox; without a command it sleeps."""
    given = list(command) or ["sleep", "3600"]
    return {"name": name, "image": image, "imagePullPolicy": "IfNotPresent", "command": given, **fields}


def pod_of(name: str, *containers: Obj, **spec: Any) -> Obj:
    """A pod of these containers, which are not restarted unless the spec says so."""
    fields = {"restartPolicy": "Never", "terminationGracePeriodSeconds": 0, **spec}
    meta = {"name": name, "labels": {"name": name}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": {"containers": list(containers), **fields}}


def shell(name: str, script: str, *, image: str = BUSYBOX, pod: Obj | None = None, **fields: Any) -> Obj:
    """A pod whose one container, `main`, runs a shell script; `fields` are the container's, `pod` the pod's."""
    return pod_of(name, container("main", "sh", "-c", script, image=image, **fields), **(pod or {}))


SERVER_FILES = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "metadata": {"name": "server"},
    "data": {"pod_server.py": Path(__file__).with_name("pod_server.py").read_text()},
}


def server(name: str, *arguments: str, pod: Obj | None = None, **fields: Any) -> Obj:
    """A pod that runs `pod_server.py` with these arguments; the namespace needs SERVER_FILES."""
    mounts = [{"name": "files", "mountPath": "/server"}]
    command = ("python3", "/server/pod_server.py", *arguments)
    made = container("main", *command, image=PYTHON, volumeMounts=mounts, **fields)
    volumes = [{"name": "files", "configMap": {"name": "server"}}]
    return pod_of(name, made, **{"volumes": volumes, "restartPolicy": "Always", **(pod or {})})


class Fleet:
    """The objects of one namespace."""

    def __init__(self, cluster: RunningCluster, api: Api, namespace: str) -> None:
        self.cluster, self.api, self.namespace = cluster, api, namespace

    def path(self, name: str, plural: str = "pods") -> str:
        return core(self.namespace, plural, name)

    def create(self, *objects: Obj) -> None:
        """Creates objects of the core group side by side, in the order of kinds that they need."""

        def post(one: Obj) -> None:
            self.api.post(core(self.namespace, PLURALS[one["kind"]]), one).ok()

        with ThreadPoolExecutor(8) as workers:
            list(workers.map(post, (one for one in objects if one["kind"] != "Pod")))
            list(workers.map(post, (one for one in objects if one["kind"] == "Pod")))

    def get(self, name: str) -> Obj:
        return dict(self.api.get(self.path(name)).ok())

    def status(self, name: str) -> Obj:
        return dict(self.get(name).get("status") or {})

    def container(self, name: str, container: str = "main") -> Obj:
        """The status of a container of any kind; empty if there is none yet."""
        status = self.status(name)
        kinds = ("containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses")
        every = [one for kind in kinds for one in status.get(kind) or []]
        return next((one for one in every if one["name"] == container), {})

    def until(self, name: str, holds: Callable[[Obj], Any], seconds_max: float = SECONDS_MAX, what: str = "") -> Obj:
        """Waits until something holds of the pod, and returns the pod; fails with its status."""
        last: Obj = {}

        def check() -> Obj | None:
            last.update(self.get(name))
            return last if holds(last) else None

        try:
            return eventually(check, seconds_max)
        except AssertionError:
            raise AssertionError(f"pod {name}: {what}: {last.get('status')}") from None

    def phase(self, name: str, *phases: str, seconds_max: float = SECONDS_MAX) -> Obj:
        """Waits until the pod is in one of these phases; returns the pod."""
        return self.until(name, lambda pod: pod["status"].get("phase") in phases, seconds_max, f"not {phases}")

    def ready(self, name: str) -> Obj:
        return self.until(name, is_ready, what="not ready")

    def logs(self, name: str, container: str = "main") -> str:
        reply = self.api.get(f"{self.path(name)}/log?container={container}")
        return reply.body.decode() if reply.status == 200 else ""

    def output(self, name: str, container: str = "main") -> str:
        """What a pod that runs to its end printed; it must succeed."""
        ended = self.phase(name, "Succeeded", "Failed")
        said = self.logs(name, container)
        assert ended["status"]["phase"] == "Succeeded", (ended["status"], said)
        return said

    def run(self, name: str, script: str, container: str = "main") -> str:
        """Runs a shell script in a container; returns what it printed."""
        return self.execute(name, "sh", "-c", script, container=container)

    def execute(self, name: str, *command: str, container: str = "main") -> str:
        """Runs a command in a container; returns what it printed."""
        return self.cluster.kubectl("-n", self.namespace, "exec", name, "-c", container, "--", *command)

    def delete(self, name: str, **options: Any) -> None:
        """Deletes the pod and waits until it is gone."""
        self.api.delete(self.path(name), options or None).ok()
        self.gone(name)

    def gone(self, name: str) -> None:
        eventually(lambda: self.api.get(self.path(name)).status == 404, SECONDS_MAX, what=f"pod {name} is gone")

    def events(self, name: str) -> list[Obj]:
        selector = f"?fieldSelector=involvedObject.name%3D{name}"
        return list(self.api.get(core(self.namespace, "events") + selector).ok()["items"])


@contextmanager
def launched(cluster: RunningCluster, api: Api, *objects: Obj) -> Iterator[Fleet]:
    """A namespace with these objects, gone afterwards."""
    namespace = f"t-{uuid.uuid4().hex[:8]}"
    api.post("/api/v1/namespaces", {"metadata": {"name": namespace}}).ok()
    try:
        eventually(lambda: api.get(core(namespace, "serviceaccounts", "default")).status == 200)
        fleet = Fleet(cluster, api, namespace)
        fleet.create(*objects)
        yield fleet
    finally:
        api.delete(f"/api/v1/namespaces/{namespace}")
