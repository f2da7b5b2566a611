"""The world that most behaviours play in."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from proa.testing import FOREVER, Life
from tests.controllers.conformance.world import World


@pytest.fixture
def world() -> Iterator[World]:
    """Two simulated nodes on which pods just run; those labelled `unready=yes` are not ready."""
    with World([Life(labels={"unready": "yes"}, ready_seconds=FOREVER)]) as running:
        yield running
