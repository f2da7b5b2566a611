"""How much may be under way at once: requests that read and requests that write, each with its own bound.

Long-running ones (watch, exec, proxy) do not count. Above the bound: 429, to be tried again after a second.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from proa.meta.errors import too_many_requests

READS_MAX = 400
WRITES_MAX = 200
_RETRY_SECONDS = 1


class InFlight:
    """Counts requests under way; 0 for a bound: none."""

    def __init__(self, reads_max: int = READS_MAX, writes_max: int = WRITES_MAX) -> None:
        self.reads = 0
        self.writes = 0
        self._reads_max = reads_max
        self._writes_max = writes_max

    @contextmanager
    def admitted(self, read: bool) -> Iterator[None]:
        """Holds a place for one request; raises the 429 StatusError if there is none."""
        bound = self._reads_max if read else self._writes_max
        if bound and (self.reads if read else self.writes) >= bound:
            raise too_many_requests("Too many requests, please try again later.", _RETRY_SECONDS)
        if read:
            self.reads += 1
        else:
            self.writes += 1
        try:
            yield
        finally:
            if read:
                self.reads -= 1
            else:
                self.writes -= 1
