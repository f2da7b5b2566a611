"""Job, as of batch/v1."""

from __future__ import annotations

from proa.apis.define import columns, resource
from proa.apis.registry import StatusStrategy

JOB = resource(
    "batch",
    "v1",
    "Job",
    "jobs",
    columns=columns("Name", "Status", "Completions", "Duration", "Age", "Containers+", "Images+", "Selector+"),
    categories=("all",),
    status=StatusStrategy,
    storage_version_hash="mudhfqk/qZY=",
)
