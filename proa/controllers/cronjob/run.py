"""Starts the Jobs of CronJobs when they are due."""

from __future__ import annotations

from collections.abc import Iterable

from proa.client.interface import DeleteOptions
from proa.client.resources import CRONJOBS, JOBS
from proa.controllers.cronjob.plan import KIND, SCHEDULED_AT, end_of, plan
from proa.controllers.ownership import CONTROLLER_INDEX, by_controller
from proa.controllers.runtime import Context, Controller, Result, ignore_absent
from proa.meta.errors import StatusError
from proa.meta.objects import Obj, controller_of, metadata, name_of, namespace_of, split_key, uid_of


def _keys_of_job(job: Obj) -> Iterable[str]:
    reference = controller_of(job)
    if reference is not None and reference.get("kind") == KIND.kind:
        yield f"{namespace_of(job)}/{reference['name']}"


def _job_facts(job: Obj) -> object:
    return end_of(job), metadata(job).get("deletionTimestamp"), metadata(job).get("ownerReferences")


class CronJobController(Controller):
    name = "cronjob-controller"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._crons = self.watch(CRONJOBS)
        self._jobs = self.watch(JOBS, _keys_of_job, relevant=_job_facts)
        self._jobs.add_index(CONTROLLER_INDEX, by_controller)

    async def reconcile(self, key: str) -> Result | None:
        namespace, name = split_key(key)
        cron = self._crons.get(name, namespace)
        if cron is None:
            return None
        step = plan(cron, self._jobs.indexed(CONTROLLER_INDEX, uid_of(cron)), self.clock.now())
        for type, reason, message in step.events:
            self.events.event(cron, type, reason, message)
        for job in (*step.replaced, *step.delete):
            await self._delete(cron, job)
        status = step.status if step.status is not None else cron.get("status") or {}
        if step.create is not None:
            started = await self._create(cron, step.create)
            stamp = step.create["metadata"]["annotations"][SCHEDULED_AT]
            status = {**status, "lastScheduleTime": stamp}
            if started is not None:
                status["active"] = [*(status.get("active") or []), started]
        if status != (cron.get("status") or {}):
            await ignore_absent(self.client.update(CRONJOBS, {**cron, "status": status}, subresource="status"))
        return Result(step.recheck_seconds)

    async def _create(self, cron: Obj, job: Obj) -> Obj | None:
        """Returns a reference to the new Job, None if it existed before."""
        try:
            made = await self.client.create(JOBS, job, namespace_of(cron))
        except StatusError as error:
            if error.reason == "AlreadyExists":
                return None
            self.events.event(cron, "Warning", "FailedCreate", f"Error creating job: {error}")
            raise
        self.events.event(cron, "Normal", "SuccessfulCreate", f"Created job {name_of(made)}")
        return {
            "kind": "Job",
            "apiVersion": "batch/v1",
            "name": name_of(made),
            "namespace": namespace_of(made),
            "uid": uid_of(made),
            "resourceVersion": metadata(made).get("resourceVersion") or "",
        }

    async def _delete(self, cron: Obj, job: Obj) -> None:
        options = DeleteOptions(propagation="Background", uid=uid_of(job))
        await ignore_absent(self.client.delete(JOBS, name_of(job), namespace_of(job), options))
        self.events.event(cron, "Normal", "SuccessfulDelete", f"Deleted job {name_of(job)}")
