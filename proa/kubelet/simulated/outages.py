"""What has been wrong with a simulated node, and what that did to time on it (pure).

A node that failed lost its containers and came back empty. One that hung stood still: nothing on it went on. One behind
a partition went on, but heard and said nothing. Times are seconds since the epoch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from proa.kubelet.simulated.life import FOREVER

FAIL, HANG, PARTITION = "fail", "hang", "partition"


@dataclass(frozen=True, slots=True)
class Outage:
    """`kind` is FAIL, HANG or PARTITION; `end` is FOREVER while it lasts."""

    kind: str
    start: float
    end: float = FOREVER


def awake(outages: Sequence[Outage], at: float) -> float:
    """Returns when something can happen on the node that falls due at `at`: then, or when the node is back."""
    for one in outages:
        if one.kind != PARTITION and one.start <= at < one.end:
            at = one.end
    return at


def learned(outages: Sequence[Outage], at: float) -> float:
    """Returns when the node learns of what the API server knows since `at`."""
    for one in outages:
        if one.start <= at < one.end:
            at = one.end
    return at


def later(outages: Sequence[Outage], at: float, seconds: float) -> float:
    """Returns when `seconds` of the node's own time have passed since `at`: while it hangs none does."""
    due = at + seconds
    for one in outages:
        if one.kind == HANG and one.start < due and one.end > at:
            due += one.end - max(one.start, at)
    return awake(outages, due)
