"""What a scheduler plugin is, and in which order plugins are asked.

The points are upstream's scheduling framework's: queue sort (pod priority, then age: `queue.py`), pre-enqueue,
pre-filter, filter, post-filter (preemption: `preemption.py`), score, reserve, permit, bind. A plugin overrides the
methods it needs; `filter` and `score` answer for all given rows at once. Pure: no I/O, no clock, no randomness.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntFlag, auto
from typing import Any

from proa.scheduler.columns import Columns, Ints, Mask
from proa.scheduler.pod import PodInfo

SCORE_MAX = 100


class Happening(IntFlag):
    """What changes in a cluster can make a waiting pod fit."""

    NODE_ADD = auto()
    NODE_ALLOCATABLE = auto()
    NODE_LABEL = auto()
    NODE_TAINT = auto()  # includes spec.unschedulable
    POD_ADD = auto()  # a pod on a node appeared or changed its labels
    POD_DELETE = auto()  # a pod on a node is gone, or needs less
    POD_UPDATE = auto()  # the waiting pod itself changed
    VOLUME = auto()  # claims, volumes, classes
    NODE = NODE_ADD | NODE_ALLOCATABLE | NODE_LABEL | NODE_TAINT
    ANY = NODE | POD_ADD | POD_DELETE | POD_UPDATE | VOLUME


@dataclass(slots=True)
class Rejection:
    """Rows that a filter refuses: `mask` over the rows asked about. `resolvable`: removing pods could help."""

    mask: Mask
    text: str
    resolvable: bool = True


class Plugin:
    """A plugin that does nothing; `wakes` tells which happenings may help a pod that it rejected."""

    name = ""
    wakes = Happening.ANY

    def pre_enqueue(self, pod: PodInfo) -> str:
        """Returns why the pod may not even be tried, or nothing."""
        return ""

    def pre_filter(self, pod: PodInfo, columns: Columns) -> str:
        """Returns why no node at all can take the pod, or nothing."""
        return ""

    def filter(self, pod: PodInfo, columns: Columns, rows: Ints) -> Sequence[Rejection]:
        """Returns which of the rows cannot take the pod, and why."""
        return ()

    def score(self, pod: PodInfo, columns: Columns, rows: Ints) -> Ints | None:
        """Returns 0 to 100 for each of the rows (the feasible ones); None if the plugin has nothing to say."""
        return None

    def reserve(self, pod: PodInfo, node: str) -> str:
        """Called once a node is chosen; returns why not, or nothing."""
        return ""

    def unreserve(self, pod: PodInfo, node: str) -> None:
        """Takes a reservation back."""

    def permit(self, pod: PodInfo, node: str) -> str:
        """Called last before binding; returns why not, or nothing."""
        return ""


@dataclass(frozen=True, slots=True)
class Profile:
    """The plugins that serve one schedulerName, in order, with the weights of their scores (default 1)."""

    name: str
    plugins: tuple[Plugin, ...]
    weights: Mapping[str, int] = field(default_factory=dict)

    def weight(self, plugin: Plugin) -> int:
        return self.weights.get(plugin.name, 1)


def normalized(scores: Any, *, reverse: bool = False) -> Ints:
    """Scales non-negative scores so that the largest becomes 100; reversed, the smallest wins."""
    largest = int(scores.max(initial=0))
    if largest == 0:
        return scores * 0 + (SCORE_MAX if reverse else 0)  # type: ignore[no-any-return]
    scaled = scores * SCORE_MAX // largest
    return SCORE_MAX - scaled if reverse else scaled  # type: ignore[no-any-return]
