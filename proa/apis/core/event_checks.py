"""Rules for events, in their two forms. Follows upstream's `pkg/apis/core/validation/events.go`.

Both forms are checked as core v1, which is how they are stored; `new` tells that the client speaks events.k8s.io/v1.
"""

from __future__ import annotations

from proa.apis.fields import Errors, immutable, problems
from proa.meta import names
from proa.meta.errors import invalid_field, required_field
from proa.meta.objects import Obj, namespace_of

_SHORT_MAX, _MESSAGE_MAX = 128, 1024


def event_create(event: Obj, *, new: bool) -> Errors:
    if not new:
        return _legacy(event, new=False)
    errors: Errors = []
    if not event.get("eventTime"):
        errors.append(required_field("eventTime"))
    kind = event.get("type") or ""
    errors += _legacy(event, new=True)
    errors += _series(event.get("series"))
    for key in ("firstTimestamp", "lastTimestamp", "count", "source"):
        if event.get(key):
            errors.append(invalid_field(key, "", "needs to be unset"))
    if kind not in ("Normal", "Warning"):
        errors.append(invalid_field("type", "", f"has invalid value: {kind}"))
    return errors


def _series(series: Obj | None) -> Errors:
    if series is None:
        return []
    errors: Errors = []
    if (series.get("count") or 0) < 2:
        errors.append(invalid_field("series.count", "", "should be at least 2"))
    if not series.get("lastObservedTime"):
        errors.append(required_field("series.lastObservedTime"))
    return errors


def _legacy(event: Obj, *, new: bool) -> Errors:
    errors: Errors = []
    own, about = namespace_of(event), (event.get("involvedObject") or {}).get("namespace") or ""
    fits = own == about if about else own in ("", "default")
    if not new and not fits:
        errors.append(invalid_field("involvedObject.namespace", about, "does not match event.namespace"))
    if not event.get("eventTime"):
        return errors
    field, controller = "reportingController" if new else "reportingComponent", event.get("reportingComponent") or ""
    if not controller:
        errors.append(required_field(field))
    errors += problems(names.qualified_name(controller), field, controller)
    for key in ("reportingInstance", "action", "reason"):
        value = event.get(key) or ""
        if not value:
            errors.append(required_field(key))
        if len(value) > _SHORT_MAX:
            errors.append(invalid_field(key, "", f"can have at most {_SHORT_MAX} characters"))
    if len(event.get("message") or "") > _MESSAGE_MAX:
        errors.append(invalid_field("message", "", f"can have at most {_MESSAGE_MAX} characters"))
    return errors


# As upstream lists them, one of them twice.
_IMMUTABLE = (
    "involvedObject",
    "reason",
    "message",
    "source",
    "firstTimestamp",
    "lastTimestamp",
    "count",
    "reason",
    "type",
    "eventTime",
    "action",
    "related",
    "reportingComponent",
    "reportingInstance",
)


def event_update(event: Obj, old: Obj, *, new: bool) -> Errors:
    if not new:
        return _legacy(event, new=False)
    errors = _series(event.get("series")) if event.get("series") != old.get("series") else []
    for key in _IMMUTABLE:
        shown = "reportingController" if key == "reportingComponent" else key
        errors += immutable(event.get(key), old.get(key), shown)
    return errors
