"""What all tests share: the counts of replayed steps at the end of a run."""

from __future__ import annotations

import pytest


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Prints per theme how many recorded steps answered the same."""
    from tests.contract.test_recorded_exchanges import COUNTS

    counts = config.stash.get(COUNTS, [])
    if counts:
        terminalreporter.section("recorded exchanges: steps that answer as upstream's")
        for line in counts:
            terminalreporter.write_line(line)
