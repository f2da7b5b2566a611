"""Carries out what ReplicaSets and ReplicationControllers need."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import ClassVar

from proa.client.interface import DeleteOptions
from proa.client.resources import PODS, REPLICASETS, REPLICATIONCONTROLLERS
from proa.controllers.batches import slow_start
from proa.controllers.ownership import CONTROLLER_INDEX, Claimer, by_controller, count_controlled
from proa.controllers.pods import is_active, pod_from_template
from proa.controllers.replicaset.plan import plan, status
from proa.controllers.runtime import Context, Controller, Result, ignore_absent
from proa.meta.errors import StatusError
from proa.meta.gvk import GVK, GVR
from proa.meta.objects import (
    Obj,
    controller_of,
    is_deleted,
    key_of,
    labels_of,
    name_of,
    namespace_of,
    split_key,
    uid_of,
)
from proa.meta.selectors import LabelSelector, from_labels, from_object


class ReplicaSetController(Controller):
    name = "replicaset-controller"
    resource: ClassVar[GVR] = REPLICASETS
    kind: ClassVar[GVK] = GVK("apps", "v1", "ReplicaSet")
    counts_terminating: ClassVar[bool] = True

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._sets = self.watch(self.resource)
        self._sets.add_index(CONTROLLER_INDEX, by_controller)
        self.need(PODS).add_index(CONTROLLER_INDEX, by_controller)
        self._pods = self.watch(PODS, self._keys_of_pod, weigh=self._count_pods)
        self._claimer = Claimer(self.client, self.resource, self.kind)

    def selector(self, owner: Obj) -> LabelSelector:
        return from_object(owner["spec"].get("selector"))

    def _count_pods(self, key: str) -> int:
        return count_controlled(self._sets, self._pods, key)

    def _keys_of_pod(self, pod: Obj) -> Iterable[str]:
        reference = controller_of(pod)
        if reference is not None:
            if reference.get("kind") == self.kind.kind and reference["apiVersion"] == self.kind.api_version:
                yield f"{namespace_of(pod)}/{reference['name']}"
            return
        if labels_of(pod) and not is_deleted(pod):
            for owner in self._sets.objects(namespace_of(pod)):
                if self.selector(owner).matches(labels_of(pod)):
                    yield key_of(owner)

    async def reconcile(self, key: str) -> Result | None:
        namespace, name = split_key(key)
        owner = self._sets.get(name, namespace)
        if owner is None:
            return None
        candidates = self._pods.indexed(CONTROLLER_INDEX, uid_of(owner))
        if not is_deleted(owner):
            candidates += self._pods.indexed(CONTROLLER_INDEX, f"orphan/{namespace}")
        pods = await self._claimer.claim(owner, self.selector(owner), PODS, candidates)
        error = await self._act(owner, pods)
        pods = self._pods.indexed(CONTROLLER_INDEX, uid_of(owner))
        outcome = status(owner, pods, str(error or ""), self.clock.now(), terminating=self.counts_terminating)
        if outcome.status is not None:
            current = self._sets.get(name, namespace) or owner
            await ignore_absent(
                self.client.update(self.resource, {**current, "status": outcome.status}, subresource="status")
            )
        if error is not None:
            raise error
        return Result(outcome.recheck_seconds)

    async def _act(self, owner: Obj, pods: Sequence[Obj]) -> Exception | None:
        decided = plan(owner, pods, lambda: self._related_on_node(owner), self.clock.now())
        if decided.create:
            _, error = await slow_start(decided.create, lambda: self._create(owner))
            return error
        results = await asyncio.gather(*(self._delete(owner, pod) for pod in decided.delete), return_exceptions=True)
        return next((one for one in results if isinstance(one, Exception)), None)

    def _related_on_node(self, owner: Obj) -> Counter[str]:
        """Counts, per node, active pods of all sets with the same controller (those of one deployment)."""
        controller = controller_of(owner)
        sets = self._sets.indexed(CONTROLLER_INDEX, controller["uid"]) if controller else [owner]
        return Counter(
            (pod.get("spec") or {}).get("nodeName") or ""
            for one in sets
            for pod in self._pods.indexed(CONTROLLER_INDEX, uid_of(one))
            if is_active(pod)
        )

    async def _create(self, owner: Obj) -> None:
        try:
            pod = await self.client.create(
                PODS, pod_from_template(owner["spec"]["template"], owner, self.kind), namespace_of(owner)
            )
        except StatusError as error:
            self.events.event(owner, "Warning", "FailedCreate", f"Error creating: {error}")
            raise
        self.events.event(owner, "Normal", "SuccessfulCreate", f"Created pod: {name_of(pod)}")

    async def _delete(self, owner: Obj, pod: Obj) -> None:
        try:
            await self.client.delete(PODS, name_of(pod), namespace_of(pod), DeleteOptions(uid=uid_of(pod)))
        except StatusError as error:
            if error.code in (404, 409):
                return  # gone, or another pod of that name
            self.events.event(owner, "Warning", "FailedDelete", f"Error deleting: {error}")
            raise
        self.events.event(owner, "Normal", "SuccessfulDelete", f"Deleted pod: {name_of(pod)}")


class ReplicationControllerController(ReplicaSetController):
    name = "replication-controller"
    resource = REPLICATIONCONTROLLERS
    kind = GVK("", "v1", "ReplicationController")
    counts_terminating = False

    def selector(self, owner: Obj) -> LabelSelector:
        return from_labels(owner["spec"].get("selector"))
