"""Event, as of v1."""

from __future__ import annotations

from proa.apis.define import columns, resource

EVENT = resource(
    "",
    "v1",
    "Event",
    "events",
    columns=columns(
        "Last Seen", "Type", "Reason", "Object", "Subobject+", "Source+", "Message", "First Seen+", "Count+", "Name+"
    ),
    short_names=("ev",),
    storage_version_hash="r2yiGXH7wu8=",
)
