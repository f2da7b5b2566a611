"""What the workload behaviours share: a whole cluster in virtual time, objects to make, and questions to ask of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from proa.client.interface import MERGE_PATCH, Client
from proa.meta.objects import Obj, controller_of
from proa.testing import Cluster, Life

APIS = {
    "Deployment": "apps/v1",
    "ReplicaSet": "apps/v1",
    "StatefulSet": "apps/v1",
    "DaemonSet": "apps/v1",
    "ControllerRevision": "apps/v1",
    "ReplicationController": "v1",
    "Job": "batch/v1",
    "CronJob": "batch/v1",
    "PodDisruptionBudget": "policy/v1",
}


def made(kind: str, name: str, spec: Any = None, **metadata: Any) -> Obj:
    """Returns an object of a workload kind."""
    obj: Obj = {"apiVersion": APIS[kind], "kind": kind, "metadata": {"name": name, **metadata}}
    return obj if spec is None else {**obj, "spec": spec}


def template(labels: dict[str, str] | None = None, image: str = "httpd", **spec: Any) -> Obj:
    """Returns a pod template with one container `c`."""
    whole = {"containers": [{"name": "c", "image": image}], "terminationGracePeriodSeconds": 0, **spec}
    return {"metadata": {"labels": labels or {}}, "spec": whole}


def workload(kind: str, name: str, replicas: int, labels: dict[str, str], image: str = "httpd", **spec: Any) -> Obj:
    """Returns a Deployment, ReplicaSet, StatefulSet or (with its plain selector) ReplicationController."""
    selector: Obj = labels if kind == "ReplicationController" else {"matchLabels": labels}
    whole: Obj = {"replicas": replicas, "selector": selector, "template": template(labels, image), **spec}
    if kind == "StatefulSet":
        whole.setdefault("serviceName", "test")
    return made(kind, name, whole, labels=labels)


def pod(name: str, labels: dict[str, str]) -> Obj:
    spec = template()["spec"]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels}, "spec": spec}


class Crashed(Exception):
    """What a controller gets that is to be thought of as dead."""


class Crash:
    """A client whose user dies right after its `writes`-th write."""

    def __init__(self, client: Client, writes: int) -> None:
        self._client = client
        self._left = writes
        self.happened = False

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._client, name)
        if name not in ("create", "update", "patch", "delete", "delete_collection"):
            return found

        async def write(*arguments: Any, **options: Any) -> Any:
            if self.happened:
                raise Crashed
            result = await found(*arguments, **options)
            self._left -= 1
            if self._left <= 0:
                self.happened = True
                raise Crashed
            return result

        return write


class World(Cluster):
    """A cluster of two simulated nodes and ways to ask for what is in the namespace `default`."""

    def __init__(self, lives: Sequence[Life] = (), nodes: int = 2) -> None:
        super().__init__(nodes=nodes, lives=lives)

    def pods(self, selector: str = "") -> list[Obj]:
        """Returns the pods that are not being deleted, by name."""
        found = self.list("pods", "default", label_selector=selector)
        return [one for one in found if "deletionTimestamp" not in one["metadata"]]

    def running(self, selector: str = "") -> list[Obj]:
        return [one for one in self.pods(selector) if one["status"].get("phase") == "Running"]

    def controlled(self, resource: str, owner: Obj) -> list[Obj]:
        """Returns the objects whose controller is `owner`."""
        uid = owner["metadata"]["uid"]
        return [one for one in self.list(resource, "default") if (controller_of(one) or {}).get("uid") == uid]

    def status(self, resource: str, name: str) -> Obj:
        found: Obj = self.get(resource, name).get("status") or {}
        return found

    def condition(self, resource: str, name: str, type: str) -> Obj:
        """Returns a condition that is True, else an empty one."""
        conditions = self.status(resource, name).get("conditions") or ()
        return next((one for one in conditions if one["type"] == type and one["status"] == "True"), {})

    def until(self, condition: Callable[[], Any], seconds_max: float = 300, what: str = "") -> Any:
        return self.wait(condition, seconds_max, what)

    def complete(self, name: str) -> Obj:
        """Waits for a Deployment's rollout to end; returns it."""

        def done() -> Obj | None:
            found = self.get("deployments", name)
            status, replicas = found.get("status") or {}, found["spec"]["replicas"]
            counts = [status.get(key, 0) for key in ("replicas", "updatedReplicas", "availableReplicas")]
            current = status.get("observedGeneration", 0) >= found["metadata"]["generation"]
            return found if current and counts == [replicas] * 3 else None

        found: Obj = self.until(done, what=f"deployment {name} complete")
        return found

    def lives_of_broken_images(self) -> None:
        """From now on, pods whose image is `foo:non-existent` never start."""
        self.simulated.lives.insert(0, _BROKEN)

    def crash_after(self, name: str, writes: int) -> Crash:
        """Makes a controller die after so many writes of its own (its events do not count)."""
        controller = self._controller(name)
        crash = Crash(controller.client, writes)
        for owner in (controller, getattr(controller, "_claimer", None)):
            for attribute in ("client", "_client"):
                if hasattr(owner, attribute):
                    setattr(owner, attribute, crash)
        return crash

    def restart(self, name: str) -> None:
        """Ends a controller and starts another that knows nothing of what the first had in mind."""
        old = self._controller(name)
        self.run(old.stop())
        new = type(old)(old.context)
        self.manager.controllers[self.manager.controllers.index(old)] = new
        self.run(new.start())

    def _controller(self, name: str) -> Any:
        return next(one for one in self.manager.controllers if getattr(one, "name", "") == name)

    def ready(self, resource: str, name: str, count: int) -> Obj:
        """Waits until so many replicas are ready; returns the object."""
        self.until(lambda: self.status(resource, name).get("readyReplicas", 0) == count, what=f"{count} ready")
        return self.get(resource, name)


