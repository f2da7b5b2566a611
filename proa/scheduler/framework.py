"""What a scheduler plugin is, and in which order plugins are asked.

The points are upstream's scheduling framework's: queue sort (pod priority, then age: `queue.py`), pre-enqueue,
pre-filter, filter, post-filter, score, reserve, permit, pre-bind, bind, post-bind. A plugin overrides the methods it
needs; `filter` and `score` answer for all given rows at once. Pure: no I/O, no clock, no randomness; what has to happen
in the API before a pod is bound is returned as values (`Change`, `Until`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntFlag, auto
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from proa.meta.gvk import GVR
from proa.meta.objects import Obj
from proa.scheduler.columns import Columns, Ints, Mask
from proa.scheduler.pod import PodInfo

if TYPE_CHECKING:
    from proa.scheduler.extender import Extender

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
    VOLUME = auto()  # claims, volumes, classes, CSI nodes, drivers and capacities
    DEVICE = auto()  # resource claims, slices, device classes
    NODE_FEATURES = auto()  # what the node declares that it can do
    NODE = NODE_ADD | NODE_ALLOCATABLE | NODE_LABEL | NODE_TAINT | NODE_FEATURES
    ANY = NODE | POD_ADD | POD_DELETE | POD_UPDATE | VOLUME | DEVICE


@dataclass(frozen=True, slots=True)
class Event:
    """A happening with what it happened to, for `Plugin.helps`: a node, a placed pod, or an object of storage or
    devices."""

    what: Happening
    node: Obj | None = None
    pod: PodInfo | None = None
    obj: Obj | None = None


@dataclass(slots=True)
class Rejection:
    """Rows that a filter refuses: `mask` over the rows asked about. `resolvable`: removing pods could help."""

    mask: Mask
    text: str
    resolvable: bool = True


class PostFilterError(Exception):
    """A post-filter could not do its work; the text ends the pod's message, and no other post-filter is asked."""


class Refused(Exception):
    """A change before binding cannot be made any more; the text says why."""


@dataclass(frozen=True, slots=True)
class Change:
    """A write that must be made before a pod is bound: `change` turns the newest state of the object into the wanted
    one (None: nothing to do), and raises Refused. Without `name`, what `change({})` returns is created."""

    resource: GVR
    namespace: str
    name: str
    change: Callable[[Obj], Obj | None]
    subresource: str = ""


@dataclass(frozen=True, slots=True)
class Until:
    """Something to wait for before a pod is bound: `done` is asked after each event, and raises Refused."""

    done: Callable[[], bool]
    timeout_seconds: float
    late: str


class Plugin:
    """A plugin that does nothing. `wakes` tells which happenings may help a pod that it rejected."""

    name = ""
    wakes = Happening.ANY

    def pre_enqueue(self, pod: PodInfo, columns: Columns) -> str:
        """Returns why the pod may not even be tried, or nothing."""
        return ""

    def pre_filter(self, pod: PodInfo, columns: Columns) -> str:
        """Returns why no node at all can take the pod, or nothing."""
        return ""

    def filter(self, pod: PodInfo, columns: Columns, rows: Ints) -> Sequence[Rejection]:
        """Returns which of the rows cannot take the pod, and why."""
        return ()

    def post_filter(self, pod: PodInfo, columns: Columns) -> tuple[str, Sequence[Change]]:
        """Called when no node can take the pod: returns a text for its message, and changes that may help. Raises
        PostFilterError."""
        return "", ()

    def score(self, pod: PodInfo, columns: Columns, rows: Ints) -> Ints | None:
        """Returns 0 to 100 for each of the rows (the feasible ones); None if the plugin has nothing to say."""
        return None

    def reserve(self, pod: PodInfo, node: str, columns: Columns) -> str:
        """Called once a node is chosen; returns why not, or nothing."""
        return ""

    def unreserve(self, pod: PodInfo, node: str, columns: Columns) -> None:
        """Takes a reservation back."""

    def permit(self, pod: PodInfo, node: str) -> str:
        """Called last before binding; returns why not, or nothing."""
        return ""

    def pre_bind(self, pod: PodInfo, node: str, columns: Columns) -> Sequence[Change | Until]:
        """Returns what must happen in the API before the pod is bound, in order."""
        return ()

    def post_bind(self, pod: PodInfo, node: str) -> None:
        """Called when the pod is bound."""

    def helps(self, pod: PodInfo, event: Event, columns: Columns) -> bool:
        """Tells whether an event of `wakes` may help a pod that this plugin rejected (upstream's queueing hint)."""
        return True


