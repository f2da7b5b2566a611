"""The collector leaves alone what arrives in bursts, until it is told to catch up."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from proa.util import collector

FOUND, NOTHING = {"collected": 3, "generation": 0}, {"collected": 0, "generation": 0}


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    thresholds = gc.get_threshold()
    collector.settle()
    yield
    gc.callbacks.remove(collector._after_look)
    gc.unfreeze()
    gc.set_threshold(*thresholds)


def _grows(*looks: dict[str, int]) -> int:
    """Returns how many objects looks right after each other have spared."""
    before = gc.get_freeze_count()
    grown: list[list[int]] = [[] for _ in range(100)]
    for look in looks:
        collector._after_look("stop", look)
    spared = gc.get_freeze_count() - before
    assert len(grown) == 100  # they live until here
    return spared


def test_a_burst_without_cycles_is_spared() -> None:
    assert _grows(NOTHING, NOTHING) >= 100


def test_cycles_are_looked_for_again() -> None:
    collector._after_look("stop", NOTHING)
    assert _grows(FOUND) <= 0


def test_catching_up_finds_cycles_that_were_spared() -> None:
    cycle: list[object] = []
    cycle.append(cycle)
    _grows(NOTHING, NOTHING)
    del cycle
    found: list[int] = []
    gc.callbacks.append(lambda phase, info: found.append(info["collected"]) if phase == "stop" else None)
    try:
        collector.catch_up()
    finally:
        gc.callbacks.pop()
    assert found[0] >= 1