class _Broken(Life):
    def matches(self, pod: Obj) -> bool:
        return any(one["image"] == "foo:non-existent" for one in pod["spec"]["containers"])


_BROKEN = _Broken(stuck_reason="ErrImagePull")


def check_scale(world: World, resource: str, name: str, before: int, after: int) -> None:
    """Reads, replaces and patches the scale of a workload that has `before` replicas."""
    scale = world.get(resource, name, subresource="scale")
    assert scale["spec"]["replicas"] == before and scale["status"]["replicas"] == before
    assert world.scale(resource, name, after)["spec"]["replicas"] == after
    assert world.get(resource, name)["spec"]["replicas"] == after
    patched = world.patch(resource, name, {"spec": {"replicas": after + 2}}, subresource="scale")
    assert patched["spec"]["replicas"] == after + 2
    assert world.get(resource, name)["spec"]["replicas"] == after + 2
    world.ready(resource, name, after + 2)


def check_status_endpoints(world: World, resource: str, name: str) -> None:
    """Reads, replaces and patches the status of a workload; each change can be read again afterwards."""
    read = world.get(resource, name, subresource="status")
    condition = {"type": "StatusUpdate", "status": "True", "reason": "E2E", "message": "Set from e2e test"}
    conditions = [*(read["status"].get("conditions") or ()), condition]
    updated = world.update({**read, "status": {**read["status"], "conditions": conditions}}, "status")
    assert condition.items() <= updated["status"]["conditions"][-1].items()
    patch: Obj = {"status": {"conditions": [{"type": "StatusPatched", "status": "True"}]}}
    patched = world.patch(resource, name, patch, subresource="status", patch_type=MERGE_PATCH)
    assert [one["type"] for one in patched["status"]["conditions"]] == ["StatusPatched"]
    assert world.condition(resource, name, "StatusPatched"), "the controller leaves it alone"
