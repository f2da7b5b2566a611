"""Ingress, as of networking.k8s.io/v1."""

from __future__ import annotations

from proa.apis.define import columns, resource
from proa.apis.registry import StatusStrategy

INGRESS = resource(
    "networking.k8s.io",
    "v1",
    "Ingress",
    "ingresses",
    columns=columns("Name", "Class", "Hosts", "Address", "Ports", "Age"),
    short_names=("ing",),
    status=StatusStrategy,
    storage_version_hash="39NQlfNR+bo=",
)
