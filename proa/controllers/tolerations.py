"""Tolerations and taints (pure)."""

from __future__ import annotations

from proa.meta.objects import Obj


def tolerates(toleration: Obj, taint: Obj) -> bool:
    """Tells whether a toleration covers a taint, whatever its duration."""
    if toleration.get("effect") and toleration["effect"] != taint.get("effect"):
        return False
    key = toleration.get("key") or ""
    operator = toleration.get("operator") or "Equal"
    if key and key != taint["key"]:
        return False
    have, want = taint.get("value") or "", toleration.get("value") or ""
    if operator == "Exists":
        return True
    if operator in ("Lt", "Gt"):
        return _is_number(have) and _is_number(want) and (int(have) < int(want)) == (operator == "Lt") and have != want
    return bool(key) and have == want


def _is_number(text: str) -> bool:
    return text.lstrip("-").isdecimal()
