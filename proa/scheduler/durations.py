"""Durations as Go reads and writes them: `1m30s`, `250ms`."""

from __future__ import annotations

_UNITS = {"ms": 0.001, "us": 0.000_001, "ns": 0.000_000_001, "s": 1.0, "m": 60.0, "h": 3600.0}


def duration(seconds: float) -> str:
    """Formats seconds."""
    if seconds < 1:
        return f"{round(seconds * 1000)}ms" if seconds else "0s"
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(int(minutes), 60)
    text = f"{rest:.3f}".rstrip("0").rstrip(".") + "s"
    if hours:
        return f"{hours}h{minutes}m{text}"
    return f"{minutes}m{text}" if minutes else text


def seconds_of(text: object) -> float | None:
    """Reads a duration, in seconds; None if it is malformed."""
    total, rest = 0.0, str(text)
    if rest == "0":
        return total
    while rest:
        digits = len(rest) - len(rest.lstrip("0123456789."))
        unit = next((one for one in _UNITS if rest[digits:].startswith(one)), None)
        if not digits or unit is None:
            return None
        total += float(rest[:digits]) * _UNITS[unit]
        rest = rest[digits + len(unit) :]
    return total if str(text) else None
