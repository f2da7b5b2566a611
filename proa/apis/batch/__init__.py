"""The resources of the group, in discovery order."""

from __future__ import annotations

from proa.apis.batch.cron_job import CRON_JOB
from proa.apis.batch.job import JOB
from proa.apis.registry import ResourceDef

RESOURCES: tuple[ResourceDef, ...] = (
    CRON_JOB,
    JOB,
)
