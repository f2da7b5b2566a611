"""The work queue: one wait per key, no concurrent work on a key, delays on loop time."""

from __future__ import annotations

import asyncio

import pytest

from proa.client.workqueue import ShutDown, WorkQueue
from proa.util.virtualtime import run_virtual


def test_a_key_waits_once_and_in_order() -> None:
    async def main() -> list[str]:
        queue: WorkQueue[str] = WorkQueue()
        for key in ("b", "a", "b"):
            queue.add(key)
        return [await queue.get() for _ in range(len(queue))]

    assert run_virtual(main()) == ["b", "a"]


def test_a_key_added_during_work_comes_back_after_done() -> None:
    async def main() -> None:
        queue: WorkQueue[str] = WorkQueue()
        queue.add("a")
        assert await queue.get() == "a"
        queue.add("a")
        assert len(queue) == 0
        queue.done("a")
        assert await queue.get() == "a"
        queue.done("a")
        assert queue.idle

    run_virtual(main())


def test_delays_keep_the_earliest() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        queue: WorkQueue[str] = WorkQueue()
        queue.add_after("a", 100)
        queue.add_after("a", 10)
        queue.add_after("a", 50)
        await queue.get()
        assert loop.time() == pytest.approx(10)
        queue.done("a")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(queue.get(), 1000)

    run_virtual(main())


def test_failures_double_the_delay_until_forgotten() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        queue: WorkQueue[str] = WorkQueue(retry_seconds_first=1, retry_seconds_max=5)
        waits = []
        for _ in range(5):
            before = loop.time()
            queue.add_rate_limited("a")
            await queue.get()
            queue.done("a")
            waits.append(round(loop.time() - before))
        assert waits == [1, 2, 4, 5, 5]
        queue.forget("a")
        before = loop.time()
        queue.add_rate_limited("a")
        await queue.get()
        assert loop.time() - before == pytest.approx(1)

    run_virtual(main())


def test_close_ends_waiting_workers() -> None:
    async def main() -> None:
        queue: WorkQueue[str] = WorkQueue()
        workers = [asyncio.create_task(queue.get()) for _ in range(3)]
        await asyncio.sleep(0)
        queue.close()
        results = await asyncio.gather(*workers, return_exceptions=True)
        assert [type(one) for one in results] == [ShutDown] * 3

    run_virtual(main())


def test_a_cancelled_waiter_does_not_swallow_a_key() -> None:
    async def main() -> None:
        queue: WorkQueue[str] = WorkQueue()
        first = asyncio.create_task(queue.get())
        second = asyncio.create_task(queue.get())
        await asyncio.sleep(0)
        queue.add("a")
        first.cancel()
        assert await asyncio.wait_for(second, 1) == "a"

    run_virtual(main())
