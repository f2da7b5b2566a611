"""Deletes finished Jobs when their `ttlSecondsAfterFinished` is over."""

from __future__ import annotations

from datetime import datetime

from proa.client.interface import DeleteOptions
from proa.client.resources import JOBS
from proa.controllers.runtime import Context, Controller, Result, ignore_absent
from proa.meta.objects import Obj, is_deleted, name_of, namespace_of, resource_version_of, split_key, uid_of
from proa.util.clock import parse_rfc3339


def seconds_left(job: Obj, now: datetime) -> float | None:
    """Returns how long a finished Job stays; None for one that stays or is not finished."""
    ttl_seconds = job["spec"].get("ttlSecondsAfterFinished")
    if ttl_seconds is None or is_deleted(job):
        return None
    for condition in (job.get("status") or {}).get("conditions") or ():
        if condition.get("type") in ("Complete", "Failed") and condition.get("status") == "True":
            ended = parse_rfc3339(condition["lastTransitionTime"])
            return float(ttl_seconds) - (now - ended).total_seconds()
    return None


class TtlAfterFinishedController(Controller):
    name = "ttl-after-finished-controller"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._jobs = self.watch(JOBS)

    async def reconcile(self, key: str) -> Result | None:
        namespace, name = split_key(key)
        job = self._jobs.get(name, namespace)
        left = seconds_left(job, self.clock.now()) if job is not None else None
        if job is None or left is None:
            return None
        if left > 0:
            return Result(left)
        options = DeleteOptions(propagation="Foreground", uid=uid_of(job), resource_version=resource_version_of(job))
        await ignore_absent(self.client.delete(JOBS, name_of(job), namespace_of(job), options))
        return None
