"""A container that its liveness probe restarts again and again; it has been at it since the tests of nodes began."""

from __future__ import annotations

import pytest

from tests.cluster.conformance.fleet import Fleet
from tests.cluster.waiting import eventually

pytestmark = pytest.mark.cluster

RESTARTS = 5


@pytest.mark.behaviour("[sig-node] Probing container should have monotonically increasing restart count")
def test_restart_counts_grow(restarting: Fleet) -> None:
    """Pauses of 10, 20, 40 and 80 s come before the later restarts."""
    seen = [0]

    def enough() -> bool:
        count = restarting.container("liveness").get("restartCount", 0)
        assert count >= seen[-1]
        seen.append(count)
        return bool(count >= RESTARTS)

    eventually(enough, 360, what=f"restarted {RESTARTS} times")
