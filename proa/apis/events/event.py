"""Event, as of events.k8s.io/v1."""

from __future__ import annotations

from proa.apis.define import columns, resource

EVENT = resource(
    "events.k8s.io",
    "v1",
    "Event",
    "events",
    columns=columns(
        "Last Seen", "Type", "Reason", "Object", "Subobject+", "Source+", "Message", "First Seen+", "Count+", "Name+"
    ),
    short_names=("ev",),
    storage_version_hash="r2yiGXH7wu8=",
    storage="events",
)
