"""How often Python's garbage collector looks, for processes that hold millions of objects without cycles.

API objects are trees: reference counts free them. The collector is only for the few cycles that exceptions and tasks
make, and with its usual thresholds it took a third of the time of a control plane whose heap grows.
"""

from __future__ import annotations

import gc

# Container objects more than at the last look; young looks per middle one; middle ones per look at everything.
_THRESHOLDS = 10_000, 20, 100


def settle() -> None:
    """Keeps what lives now out of every later look, and lets the collector look seldom from now on."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_THRESHOLDS)
    gc.enable()
