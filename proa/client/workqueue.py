"""A queue of keys for workers, as client-go's: a key waits once, and is never worked on twice at the same time.

A key added while being worked on waits until `done`. Failed keys come back after a delay that doubles per failure.
All delays are event-loop timers, so virtual time applies.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


class ShutDown(Exception):
    """The queue is closed and empty."""


class WorkQueue(Generic[K]):
    """`retry_seconds_first` to `retry_seconds_max`: the exponential delays of `add_rate_limited`, per key."""

    def __init__(
        self, name: str = "", *, retry_seconds_first: float = 0.005, retry_seconds_max: float = 1000.0
    ) -> None:
        self.name = name
        self.adds = 0
        self.retries = 0
        self._first = retry_seconds_first
        self._max = retry_seconds_max
        self._queue: deque[K] = deque()
        self._dirty: set[K] = set()
        self._processing: set[K] = set()
        self._failures: dict[K, int] = {}
        self._timers: dict[K, asyncio.TimerHandle] = {}
        self._getters: deque[asyncio.Future[None]] = deque()
        self._closed = False

    def __len__(self) -> int:
        return len(self._queue)

    @property
    def idle(self) -> bool:
        """True if nothing is queued or worked on (delayed keys do not count)."""
        return not self._dirty and not self._processing

    def add(self, key: K) -> None:
        """Queues the key unless it already waits."""
        if self._closed or key in self._dirty:
            return
        self.adds += 1
        self._dirty.add(key)
        if key not in self._processing:
            self._push(key)

    def add_after(self, key: K, seconds: float) -> None:
        """Queues the key after a delay; an earlier delay for the same key wins."""
        if seconds <= 0:
            self.add(key)
            return
        if self._closed:
            return
        loop = asyncio.get_running_loop()
        when = loop.time() + seconds
        timer = self._timers.get(key)
        if timer is not None:
            if timer.when() <= when:
                return
            timer.cancel()
        self._timers[key] = loop.call_at(when, self._ripe, key)

    def add_rate_limited(self, key: K) -> None:
        """Queues the key after its next back-off delay."""
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        self.retries += 1
        self.add_after(key, min(self._first * 2 ** min(failures, 40), self._max))

    def forget(self, key: K) -> None:
        """Ends the key's back-off: its next failure starts with the first delay again."""
        self._failures.pop(key, None)

    def failures(self, key: K) -> int:
        return self._failures.get(key, 0)

    async def get(self) -> K:
        """Waits for a key and returns it; the caller must call `done`. Raises ShutDown."""
        while not self._queue:
            if self._closed:
                raise ShutDown
            getter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._getters.append(getter)
            try:
                await getter
            except asyncio.CancelledError:
                if getter.done() and not getter.cancelled() and self._queue:
                    self._wake()
                raise
        key = self._queue.popleft()
        self._dirty.discard(key)
        self._processing.add(key)
        return key

    def done(self, key: K) -> None:
        """Ends the work on a key; it queues again if it was added meanwhile."""
        self._processing.discard(key)
        if key in self._dirty:
            self._push(key)

    def close(self) -> None:
        """Wakes all waiting workers with ShutDown once the queue is empty, and drops delayed keys."""
        self._closed = True
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        while self._getters:
            self._wake()

    def _ripe(self, key: K) -> None:
        self._timers.pop(key, None)
        self.add(key)

    def _push(self, key: K) -> None:
        self._queue.append(key)
        self._wake()

    def _wake(self) -> None:
        while self._getters:
            getter = self._getters.popleft()
            if not getter.done():
                getter.set_result(None)
                return
