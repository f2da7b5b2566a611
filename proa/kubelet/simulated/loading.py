"""Reads simulation files, again when they change."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

import yaml

from proa.kubelet.simulated.configuration import ConfigurationError, Simulation, parse

log = logging.getLogger(__name__)

_LOOK_SECONDS = 2.0


def load(file: Path) -> Simulation:
    """Returns what a file says; raises ConfigurationError for what is not valid, OSError if it cannot be read."""
    try:
        content = yaml.load(file.read_text(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"not YAML ({' '.join(str(error).split())})") from error
    return parse(content)


async def follow(file: Path, changed: Callable[[Simulation], None]) -> None:
    """Calls `changed` whenever the file does and is valid, until cancelled."""
    known = _mark(file)
    while True:
        await asyncio.sleep(_LOOK_SECONDS)
        mark = _mark(file)
        if mark == known:
            continue
        known = mark
        try:
            simulation = await asyncio.to_thread(load, file)
        except (ConfigurationError, OSError) as error:
            log.error("%s is not read again: %s", file, error)
            continue
        log.info("%s has changed: pods live as it says now", file)
        changed(simulation)


def _mark(file: Path) -> tuple[int, int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
