"""Carries out the steps of rollouts."""

from __future__ import annotations

from collections.abc import Iterable

from proa.client.resources import DEPLOYMENTS, PODS, REPLICASETS
from proa.controllers.deployment import progress
from proa.controllers.deployment.plan import Change, plan
from proa.controllers.deployment.sets import KIND, REVISION, comparable, replicas
from proa.controllers.ownership import CONTROLLER_INDEX, Claimer, by_controller
from proa.controllers.runtime import Context, Controller, Result, ignore_absent
from proa.meta.errors import StatusError
from proa.meta.objects import (
    Obj,
    annotations_of,
    controller_of,
    is_deleted,
    key_of,
    labels_of,
    name_of,
    namespace_of,
    split_key,
    uid_of,
)
from proa.meta.selectors import from_object


class DeploymentController(Controller):
    name = "deployment-controller"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._deployments = self.watch(DEPLOYMENTS)
        self._sets = self.watch(REPLICASETS, self._keys_of_set)
        self._sets.add_index(CONTROLLER_INDEX, by_controller)
        self._pods = self.watch(PODS, self._keys_of_pod)
        self._pods.add_index(CONTROLLER_INDEX, by_controller)
        self._claimer = Claimer(self.client, DEPLOYMENTS, KIND)

    def _keys_of_set(self, replica_set: Obj) -> Iterable[str]:
        reference = controller_of(replica_set)
        if reference is not None:
            if reference.get("kind") == KIND.kind:
                yield f"{namespace_of(replica_set)}/{reference['name']}"
            return
        for deployment in self._deployments.objects(namespace_of(replica_set)):
            if from_object(deployment["spec"].get("selector")).matches(labels_of(replica_set)):
                yield key_of(deployment)

    def _keys_of_pod(self, pod: Obj) -> Iterable[str]:
        """A pod matters by itself only when Recreate waits for the last one to go."""
        reference = controller_of(pod)
        if reference is None or reference.get("kind") != "ReplicaSet":
            return
        replica_set = self._sets.get(reference["name"], namespace_of(pod))
        owner = controller_of(replica_set) if replica_set is not None else None
        if owner is None:
            return
        deployment = self._deployments.get(owner["name"], namespace_of(pod))
        if deployment and (deployment["spec"].get("strategy") or {}).get("type") == "Recreate":
            yield key_of(deployment)

    async def reconcile(self, key: str) -> Result | None:
        namespace, name = split_key(key)
        deployment = self._deployments.get(name, namespace)
        if deployment is None:
            return None
        selector = from_object(deployment["spec"].get("selector"))
        if selector.empty:
            self.events.event(
                deployment,
                "Warning",
                "SelectingAll",
                "This deployment is selecting all pods. A non-empty selector is required.",
            )
            return None
        candidates = self._sets.indexed(CONTROLLER_INDEX, uid_of(deployment))
        if not is_deleted(deployment):
            candidates += self._sets.indexed(CONTROLLER_INDEX, f"orphan/{namespace}")
            conditions = progress.resumed(deployment, self.clock.now())
            if conditions is not None:
                deployment = await self._write_status(
                    deployment, {**(deployment.get("status") or {}), "conditions": conditions}
                )
        sets = await self._claimer.claim(deployment, selector, REPLICASETS, candidates)
        pods = {uid_of(one): self._pods.indexed(CONTROLLER_INDEX, uid_of(one)) for one in sets}
        step = plan(deployment, sets, pods, self.clock.now())
        status = step.status
        if step.create is not None:
            status = await self._create(deployment, step.create)
        for change in step.changes:
            await self._change(deployment, change)
        for replica_set in step.delete:
            await ignore_absent(self.client.delete(REPLICASETS, name_of(replica_set), namespace))
        if status is not None or step.revision is not None:
            await ignore_absent(self._write_status(deployment, status, step.revision))
        return Result(step.recheck_seconds)

    async def _write_status(self, deployment: Obj, status: Obj | None, revision: str | None = None) -> Obj:
        """Writes the status, the revision annotation with it: by way of the status it does not count as a change."""
        current = self._deployments.get(name_of(deployment), namespace_of(deployment)) or deployment
        updated = dict(current)
        if status is not None:
            updated["status"] = status
        if revision is not None:
            annotations = {**annotations_of(current), REVISION: revision}
            updated["metadata"] = {**current["metadata"], "annotations": annotations}
        return await self.client.update(DEPLOYMENTS, updated, subresource="status")

    async def _create(self, deployment: Obj, replica_set: Obj) -> Obj:
        """Makes the new replica set; returns the status to write."""
        now = self.clock.now()
        name = name_of(replica_set)
        status = deployment.get("status") or {}
        try:
            await self.client.create(REPLICASETS, replica_set, namespace_of(deployment))
        except StatusError as error:
            if error.reason == "AlreadyExists":
                return await self._collided(deployment, replica_set)
            text = f'Failed to create new replica set "{name}": {error}'
            conditions = progress.created(deployment, name, text, now)
            await self._write_status(deployment, {**status, "conditions": conditions})
            self.events.event(deployment, "Warning", "ReplicaSetCreateError", text)
            raise
        size = replicas(replica_set)
        if size > 0:
            self.events.event(
                deployment, "Normal", "ScalingReplicaSet", f"Scaled up replica set {name} from 0 to {size}"
            )
        return {**status, "conditions": progress.created(deployment, name, "", now)}

    async def _collided(self, deployment: Obj, wanted: Obj) -> Obj:
        """The name is taken: by our own set that the cache has not shown yet, or by another template's hash."""
        live = await self.client.get(REPLICASETS, name_of(wanted), namespace_of(wanted))
        owner = controller_of(live)
        same = comparable(live["spec"]["template"]) == comparable(wanted["spec"]["template"])
        if owner is not None and owner.get("uid") == uid_of(deployment) and same:
            raise StatusError(409, "Conflict", "the cache has not caught up with the new replica set")
        status = deployment.get("status") or {}
        count = (status.get("collisionCount") or 0) + 1
        return {**status, "collisionCount": count}

    async def _change(self, deployment: Obj, change: Change) -> None:
        replica_set = change.replica_set
        spec = {**replica_set["spec"], "replicas": change.size}
        if change.min_ready_seconds or "minReadySeconds" in spec:
            spec["minReadySeconds"] = change.min_ready_seconds
        meta = {**replica_set["metadata"], "annotations": {**annotations_of(replica_set), **change.annotations}}
        await self.client.update(REPLICASETS, {**replica_set, "metadata": meta, "spec": spec})
        if change.scales:
            before = replicas(replica_set)
            direction = "up" if change.size > before else "down"
            self.events.event(
                deployment,
                "Normal",
                "ScalingReplicaSet",
                f"Scaled {direction} replica set {name_of(replica_set)} from {before} to {change.size}",
            )
