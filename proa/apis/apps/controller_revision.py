"""ControllerRevision, as of apps/v1."""

from __future__ import annotations

from proa.apis.define import columns, resource

CONTROLLER_REVISION = resource(
    "apps",
    "v1",
    "ControllerRevision",
    "controllerrevisions",
    columns=columns("Name", "Controller", "Revision", "Age"),
    storage_version_hash="85nkx63pcBU=",
)
