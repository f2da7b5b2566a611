"""What thousands of nodes do once a period each, evenly spread, so that no burst makes any of them late.

A process that renewed its leases one after the other, or all at once, would be late whenever it has other work: each
name has its own moment here, and a call that takes long delays no other.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

from proa.meta.errors import StatusError

log = logging.getLogger(__name__)

_SLOT_SECONDS_MIN = 0.25
_RETRY_SECONDS = 1.0


class Rounds:
    """Calls `act(name)` for each name once per `period_seconds`; failures are tried again until the next turn."""

    def __init__(self, names: Sequence[str], period_seconds: float, act: Callable[[str], Awaitable[object]]) -> None:
        self._names = names
        self._period_seconds = period_seconds
        self._act = act
        self._running: dict[str, asyncio.Task[None]] = {}

    async def run(self) -> None:
        """Runs until cancelled; the first turn of the first name comes after a slot, that of the last a period later.

        A process that was held up goes on with whose turn it is by then, and with all it has missed.
        """
        if not self._names:
            return
        loop = asyncio.get_running_loop()
        slots = max(1, min(len(self._names), int(self._period_seconds / _SLOT_SECONDS_MIN)))
        slot_seconds = self._period_seconds / slots
        due, slot = loop.time(), 0
        try:
            while True:
                due = max(due + slot_seconds, loop.time() - self._period_seconds)
                await asyncio.sleep(max(0.0, due - loop.time()))
                for name in self._names[slot::slots]:
                    if name not in self._running:
                        task = self._running[name] = loop.create_task(self._turn(name), name="simulated turn")
                        task.add_done_callback(lambda _, name=name: self._running.pop(name, None))  # type: ignore[misc]
                slot = (slot + 1) % slots
        finally:
            for task in list(self._running.values()):
                task.cancel()

    async def _turn(self, name: str) -> None:
        for _ in range(max(1, int(self._period_seconds / _RETRY_SECONDS) - 1)):
            try:
                await self._act(name)
                return
            except (StatusError, OSError, EOFError) as error:
                log.debug("node %s: %s", name, error)
                last = error
            await asyncio.sleep(_RETRY_SECONDS)
        log.warning("node %s: %s", name, last)
