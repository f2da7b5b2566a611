"""ComponentStatus, as of v1."""

from __future__ import annotations

from proa.apis.define import columns, resource

COMPONENT_STATUS = resource(
    "",
    "v1",
    "ComponentStatus",
    "componentstatuses",
    columns=columns("Name", "Status", "Message", "Error"),
    namespaced=False,
    verbs=("get", "list"),
    short_names=("cs",),
)
