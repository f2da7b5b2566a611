"""How often Python's garbage collector looks, for processes that hold millions of objects without cycles.

API objects are trees: reference counts free them. The collector is only for the few cycles that exceptions and tasks
make, and with its usual thresholds it took a third of the time of a control plane whose heap grows.
"""

from __future__ import annotations

import gc
import time

# Container objects more than at the last look; young looks per middle one; middle ones per look at everything.
_THRESHOLDS = 10_000, 20, 100
# Looks that follow each other sooner than this mean that the heap grows: thousands of API objects arrive.
_GROWING_SECONDS = 2.0

_looked_at = float("-inf")
_spared = False


def settle() -> None:
    """Keeps what lives now out of every later look, and lets the collector look seldom from now on."""
    global _spared
    _spared = False
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_THRESHOLDS)
    if _after_look not in gc.callbacks:
        gc.callbacks.append(_after_look)
    gc.enable()


def catch_up() -> None:
    """Looks at all that was kept out of looks while the heap grew, if anything was; takes a second per million."""
    if _spared:
        gc.unfreeze()
        settle()


def _after_look(phase: str, info: dict[str, int]) -> None:
    """Keeps what has survived out of later looks, if the heap grows and there are no cycles in it."""
    global _looked_at, _spared
    if phase != "stop":
        return
    now = time.monotonic()
    growing, _looked_at = now - _looked_at < _GROWING_SECONDS, now
    if growing and not info["collected"]:
        _spared = True
        gc.freeze()
