"""Reads upstream's recorded answers (`recorded/exchanges`), which tests use as data; skips where they are absent."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest

SHARED = Path(os.environ.get("PROA_SHARED") or Path(__file__).parents[3] / "shared")


@lru_cache(maxsize=32)
def load(name: str) -> Any:
    """Returns a file of the recorded folder, decoded."""
    path = SHARED / "recorded" / name
    if not path.exists():
        pytest.skip(f"no recorded facts at {path} (set PROA_SHARED)", allow_module_level=True)
    return json.loads(path.read_text())


def steps(theme: str) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """Yields (sequence name, request, response) for every step of a theme."""
    for sequence in load(f"exchanges/{theme}.json"):
        for step in sequence["steps"]:
            yield sequence["name"], step["request"], step.get("response") or {}
