"""Virtual time: an event loop that jumps to its next timer whenever nothing else is left to do.

A test waits for days in milliseconds, and in a repeatable order. Sockets still work: before each jump the loop looks
whether one is ready, and while work runs in the loop's executor it does not jump. For other threads see
`VirtualTimeLoop.hold`.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

T = TypeVar("T")

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


class _JumpingSelector(selectors.DefaultSelector):
    """Answers at once when nothing is ready, and moves the time on instead of waiting."""

    seconds = 0.0
    holds = 0

    def select(self, timeout: float | None = None) -> Any:
        if timeout is None or self.holds:
            started = selectors_time()
            ready = super().select(timeout)
            self.seconds += selectors_time() - started
            return ready
        ready = super().select(0)
        if not ready and timeout > 0:
            self.seconds += timeout
        return ready


def selectors_time() -> float:
    """The machine's monotonic seconds: what a real wait takes is added to the virtual time."""
    import time

    return time.monotonic()


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """Its `time()` starts at 0 and advances only as described above."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.seconds

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> Any:  # type: ignore[override]
        self._jumping.holds += 1
        future = super().run_in_executor(executor, func, *args)
        future.add_done_callback(self._release_one)
        return future

    def _release_one(self, _: asyncio.Future[Any]) -> None:
        self._jumping.holds -= 1

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Within this, time passes as the machine's does: for peers outside the loop (threads, other processes)."""
        self._jumping.holds += 1
        try:
            yield
        finally:
            self._jumping.holds -= 1

    @contextmanager
    def release(self) -> Iterator[None]:
        """Within this, time jumps again, inside a `hold`."""
        self._jumping.holds -= 1
        try:
            yield
        finally:
            self._jumping.holds += 1


class LoopClock:
    """A `Clock` that reads an event loop's time; `epoch` is what it says at the loop's time 0."""

    def __init__(self, loop: asyncio.AbstractEventLoop, epoch: datetime = EPOCH) -> None:
        self._loop = loop
        self._epoch = epoch

    def now(self) -> datetime:
        return self._epoch + timedelta(seconds=self._loop.time())

    def monotonic(self) -> float:
        return self._loop.time()


def run_virtual(main: Coroutine[Any, Any, T]) -> T:
    """Runs a coroutine to its end on a loop of its own with virtual time."""
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(main)
