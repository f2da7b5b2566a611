"""Finds the facts recorded from upstream's v1.36 API server: in $PROA_SHARED, or in `../shared` beside the checkout."""

from __future__ import annotations

import functools
import json
import os
from pathlib import Path
from typing import Any

import pytest


def folder() -> Path:
    """Returns the folder of the recordings; skips the test if there is none."""
    shared = os.environ.get("PROA_SHARED") or Path(__file__).resolve().parents[2] / "shared"
    found = Path(shared) / "recorded"
    if not found.is_dir():
        pytest.skip(f"no recorded facts in {found}; set PROA_SHARED")
    return found


@functools.cache
def load(name: str) -> Any:
    """Returns one recorded JSON file, such as `exchanges/updates.json`; shared, so don't change it."""
    with open(folder() / name, encoding="utf-8") as file:
        return json.load(file)
