"""Endpoints, as of v1."""

from __future__ import annotations

from proa.apis.define import columns, resource

ENDPOINTS = resource(
    "",
    "v1",
    "Endpoints",
    "endpoints",
    columns=columns("Name", "Endpoints", "Age"),
    short_names=("ep",),
    storage_version_hash="fWeeMqaN/OA=",
)
