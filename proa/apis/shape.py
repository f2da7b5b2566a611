"""How upstream writes what is empty: fields that vanish at their zero value, and fields that are always there.

A JSON object that passed through upstream's typed structs has lost empty optional values and gained required ones
(`"rules": null`, `"status": {}`). Kinds use these functions in their defaulting; all change their argument in place.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from proa.meta.objects import Obj

_ZEROS: tuple[Any, ...] = ("", 0, None)


def _is_zero(value: Any) -> bool:
    return value in _ZEROS or value == [] or value == {}


def drop_zero(obj: Obj, *keys: str) -> None:
    """Removes those of `keys` whose value is false, 0, empty or null."""
    for key in keys:
        if key in obj and _is_zero(obj[key]):
            del obj[key]


def null_if_empty(obj: Obj, key: str) -> None:
    """Sets a list that is always written to null when it is absent or empty."""
    if not obj.get(key):
        obj[key] = None


def child(obj: Obj, key: str) -> Obj:
    """Returns the object at `key`, putting an empty one there first if there is none."""
    found = obj.get(key)
    if not isinstance(found, dict):
        found = obj[key] = {}
    return found


def children(obj: Obj | None, key: str) -> list[Obj]:
    """Returns the list of objects at `key`, or an empty list that is not put there."""
    return (obj or {}).get(key) or []


def set_default(obj: Obj, key: str, value: Any) -> None:
    """Sets `key` if it is absent or null (a pointer's default)."""
    if obj.get(key) is None:
        obj[key] = value


def set_if_zero(obj: Obj, key: str, value: Any) -> None:
    """Sets `key` if it is absent or at its zero value (a plain field's default)."""
    if key not in obj or _is_zero(obj[key]):
        obj[key] = value


def keep_status(obj: Obj, old: Obj) -> None:
    """Makes the status what it was."""
    if "status" in old:
        obj["status"] = old["status"]
    else:
        obj.pop("status", None)


def keep(obj: Obj, old: Obj, keys: Iterable[str]) -> None:
    """Makes each of `keys` what it was in `old`, absent if it was absent."""
    for key in keys:
        if key in old:
            obj[key] = old[key]
        else:
            obj.pop(key, None)
