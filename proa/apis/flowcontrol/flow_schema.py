"""FlowSchema, as of flowcontrol.apiserver.k8s.io/v1."""

from __future__ import annotations

from proa.apis.define import columns, resource
from proa.apis.registry import StatusStrategy

FLOW_SCHEMA = resource(
    "flowcontrol.apiserver.k8s.io",
    "v1",
    "FlowSchema",
    "flowschemas",
    columns=columns("Name", "PriorityLevel", "MatchingPrecedence", "DistinguisherMethod", "Age", "MissingPL"),
    namespaced=False,
    status=StatusStrategy,
    storage_version_hash="GJVAJZSZBIw=",
)
