"""Time as an argument.

Everything that waits or stamps takes a `Clock`. Waiting itself is `asyncio.sleep` and loop timers: the in-process test
cluster runs on an event loop whose time is virtual, and its clock reads that loop, so a day passes in milliseconds.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Tells the time. `now` is for stamps that people read, `monotonic` for measuring spans."""

    def now(self) -> datetime:
        """Returns the current time, aware, in UTC, with microseconds."""
        ...

    def monotonic(self) -> float:
        """Returns seconds since an arbitrary start; never goes back."""
        ...


class SystemClock:
    """The machine's own clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()


def rfc3339(moment: datetime) -> str:
    """Formats a time as Kubernetes' `Time`: UTC, whole seconds, for example `2026-01-02T03:04:05Z`."""
    return moment.isoformat(timespec="seconds")[:19] + "Z"


def rfc3339_micro(moment: datetime) -> str:
    """Formats a time as Kubernetes' `MicroTime`: UTC, six decimals."""
    return moment.isoformat(timespec="microseconds")[:26] + "Z"


def parse_rfc3339(text: str) -> datetime:
    """Reads a `Time` or `MicroTime`; raises ValueError on anything else."""
    return datetime.fromisoformat(text.replace("Z", "+00:00")).astimezone(UTC)
