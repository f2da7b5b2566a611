"""Carries out the steps of Jobs."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from proa.client.interface import DeleteOptions
from proa.client.resources import JOBS, PODS
from proa.controllers.batches import slow_start
from proa.controllers.job.plan import FINALIZER, INDEX, INDEX_FAILURES, NewPod, Plan, plan
from proa.controllers.ownership import CONTROLLER_INDEX, Claimer, by_controller, count_controlled
from proa.controllers.pods import pod_from_template
from proa.controllers.runtime import Context, Controller, Result, ignore_absent
from proa.meta.errors import StatusError
from proa.meta.gvk import GVK
from proa.meta.objects import (
    Obj,
    controller_of,
    is_deleted,
    key_of,
    labels_of,
    metadata,
    name_of,
    namespace_of,
    split_key,
    uid_of,
)
from proa.meta.selectors import from_object

KIND = GVK("batch", "v1", "Job")


_TRACKED_INDEX = "tracked by job"


def by_tracking_job(pod: Obj) -> Iterable[str]:
    """Index: the key of the Job that a pod belongs to and must still be counted for."""
    if FINALIZER not in (metadata(pod).get("finalizers") or ()):
        return ()
    reference = controller_of(pod)
    if reference is None or reference.get("kind") != KIND.kind:
        return ()
    return (f"{namespace_of(pod)}/{reference['name']}",)


class JobController(Controller):
    name = "job-controller"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._jobs = self.watch(JOBS)
        self.need(PODS).add_index(CONTROLLER_INDEX, by_controller)
        self.need(PODS).add_index(_TRACKED_INDEX, by_tracking_job)
        self._pods = self.watch(PODS, self._keys_of_pod, weigh=self._count_pods)
        self._claimer = Claimer(self.client, JOBS, KIND, (FINALIZER,))

    def _count_pods(self, key: str) -> int:
        return count_controlled(self._jobs, self._pods, key)

    def _keys_of_pod(self, pod: Obj) -> Iterable[str]:
        reference = controller_of(pod)
        if reference is not None:
            if reference.get("kind") == KIND.kind:
                yield f"{namespace_of(pod)}/{reference['name']}"
            return
        for job in self._jobs.objects(namespace_of(pod)):
            if from_object(job["spec"].get("selector")).matches(labels_of(pod)):
                yield key_of(job)
        if FINALIZER in (metadata(pod).get("finalizers") or ()):
            yield f"{namespace_of(pod)}/!{name_of(pod)}"

    async def reconcile(self, key: str) -> Result | None:
        namespace, name = split_key(key)
        if name.startswith("!"):
            await self._release_orphan(namespace, name[1:])
            return None
        job = self._jobs.get(name, namespace)
        if job is None:
            for pod in self._pods.indexed(_TRACKED_INDEX, key):
                await self._release(pod)
            return None
        if job["spec"].get("managedBy") not in (None, "kubernetes.io/job-controller"):
            return None
        candidates = self._pods.indexed(CONTROLLER_INDEX, uid_of(job))
        if not is_deleted(job):
            candidates += self._pods.indexed(CONTROLLER_INDEX, f"orphan/{namespace}")
        pods = await self._claimer.claim(job, from_object(job["spec"].get("selector")), PODS, candidates)
        step = plan(job, pods, self.clock.now())
        return await self._carry_out(job, step)

    async def _carry_out(self, job: Obj, step: Plan) -> Result:
        if step.status is not None:
            updated = {**job, "status": step.status}
            job = await self.client.update(JOBS, updated, subresource="status")
        for type, reason, message in step.events:
            self.events.event(job, type, reason, message)
        await asyncio.gather(*(self._release(pod) for pod in step.release))
        await asyncio.gather(*(self._delete(job, pod) for pod in step.delete))
        if step.create:
            remaining = list(step.create)
            _, error = await slow_start(len(remaining), lambda: self._create(job, remaining.pop(0)))
            if error is not None:
                raise error
        # What was released is counted by the next look, which the pods' own changes bring about.
        if step.recheck_seconds is None:
            return Result()
        return Result(max(0.01, step.recheck_seconds))

    async def _create(self, job: Obj, new: NewPod) -> None:
        pod = pod_from_template(job["spec"]["template"], job, KIND)
        meta, spec = pod["metadata"], pod["spec"]
        meta["finalizers"] = [*meta.get("finalizers", []), FINALIZER]
        if new.index is not None:
            _give_index(job, new, meta, spec)
        try:
            made = await self.client.create(PODS, pod, namespace_of(job))
        except StatusError as error:
            self.events.event(job, "Warning", "FailedCreate", f"Error creating: {error}")
            raise
        self.events.event(job, "Normal", "SuccessfulCreate", f"Created pod: {name_of(made)}")

    async def _delete(self, job: Obj, pod: Obj) -> None:
        await ignore_absent(self.client.delete(PODS, name_of(pod), namespace_of(pod), DeleteOptions(uid=uid_of(pod))))
        self.events.event(job, "Normal", "SuccessfulDelete", f"Deleted pod: {name_of(pod)}")

    async def _release(self, pod: Obj) -> None:
        if FINALIZER not in (metadata(pod).get("finalizers") or ()):
            return
        patch = {"metadata": {"uid": uid_of(pod), "$deleteFromPrimitiveList/finalizers": [FINALIZER]}}
        await ignore_absent(self.client.patch(PODS, name_of(pod), patch, namespace_of(pod)))

    async def _release_orphan(self, namespace: str, name: str) -> None:
        pod = self._pods.get(name, namespace)
        if pod is not None and controller_of(pod) is None:
            await self._release(pod)


def _give_index(job: Obj, new: NewPod, meta: Obj, spec: Obj) -> None:
    """Makes the pod the one of its index: name, annotation, label, host name, environment."""
    index = str(new.index)
    annotations = {INDEX: index}
    if new.failures is not None:
        annotations[INDEX_FAILURES] = str(new.failures)
    meta["annotations"] = {**meta.get("annotations", {}), **annotations}
    meta["labels"] = {**meta.get("labels", {}), INDEX: index}
    meta["generateName"] = f"{name_of(job)}-{index}-"
    spec["hostname"] = f"{name_of(job)}-{index}"
    source = {"fieldRef": {"fieldPath": f"metadata.labels['{INDEX}']"}}
    for container in [*(spec.get("initContainers") or ()), *(spec.get("containers") or ())]:
        env = container.setdefault("env", [])
        if all(one.get("name") != "JOB_COMPLETION_INDEX" for one in env):
            env.append({"name": "JOB_COMPLETION_INDEX", "valueFrom": source})
