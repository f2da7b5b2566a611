"""PodTemplate, as of v1."""

from __future__ import annotations

from proa.apis.define import columns, resource

POD_TEMPLATE = resource(
    "",
    "v1",
    "PodTemplate",
    "podtemplates",
    columns=columns("Name", "Containers", "Images", "Pod Labels"),
    storage_version_hash="LIXB2x4IFpk=",
)
