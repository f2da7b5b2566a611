"""CronJob, as of batch/v1."""

from __future__ import annotations

from proa.apis.define import columns, resource
from proa.apis.registry import StatusStrategy

CRON_JOB = resource(
    "batch",
    "v1",
    "CronJob",
    "cronjobs",
    columns=columns(
        "Name",
        "Schedule",
        "Timezone",
        "Suspend:boolean",
        "Active:integer",
        "Last Schedule",
        "Age",
        "Containers+",
        "Images+",
        "Selector+",
    ),
    short_names=("cj",),
    categories=("all",),
    status=StatusStrategy,
    storage_version_hash="sd5LIXh4Fjs=",
)
