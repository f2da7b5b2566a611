"""JSON merge patch (RFC 7386): objects merge, null removes, everything else replaces."""

from __future__ import annotations

from typing import Any

from proa.meta.objects import Obj


def apply(document: Any, patch: Any) -> Any:
    """Returns the patched document; neither argument is changed, but it shares parts with both."""
    if not isinstance(patch, dict):
        return patch
    merged: Obj = dict(document) if isinstance(document, dict) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = apply(merged.get(key), value)
    return merged


def difference(old: Any, new: Any) -> Any:
    """Returns the merge patch that turns `old` into `new` (two objects); empty if they are equal."""
    patch: Obj = {key: None for key in old if key not in new}
    for key, value in new.items():
        before = old.get(key)
        if isinstance(before, dict) and isinstance(value, dict):
            inner = difference(before, value)
            if inner:
                patch[key] = inner
        elif key not in old or before != value:
            patch[key] = value
    return patch
