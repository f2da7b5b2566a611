"""PriorityLevelConfiguration, as of flowcontrol.apiserver.k8s.io/v1."""

from __future__ import annotations

from proa.apis.define import columns, resource
from proa.apis.registry import StatusStrategy

PRIORITY_LEVEL_CONFIGURATION = resource(
    "flowcontrol.apiserver.k8s.io",
    "v1",
    "PriorityLevelConfiguration",
    "prioritylevelconfigurations",
    columns=columns("Name", "Type", "NominalConcurrencyShares", "Queues", "HandSize", "QueueLengthLimit", "Age"),
    namespaced=False,
    status=StatusStrategy,
    storage_version_hash="Kir5PVfvNeI=",
)
