"""Carries out the steps of StatefulSets."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

from proa.client.interface import MERGE_PATCH, DeleteOptions
from proa.client.resources import CONTROLLERREVISIONS, PERSISTENTVOLUMECLAIMS, PODS, STATEFULSETS
from proa.controllers.history import Current, History
from proa.controllers.ownership import CONTROLLER_INDEX, Claimer, by_controller, count_controlled
from proa.controllers.runtime import Context, Controller, Result, ignore_absent
from proa.controllers.statefulset.identity import (
    INDEX_LABEL,
    KIND,
    NAME_LABEL,
    claim_name,
    claim_owners,
    claim_templates,
    claims_for,
    is_left,
    ordinal_of,
    pod_for,
)
from proa.controllers.statefulset.plan import NewPod, condemned, in_use, plan
from proa.meta.errors import StatusError
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
from proa.meta.selectors import from_object


class StatefulSetController(Controller):
    name = "statefulset-controller"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._sets = self.watch(STATEFULSETS)
        self.need(PODS).add_index(CONTROLLER_INDEX, by_controller)
        self._pods = self.watch(PODS, self._keys_of_pod, weigh=self._count_pods)
        self._claims = self.need(PERSISTENTVOLUMECLAIMS)
        revisions = self.watch(CONTROLLERREVISIONS, self._keys_of_owned)
        revisions.add_index(CONTROLLER_INDEX, by_controller)
        self._claimer = Claimer(self.client, STATEFULSETS, KIND)
        self._history = History(self.client, revisions, self._claimer, KIND)

    def _keys_of_owned(self, obj: Obj) -> Iterable[str]:
        reference = controller_of(obj)
        if reference is not None and reference.get("kind") == KIND.kind:
            yield f"{namespace_of(obj)}/{reference['name']}"

    def _count_pods(self, key: str) -> int:
        return count_controlled(self._sets, self._pods, key)

    def _keys_of_pod(self, pod: Obj) -> Iterable[str]:
        yield from self._keys_of_owned(pod)
        if controller_of(pod) is None:
            for one in self._sets.objects(namespace_of(pod)):
                if from_object(one["spec"].get("selector")).matches(labels_of(pod)):
                    yield key_of(one)

    async def reconcile(self, key: str) -> Result | None:
        namespace, name = split_key(key)
        stateful_set = self._sets.get(name, namespace)
        if stateful_set is None:
            return None
        selector = from_object(stateful_set["spec"].get("selector"))
        candidates = self._pods.indexed(CONTROLLER_INDEX, uid_of(stateful_set))
        if not is_deleted(stateful_set):
            orphans = self._pods.indexed(CONTROLLER_INDEX, f"orphan/{namespace}")
            candidates += [pod for pod in orphans if ordinal_of(stateful_set, pod) >= 0]
        pods = await self._claimer.claim(stateful_set, selector, PODS, candidates)
        if is_deleted(stateful_set):
            return None
        current = await self._history.current(
            stateful_set, (stateful_set["spec"].get("selector") or {}).get("matchLabels") or {}
        )
        update = name_of(current.revision)
        before = self._before(stateful_set, current)
        step = plan(stateful_set, pods, name_of(before), update, current.collisions, self.clock.now())
        if step.status is not None:
            updated = {**stateful_set, "status": step.status}
            await ignore_absent(self.client.update(STATEFULSETS, updated, subresource="status"))
        await self._keep_claims(stateful_set, pods)
        await asyncio.gather(*(self._delete(stateful_set, pod) for pod in step.delete))
        for pod in step.mend:
            labels = {NAME_LABEL: name_of(pod), INDEX_LABEL: str(ordinal_of(stateful_set, pod))}
            patch = {"metadata": {"labels": labels}}
            await ignore_absent(self.client.patch(PODS, name_of(pod), patch, namespace, patch_type=MERGE_PATCH))
        await asyncio.gather(
            *(self._create(stateful_set, new, current.revision if new.updated else before) for new in step.create)
        )
        await self._history.forget(stateful_set, current.all, in_use(pods, name_of(before), update))
        return Result(step.recheck_seconds)

    def _before(self, stateful_set: Obj, current: Current) -> Obj:
        """Returns the revision that the set moves from; the update's own for a new set."""
        name = (stateful_set.get("status") or {}).get("currentRevision")
        return next((one for one in current.all if name_of(one) == name), current.revision)

    async def _create(self, owner: Obj, new: NewPod, revision: Obj) -> None:
        pod = pod_for(owner, new.ordinal, revision)
        try:
            await self._make_claims(owner, new.ordinal, name_of(pod))
            await self.client.create(PODS, pod, namespace_of(owner))
        except StatusError as error:
            if error.reason == "AlreadyExists":
                raise
            text = f"create Pod {name_of(pod)} in StatefulSet {name_of(owner)} failed error: {error}"
            self.events.event(owner, "Warning", "FailedCreate", text)
            raise
        text = f"create Pod {name_of(pod)} in StatefulSet {name_of(owner)} successful"
        self.events.event(owner, "Normal", "SuccessfulCreate", text)

    async def _make_claims(self, owner: Obj, ordinal: int, pod: str) -> None:
        for claim in claims_for(owner, ordinal):
            found = self._claims.get(name_of(claim), namespace_of(owner))
            if found is not None:
                if is_deleted(found):
                    text = f"pvc {name_of(claim)} is being deleted"
                    raise StatusError(409, "Conflict", text)
                if is_left(found, pod):
                    # It belongs to an earlier pod of that name, and goes with it; the new pod must not take it.
                    raise StatusError(409, "Conflict", f"pvc {name_of(claim)} belongs to a pod that is gone")
                continue
            owners = claim_owners(owner, claim, None, condemned=False)
            if owners:
                claim["metadata"]["ownerReferences"] = owners
            try:
                await self.client.create(PERSISTENTVOLUMECLAIMS, claim, namespace_of(owner))
            except StatusError as error:
                if error.reason == "AlreadyExists":
                    continue
                text = (
                    f"create Claim {name_of(claim)} for Pod {pod} in StatefulSet {name_of(owner)} failed error: {error}"
                )
                self.events.event(owner, "Warning", "FailedCreate", text)
                raise
            text = f"create Claim {name_of(claim)} Pod {pod} in StatefulSet {name_of(owner)} success"
            self.events.event(owner, "Normal", "SuccessfulCreate", text)

    async def _keep_claims(self, owner: Obj, pods: Sequence[Obj]) -> None:
        """Gives claims the owners that the retention policy asks for, before their pod goes."""
        if not claim_templates(owner):
            return
        leaving = {uid_of(pod) for pod in condemned(owner, pods)}
        for pod in pods:
            for template in claim_templates(owner):
                name = claim_name(owner, template, ordinal_of(owner, pod))
                claim = self._claims.get(name, namespace_of(owner))
                if claim is None:
                    continue
                wanted = claim_owners(owner, claim, pod, uid_of(pod) in leaving)
                if wanted != (claim["metadata"].get("ownerReferences") or []):
                    meta = {**claim["metadata"], "ownerReferences": wanted}
                    await ignore_absent(self.client.update(PERSISTENTVOLUMECLAIMS, {**claim, "metadata": meta}))

    async def _delete(self, owner: Obj, pod: Obj) -> None:
        options = DeleteOptions(uid=uid_of(pod))
        await ignore_absent(self.client.delete(PODS, name_of(pod), namespace_of(pod), options))
        text = f"delete Pod {name_of(pod)} in StatefulSet {name_of(owner)} successful"
        self.events.event(owner, "Normal", "SuccessfulDelete", text)
