"""How Go prints values inside messages (`%v`): `map[a:1 b:[x y]]`."""

from __future__ import annotations

from typing import Any

from proa.meta.quantity import format_number


def go_value(value: Any) -> str:
    """Returns JSON data as Go's fmt prints it: maps sorted by key, texts bare."""
    if isinstance(value, dict):
        return "map[" + " ".join(f"{key}:{go_value(value[key])}" for key in sorted(value)) + "]"
    if isinstance(value, list):
        return "[" + " ".join(map(go_value, value)) + "]"
    if value is None:
        return "<nil>"
    if isinstance(value, bool):
        return "true" if value else "false"
    return format_number(value) if isinstance(value, int | float) else str(value)
