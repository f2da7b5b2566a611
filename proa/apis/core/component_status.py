"""ComponentStatus: whether parts of the control plane answer; read-only, made up on each request."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from proa.apis.define import columns, resource
from proa.meta.objects import Obj, name_of


def _cells(obj: Obj, now: datetime) -> list[Any]:
    status, message, error = "Unknown", "", ""
    for one in obj.get("conditions") or []:
        if one.get("type") == "Healthy":
            status = {"True": "Healthy", "False": "Unhealthy"}.get(one.get("status") or "", "Unknown")
            message, error = one.get("message") or "", one.get("error") or ""
            break
    return [name_of(obj), status, message, error]


COMPONENT_STATUS = resource(
    "",
    "v1",
    "ComponentStatus",
    "componentstatuses",
    columns=columns("Name", "Status", "Message", "Error"),
    cells=_cells,
    namespaced=False,
    verbs=("get", "list"),
    short_names=("cs",),
)
