"""Counts that may be percentages (pure)."""

from __future__ import annotations


def scaled(value: int | str | None, total: int, *, round_up: bool, default: int | str = 0) -> int:
    """Returns an IntOrString as a count of `total`; raises ValueError for text that is no percentage."""
    if value is None:
        value = default
    if isinstance(value, int):
        return value
    if not value.endswith("%"):
        raise ValueError(f"invalid value for IntOrString: {value!r} is not a percentage")
    share = int(value[:-1]) * total
    return -(-share // 100) if round_up else share // 100
