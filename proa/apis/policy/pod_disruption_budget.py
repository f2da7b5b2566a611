"""PodDisruptionBudget, as of policy/v1."""

from __future__ import annotations

from proa.apis.define import columns, resource
from proa.apis.registry import StatusStrategy

POD_DISRUPTION_BUDGET = resource(
    "policy",
    "v1",
    "PodDisruptionBudget",
    "poddisruptionbudgets",
    columns=columns("Name", "Min Available", "Max Unavailable", "Allowed Disruptions:integer", "Age"),
    short_names=("pdb",),
    status=StatusStrategy,
    storage_version_hash="EVWiDmWqyJw=",
)
