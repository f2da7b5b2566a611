"""Deployment, as of apps/v1."""

from __future__ import annotations

from proa.apis.define import columns, resource
from proa.apis.registry import StatusStrategy

DEPLOYMENT = resource(
    "apps",
    "v1",
    "Deployment",
    "deployments",
    columns=columns("Name", "Ready", "Up-to-date", "Available", "Age", "Containers+", "Images+", "Selector+"),
    short_names=("deploy",),
    categories=("all",),
    scale=True,
    status=StatusStrategy,
    storage_version_hash="8aSe+NMegvE=",
)
