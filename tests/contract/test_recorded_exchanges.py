"""Replays what upstream's API server v1.36 answered, theme by theme, and compares every answer.

The floor of a theme is how many of its steps answer the same today; it only goes up. What is below a theme's total is
listed by cause in docs/compatibility.md. The counts are printed at the end of the test run.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from proa.testing import Cluster
from tests.recorded import folder

# theme -> steps that differ at most
API_SERVER_ALONE = {
    "admission-policies": 0,
    "apply": 0,
    "authorization": 0,
    "certificates": 0,
    "conflicts": 0,
    "custom-resources": 0,
    "defaulting": 0,
    "delete": 0,
    "dry-run": 0,
    "events-and-leases": 0,
    "field-validation": 0,
    "lists": 0,
    "metadata": 0,
    "namespaces": 0,
    "negotiation": 3,
    "patch-json": 0,
    "patch-merge": 0,
    "patch-strategic": 0,
    "quota-and-limits": 0,
    "selectors": 0,
    "services": 0,
    "subresources": 0,
    "tables": 0,
    "updates": 0,
    "validation": 0,
    "watch": 6,
}
WITH_CONTROLLERS = {"controllers": 0}
AGED = {"expired": 0}
REPLAY_SECONDS_MAX = 300


@pytest.fixture(scope="module")
def alone() -> Iterator[Path]:
    """An API server alone: nothing moves by itself."""
    with Cluster(nodes=0, controllers=False, https=True) as cluster:
        assert cluster.kubeconfig is not None
        yield cluster.kubeconfig


@pytest.fixture(scope="module")
def controlled() -> Iterator[Path]:
    """A control plane without nodes."""
    with Cluster(nodes=0, https=True) as cluster:
        assert cluster.kubeconfig is not None
        yield cluster.kubeconfig


@pytest.fixture(scope="module")
def aged() -> Iterator[Path]:
    """An API server that has dropped old revisions, as upstream does after ten minutes."""
    with Cluster(nodes=0, controllers=False, https=True) as cluster:
        assert cluster.kubeconfig is not None
        cluster.advance(minutes=15)
        yield cluster.kubeconfig


def replay(kubeconfig: Path, exchanges: str, theme: str, record: pytest.FixtureRequest) -> list[str]:
    """Replays a theme, notes its count for the summary, and returns the differing steps."""
    recorded = folder()
    done = subprocess.run(
        [
            sys.executable,
            str(recorded / "replay.py"),
            f"--kubeconfig={kubeconfig}",
            f"--dir={recorded / exchanges}",
            f"--theme={theme}",
        ],
        capture_output=True,
        text=True,
        timeout=REPLAY_SECONDS_MAX,
        check=False,
    )
    counted = re.search(rf"^{theme}: (\d+)/(\d+) steps$", done.stdout, re.MULTILINE)
    assert counted, done.stdout + done.stderr
    record.config.stash.setdefault(COUNTS, []).append(counted.group(0))
    differing = dict.fromkeys(re.findall(rf"^({theme}/.* step \d+: \S+ \S+): ", done.stdout, re.MULTILINE))
    assert len(differing) == int(counted[2]) - int(counted[1])
    return [line for line in done.stdout.splitlines() if line.startswith(f"{theme}/")] if differing else []


COUNTS = pytest.StashKey[list[str]]()


def is_older(line: str) -> bool:
    """Tells whether a difference is that time has passed since a fixed date: `"5 (6y328d ago)" ≠ "5 (6y331d ago)"`."""
    expected, _, got = line.partition(" ≠ ")
    ages = re.compile(r"\((\d+[ydhms])+ ago\)")
    return bool(ages.search(got)) and ages.sub("", expected).endswith(ages.sub("", got))


def check(lines: list[str], theme: str, differing_max: int) -> None:
    steps = {line.split(": ")[0] for line in lines if not is_older(line)}
    assert len(steps) <= differing_max, f"{theme}: {len(steps)} steps differ:\n" + "\n".join(lines)


@pytest.mark.parametrize("theme", API_SERVER_ALONE)
def test_api_server_alone(alone: Path, theme: str, request: pytest.FixtureRequest) -> None:
    check(replay(alone, "exchanges", theme, request), theme, API_SERVER_ALONE[theme])


@pytest.mark.parametrize("theme", WITH_CONTROLLERS)
def test_with_controllers(controlled: Path, theme: str, request: pytest.FixtureRequest) -> None:
    check(replay(controlled, "exchanges-controllers", theme, request), theme, WITH_CONTROLLERS[theme])


@pytest.mark.parametrize("theme", AGED)
def test_aged(aged: Path, theme: str, request: pytest.FixtureRequest) -> None:
    check(replay(aged, "exchanges-aged", theme, request), theme, AGED[theme])
