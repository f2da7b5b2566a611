"""Event in core v1, the stored form. Its other form is in `proa.apis.events`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from proa.apis.core.event_checks import event_create, event_update
from proa.apis.define import columns, resource
from proa.apis.fields import Errors
from proa.apis.registry import Strategy
from proa.apis.tables import UNKNOWN, since
from proa.meta.objects import Obj, name_of

_ABOUT = ("kind", "namespace", "name", "uid", "apiVersion", "resourceVersion", "fieldPath")


class EventStrategy(Strategy):
    allow_create_on_update = True
    field_labels = (
        *(f"involvedObject.{key}" for key in _ABOUT),
        "reason",
        "reportingComponent",
        "source",
        "type",
    )

    def validate_name(self, name: str, prefix: bool) -> list[str]:
        return []  # any name will do

    def validate(self, obj: Obj) -> Errors:
        return event_create(obj, new=False)

    def validate_update(self, obj: Obj, old: Obj) -> Errors:
        return event_update(obj, old, new=False)

    def selectable_fields(self, obj: Obj) -> Mapping[str, str]:
        about = obj.get("involvedObject") or {}
        fields = {f"involvedObject.{key}": about.get(key) or "" for key in _ABOUT}
        component = obj.get("reportingComponent") or ""
        source = (obj.get("source") or {}).get("component") or component
        return {
            **fields,
            "reason": obj.get("reason") or "",
            "reportingComponent": component,
            "source": source,
            "type": obj.get("type") or "",
        }


def _source(obj: Obj) -> str:
    source = obj.get("source") or {}
    parts = [source.get("component") or "", source.get("host") or ""]
    if not any(parts):
        parts = [obj.get("reportingComponent") or "", obj.get("reportingInstance") or ""]
    return ", ".join(part for part in parts if part)


def event_cells(obj: Obj, now: datetime) -> list[Any]:
    about, series = obj.get("involvedObject") or {}, obj.get("series")
    first = since(obj.get("firstTimestamp") or obj.get("eventTime"), now)
    last = since(obj["lastTimestamp"], now) if obj.get("lastTimestamp") else first
    count = obj.get("count") or 1
    if series is not None:
        seen = series.get("lastObservedTime")
        last = since(seen, now) if seen else UNKNOWN
        count = series.get("count") or 0
    target = (about.get("kind") or "").lower()
    if about.get("name"):
        target += f"/{about['name']}"
    return [
        last,
        obj.get("type") or "",
        obj.get("reason") or "",
        target,
        about.get("fieldPath") or "",
        _source(obj),
        (obj.get("message") or "").strip(),
        first,
        count,
        name_of(obj),
    ]


EVENT_COLUMNS = columns(
    "Last Seen",
    "Type",
    "Reason",
    "Object",
    "Subobject+",
    "Source+",
    "Message",
    "First Seen+",
    "Count+",
    "Name+",
)
EVENT_STORAGE_VERSION_HASH = "r2yiGXH7wu8="

EVENT = resource(
    "",
    "v1",
    "Event",
    "events",
    columns=EVENT_COLUMNS,
    cells=event_cells,
    strategy=EventStrategy(),
    short_names=("ev",),
    storage_version_hash=EVENT_STORAGE_VERSION_HASH,
)
