"""Carries out what ReplicaSets and ReplicationControllers need."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import ClassVar

from proa.client.interface import DeleteOptions
from proa.client.resources import PODS, REPLICASETS, REPLICATIONCONTROLLERS
from proa.controllers.batches import slow_start
from proa.controllers.ownership import (
    CONTROLLER_INDEX,
    MATCHED_LABEL_INDEX,
    Claimer,
    by_controller,
    by_matched_label,
    count_controlled,
    selecting,
)
from proa.controllers.pods import is_active, pod_from_template
from proa.controllers.replicaset.plan import BURST_MAX, Counts, count, counted, plan, status_of, wanted
from proa.controllers.runtime import Context, Controller, Result, ignore_absent
from proa.controllers.tally import Tally
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

# However many a set has: pods are counted as they change, what takes time is writing the status.
_GATHERED_PODS_MAX = 5000


class ReplicaSetController(Controller):
    name = "replicaset-controller"
    resource: ClassVar[GVR] = REPLICASETS
    kind: ClassVar[GVK] = GVK("apps", "v1", "ReplicaSet")
    counts_terminating: ClassVar[bool] = True

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._sets = self.watch(self.resource)
        self._sets.add_index(CONTROLLER_INDEX, by_controller)
        self._sets.add_index(MATCHED_LABEL_INDEX, by_matched_label)
        self._tally = Tally(self.need(PODS), self.kind)
        # By key, the set (uid, selector) that has claimed its pods; those that an orphan may have come to are not here.
        self._claimed: dict[str, tuple[str, object]] = {}
        self.need(PODS).add_index(CONTROLLER_INDEX, by_controller)
        self._pods = self.watch(PODS, self._keys_of_pod, weigh=self._count_pods)
        self._claimer = Claimer(self.client, self.resource, self.kind)

    def selector(self, owner: Obj) -> LabelSelector:
        return from_object(owner["spec"].get("selector"))

    def _count_pods(self, key: str) -> int:
        return min(count_controlled(self._sets, self._pods, key), _GATHERED_PODS_MAX)

    def _keys_of_pod(self, pod: Obj) -> Iterable[str]:
        reference = controller_of(pod)
        if reference is not None:
            if reference.get("kind") == self.kind.kind and reference["apiVersion"] == self.kind.api_version:
                yield f"{namespace_of(pod)}/{reference['name']}"
            return
        if labels_of(pod) and not is_deleted(pod):
            for owner in selecting(self._sets, pod, self.selector):
                self._claimed.pop(key_of(owner), None)
                yield key_of(owner)

    async def reconcile(self, key: str) -> Result | None:
        namespace, name = split_key(key)
        owner = self._sets.get(name, namespace)
        if owner is None:
            self._claimed.pop(key, None)
            return None
        counts = self._counted(key, owner)
        missing = wanted(owner) - counts.active if counts is not None else 0
        if counts is not None and missing >= 0:
            error = await self._create_all(owner, min(missing, BURST_MAX))
        else:
            error = await self._act(owner, await self._claim(key, owner))
        counts = self._counted(key, owner)
        if counts is None:
            counts = count(owner, self._pods.indexed(CONTROLLER_INDEX, uid_of(owner)), self.clock.now())
        outcome = status_of(owner, counts, str(error or ""), self.clock.now(), terminating=self.counts_terminating)
        if outcome.status is not None:
            current = self._sets.get(name, namespace) or owner
            await ignore_absent(
                self.client.update(self.resource, {**current, "status": outcome.status}, subresource="status")
            )
        if error is not None:
            raise error
        return Result(0.0 if abs(missing) > BURST_MAX else outcome.recheck_seconds)

    def _counted(self, key: str, owner: Obj) -> Counts | None:
        """Returns what is known of the owner's pods without a look at them; None if one must look."""
        if self._claimed.get(key) != (uid_of(owner), owner["spec"].get("selector")):
            return None
        return counted(owner, self.selector(owner), self._tally.of(uid_of(owner)))

    async def _claim(self, key: str, owner: Obj) -> list[Obj]:
        self._claimed[key] = uid_of(owner), owner["spec"].get("selector")  # unless an orphan comes meanwhile
        candidates = self._pods.indexed(CONTROLLER_INDEX, uid_of(owner))
        if not is_deleted(owner):
            candidates += self._pods.indexed(CONTROLLER_INDEX, f"orphan/{namespace_of(owner)}")
        try:
            return await self._claimer.claim(owner, self.selector(owner), PODS, candidates)
        except BaseException:
            self._claimed.pop(key, None)
            raise

    async def _create_all(self, owner: Obj, number: int) -> Exception | None:
        _, error = await slow_start(number, lambda: self._create(owner))
        return error

    async def _act(self, owner: Obj, pods: Sequence[Obj]) -> Exception | None:
        decided = plan(owner, pods, lambda: self._related_on_node(owner), self.clock.now())
        if decided.create:
            return await self._create_all(owner, decided.create)
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
