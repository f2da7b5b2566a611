"""Slow start: writes in batches of 1, 2, 4, …, so that a refusal (a quota, say) costs few useless requests."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable


async def slow_start(count: int, write: Callable[[], Awaitable[object]]) -> tuple[int, Exception | None]:
    """Calls `write` up to `count` times; stops after the first batch with a failure.

    Returns how many succeeded, and the first failure.
    """
    done, size = 0, 1
    while done < count:
        size = min(size, count - done)
        results = await asyncio.gather(*(write() for _ in range(size)), return_exceptions=True)
        failures = [one for one in results if isinstance(one, BaseException)]
        done += size - len(failures)
        for failure in failures:
            if not isinstance(failure, Exception):
                raise failure
            return done, failure
        size *= 2
    return done, None
