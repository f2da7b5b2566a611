"""Waiting for a condition with a deadline: what tests do instead of sleeping."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

SECONDS_MAX = 60.0
INTERVAL_SECONDS = 0.1


def eventually(condition: Callable[[], T], seconds_max: float = SECONDS_MAX, what: str = "") -> T:
    """Calls `condition` until it returns something true, and returns that; fails with the last value (or assertion)."""
    deadline = time.monotonic() + seconds_max
    last: object = None
    while True:
        try:
            found = condition()
            if found:
                return found
            last = found
        except AssertionError as error:
            last = error
        if time.monotonic() > deadline:
            raise AssertionError(f"not in {seconds_max} s: {what or condition}: {last!r}")
        time.sleep(INTERVAL_SECONDS)
