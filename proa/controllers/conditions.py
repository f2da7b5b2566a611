"""Conditions of a status (pure): find, set, remove; a transition time changes only when the status does."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from proa.meta.objects import Obj
from proa.util.clock import rfc3339


def find(conditions: Sequence[Obj] | None, type: str) -> Obj | None:
    for condition in conditions or ():
        if condition.get("type") == type:
            return condition
    return None


def is_true(conditions: Sequence[Obj] | None, type: str) -> bool:
    found = find(conditions, type)
    return found is not None and found.get("status") == "True"


def condition(
    type: str, status: str, reason: str, message: str, now: datetime, *, updated: bool = False, **more: object
) -> Obj:
    """Returns a new condition; `updated`: of the kind that has a lastUpdateTime too."""
    made: Obj = {"type": type, "status": status}
    if updated:
        made["lastUpdateTime"] = rfc3339(now)
    made["lastTransitionTime"] = rfc3339(now)
    if reason:
        made["reason"] = reason
    if message:
        made["message"] = message
    made.update(more)
    return made


def with_condition(conditions: Sequence[Obj] | None, new: Obj) -> list[Obj]:
    """Returns the conditions with `new` in place of its type; unchanged if status and reason are the same."""
    old = find(conditions, new["type"])
    kept = [one for one in conditions or () if one is not old]
    if old is None:
        return [*kept, new]
    if old.get("status") == new["status"]:
        if old.get("reason") == new.get("reason"):
            return list(conditions or ())
        new = {**new, "lastTransitionTime": old.get("lastTransitionTime")}
    return [*kept, new]


def without_condition(conditions: Sequence[Obj] | None, type: str) -> list[Obj]:
    return [one for one in conditions or () if one.get("type") != type]