class NodePlugin(Plugin):
    """For plugins that look at one node at a time: override `filter_node` and `score_node`."""

    def filter_node(self, pod: Obj, node: Obj) -> str:
        """Returns why the node cannot take the pod, or nothing."""
        return ""

    def score_node(self, pod: Obj, node: Obj) -> int:
        """Returns 0 to 100."""
        return 0

    def filter(self, pod: PodInfo, columns: Columns, rows: Ints) -> Sequence[Rejection]:
        if type(self).filter_node is NodePlugin.filter_node:
            return ()
        by_text: dict[str, list[int]] = {}
        for position, row in enumerate(rows):
            text = self.filter_node(pod.obj, columns.nodes[row] or {})
            if text:
                by_text.setdefault(text, []).append(position)
        rejections = []
        for text, positions in by_text.items():
            mask = np.zeros(len(rows), dtype=bool)
            mask[positions] = True
            rejections.append(Rejection(mask, text, resolvable=False))
        return rejections

    def score(self, pod: PodInfo, columns: Columns, rows: Ints) -> Ints | None:
        if type(self).score_node is NodePlugin.score_node:
            return None
        scores = [self.score_node(pod.obj, columns.nodes[row] or {}) for row in rows]
        return np.clip(np.array(scores, dtype=np.int64), 0, SCORE_MAX)


POINTS = (
    "pre_enqueue",
    "pre_filter",
    "filter",
    "post_filter",
    "score",
    "reserve",
    "permit",
    "pre_bind",
    "post_bind",
)


@dataclass(frozen=True)
class Profile:
    """The plugins that serve one schedulerName, in order, with the weights of their scores (default 1).

    `points` names the plugins of a point in their order where that is not simply all that override its method.
    `preemption` tells whether DefaultPreemption is on; `score_percentage` bounds the nodes that are scored (0: all).
    """

    name: str
    plugins: tuple[Plugin, ...]
    weights: Mapping[str, int] = field(default_factory=dict)
    points: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    preemption: bool = True
    candidates_percentage: int = 10
    candidates_min: int = 100
    score_percentage: int = 0
    extenders: tuple[Extender, ...] = ()

    def weight(self, plugin: Plugin) -> int:
        return self.weights.get(plugin.name, 1)

    def _at(self, point: str) -> tuple[Plugin, ...]:
        able = [one for one in self.plugins if getattr(type(one), point) is not getattr(Plugin, point)]
        if point not in self.points:
            return tuple(able)
        named = {one.name: one for one in able}
        return tuple(named[name] for name in self.points[point] if name in named)

    @cached_property
    def gates(self) -> tuple[Plugin, ...]:
        return self._at("pre_enqueue")

    @cached_property
    def pre_filters(self) -> tuple[Plugin, ...]:
        return self._at("pre_filter")

    @cached_property
    def filters(self) -> tuple[Plugin, ...]:
        return self._at("filter")

    @cached_property
    def post_filters(self) -> tuple[Plugin, ...]:
        return self._at("post_filter")

    @cached_property
    def scorers(self) -> tuple[Plugin, ...]:
        return self._at("score")

    @cached_property
    def reservers(self) -> tuple[Plugin, ...]:
        return self._at("reserve")

    @cached_property
    def permitters(self) -> tuple[Plugin, ...]:
        return self._at("permit")

    @cached_property
    def pre_binders(self) -> tuple[Plugin, ...]:
        return self._at("pre_bind")

    @cached_property
    def post_binders(self) -> tuple[Plugin, ...]:
        return self._at("post_bind")


def normalized(scores: Any, *, reverse: bool = False) -> Ints:
    """Scales non-negative scores so that the largest becomes 100; reversed, the smallest wins."""
    largest = int(scores.max(initial=0))
    if largest == 0:
        return scores * 0 + (SCORE_MAX if reverse else 0)  # type: ignore[no-any-return]
    scaled = scores * SCORE_MAX // largest
    return SCORE_MAX - scaled if reverse else scaled  # type: ignore[no-any-return]
