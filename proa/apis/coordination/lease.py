"""Lease, as of coordination.k8s.io/v1."""

from __future__ import annotations

from proa.apis.define import columns, resource

LEASE = resource(
    "coordination.k8s.io",
    "v1",
    "Lease",
    "leases",
    columns=columns("Name", "Holder", "Age"),
    storage_version_hash="gqkMMb/YqFM=",
)
