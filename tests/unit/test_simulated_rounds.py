"""Turns of simulated nodes: one per period each, evenly spread, late for nobody."""

from __future__ import annotations

import asyncio
from collections import Counter

from proa.kubelet.simulated.rounds import Rounds
from proa.meta.errors import StatusError
from proa.util.virtualtime import run_virtual


def _names(count: int) -> list[str]:
    return [f"n{number}" for number in range(count)]


def test_each_has_its_turn_once_a_period_evenly_spread() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        turns: list[tuple[float, str]] = []

        async def act(name: str) -> None:
            turns.append((loop.time(), name))

        task = asyncio.create_task(Rounds(_names(1000), 25.0, act).run())
        await asyncio.sleep(75.1)
        task.cancel()
        assert set(Counter(name for _, name in turns).values()) == {3}
        assert max(Counter(when for when, _ in turns).values()) <= 10  # of 100 moments in a period

    run_virtual(main())


def test_few_nodes_cause_few_wake_ups() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        turns: list[float] = []

        async def act(name: str) -> None:
            turns.append(loop.time())

        task = asyncio.create_task(Rounds(_names(2), 10.0, act).run())
        await asyncio.sleep(21)
        task.cancel()
        assert turns == [5.0, 10.0, 15.0, 20.0]

    run_virtual(main())


def test_a_slow_one_delays_no_other_and_a_failed_one_tries_again() -> None:
    async def main() -> None:
        turns: Counter[str] = Counter()

        async def act(name: str) -> None:
            turns[name] += 1
            if name == "n0":
                await asyncio.sleep(1000)
            if name == "n1" and turns[name] < 3:
                raise StatusError(503, "ServiceUnavailable", "not now")

        task = asyncio.create_task(Rounds(_names(4), 10.0, act).run())
        await asyncio.sleep(10.1)
        assert turns == {"n0": 1, "n1": 3, "n2": 1, "n3": 1}
        await asyncio.sleep(10)
        assert turns == {"n0": 1, "n1": 4, "n2": 2, "n3": 2}
        task.cancel()

    run_virtual(main())
