"""What table cells are made of: ages, selectors, lists; shared by all kinds' `cells` functions.

Follows what `kubectl get` shows (upstream's printers and `util/duration`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from proa.meta.objects import Obj, metadata

NONE = "<none>"
UNKNOWN = "<unknown>"
UNSET = "<unset>"

_MINUTE, _HOUR, _DAY, _YEAR = 60, 3600, 86400, 365 * 86400


def human_duration(seconds: float) -> str:
    """Returns a duration as tables show it: two units at most, fewer the longer it is (`90s`, `5m3s`, `3h`, `2d4h`)."""
    if seconds < -1:
        return "<invalid>"
    whole = max(0, int(seconds))
    if whole < 2 * _MINUTE:
        return f"{whole}s"
    if whole < 10 * _MINUTE:
        return _two(whole, _MINUTE, "m", 1, "s")
    if whole < 3 * _HOUR:
        return f"{whole // _MINUTE}m"
    if whole < 8 * _HOUR:
        return _two(whole, _HOUR, "h", _MINUTE, "m")
    if whole < 2 * _DAY:
        return f"{whole // _HOUR}h"
    if whole < 8 * _DAY:
        return _two(whole, _DAY, "d", _HOUR, "h")
    if whole < 2 * _YEAR:
        return f"{whole // _DAY}d"
    if whole < 8 * _YEAR:
        return _two(whole, _YEAR, "y", _DAY, "d")
    return f"{whole // _YEAR}y"


def _two(whole: int, big: int, big_name: str, small: int, small_name: str) -> str:
    rest = whole % big // small
    return f"{whole // big}{big_name}" + (f"{rest}{small_name}" if rest else "")


def since(timestamp: str | None, now: datetime) -> str:
    """Returns the time since an RFC 3339 timestamp in short form; `<unknown>` without one."""
    if not timestamp:
        return UNKNOWN
    try:
        then = datetime.fromisoformat(timestamp)
    except ValueError:
        return "<invalid>"
    return human_duration((now - then).total_seconds())


def age(obj: Obj, now: datetime) -> str:
    """Returns the time since the object's creation."""
    return since(metadata(obj).get("creationTimestamp"), now)


def or_none(text: str | None) -> str:
    return text or NONE


def comma(items: Iterable[str], most: int | None = None) -> str:
    """Joins with commas; of more than `most` items, tells how many were left out: `a,b,c + 2 more...`."""
    listed = list(items)
    if most is None or len(listed) <= most:
        return ",".join(listed)
    return f"{','.join(listed[:most])} + {len(listed) - most} more..."


def labels_text(labels: Mapping[str, str] | None) -> str:
    """Returns `a=b,c=d`, sorted; `<none>` if there are none."""
    return or_none(",".join(f"{key}={value}" for key, value in sorted((labels or {}).items())))


_OPERATORS = {"In": "in", "NotIn": "notin"}


def selector_text(selector: Mapping[str, Any] | None) -> str:
    """Returns a LabelSelector in the selector language, requirements sorted by key; `<none>` if it selects all."""
    if not selector:
        return NONE
    parts = [(key, f"{key}={value}") for key, value in (selector.get("matchLabels") or {}).items()]
    for one in selector.get("matchExpressions") or []:
        key, operator = one.get("key", ""), one.get("operator", "")
        if operator in _OPERATORS:
            text = f"{key} {_OPERATORS[operator]} ({','.join(sorted(one.get('values') or []))})"
        else:
            text = f"!{key}" if operator == "DoesNotExist" else key
        parts.append((key, text))
    return or_none(",".join(text for _, text in sorted(parts)))
