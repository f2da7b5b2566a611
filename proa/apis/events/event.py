"""Event in events.k8s.io/v1: the same objects as core v1's, under other names of fields."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from proa.apis.core.event import EVENT_COLUMNS, EVENT_STORAGE_VERSION_HASH, EventStrategy, event_cells
from proa.apis.core.event_checks import event_create, event_update
from proa.apis.define import resource
from proa.apis.fields import Errors
from proa.meta.objects import Obj

# (core v1, events.k8s.io/v1); all others have the same name in both.
_RENAMED = (
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
    ("reportingComponent", "reportingController"),
)
_TO_NEW = dict(_RENAMED)
_TO_CORE = {new: core for core, new in _RENAMED}
# What is always there in the one form, and goes when empty in the other.
_ALWAYS_CORE: dict[str, Any] = {
    "involvedObject": {},
    "source": {},
    "firstTimestamp": None,
    "lastTimestamp": None,
    "eventTime": None,
    "reportingComponent": "",
    "reportingInstance": "",
}
_OMITTED_NEW = ("reportingController", "reportingInstance")


def from_core(event: Obj) -> Obj:
    """Returns the events.k8s.io/v1 form of a core v1 event."""
    made = {_TO_NEW.get(key, key): value for key, value in event.items()}
    made["apiVersion"] = "events.k8s.io/v1"
    for key in _OMITTED_NEW:
        if not made.get(key):
            made.pop(key, None)
    return made


def to_core(event: Obj) -> Obj:
    """Returns the core v1 form of an events.k8s.io/v1 event; one that has it already comes back as it is."""
    if "involvedObject" in event:
        return event
    made = {_TO_CORE.get(key, key): value for key, value in event.items()}
    made["apiVersion"] = "v1"
    for key, value in _ALWAYS_CORE.items():
        made.setdefault(key, {} if value == {} else value)
    return made


class EventV1Strategy(EventStrategy):
    field_labels = tuple(
        label.replace("involvedObject.", "regarding.").replace("reportingComponent", "reportingController")
        for label in EventStrategy.field_labels
        if label != "source"
    )

    def validate(self, obj: Obj) -> Errors:
        return event_create(to_core(obj), new=True)

    def validate_update(self, obj: Obj, old: Obj) -> Errors:
        return event_update(to_core(obj), to_core(old), new=True)

    def selectable_fields(self, obj: Obj) -> Mapping[str, str]:
        core = super().selectable_fields(to_core(obj))
        return {
            key.replace("involvedObject.", "regarding.").replace("reportingComponent", "reportingController"): value
            for key, value in core.items()
        }


def _cells(obj: Obj, now: datetime) -> list[Any]:
    return event_cells(to_core(obj), now)


EVENT = resource(
    "events.k8s.io",
    "v1",
    "Event",
    "events",
    columns=EVENT_COLUMNS,
    cells=_cells,
    strategy=EventV1Strategy(),
    short_names=("ev",),
    storage="events",
    storage_version_hash=EVENT_STORAGE_VERSION_HASH,
    from_stored=from_core,
    to_stored=to_core,
)
