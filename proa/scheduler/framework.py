"""What a scheduler plugin is, and in which order plugins are asked.

The points are upstream's scheduling framework's: queue sort, pre-enqueue, pre-filter, filter, post-filter, pre-score,
score, reserve, permit, pre-bind, bind, post-bind. A plugin overrides the methods it needs; `filter` and `score` answer
for all given rows at once. Pure: no I/O, no clock, no randomness; what has to happen in the API before a pod is bound,
or to bind it, is returned as values (`Change`, `Until`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntFlag, auto
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from proa.meta.objects import Obj
from proa.scheduler.columns import Columns, Ints, Mask
from proa.scheduler.pod import PodInfo
from proa.scheduler.steps import DEFAULT_BINDER, Change, PostFilterError, Refused, Steps, Tell, Until, Wait

if TYPE_CHECKING:
    from proa.scheduler.extender import Extender
    from proa.scheduler.waiting import Handle

__all__ = [
    "POINTS",
    "SCORE_MAX",
    "Change",
    "Event",
    "Happening",
    "NodePlugin",
    "Plugin",
    "PostFilterError",
    "Profile",
    "Refused",
    "Rejection",
    "Steps",
    "Tell",
    "Until",
    "Wait",
    "normalized",
]

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


class Plugin:
    """A plugin that does nothing. `wakes` tells which happenings may help a pod that it rejected; `handle` is there
    once the scheduler runs."""

    name = ""
    wakes = Happening.ANY
    handle: Handle

    def queue_key(self, pod: PodInfo, since: float) -> Any:
        """Returns what pods are tried in the order of: the smallest first. `since` is when the pod came, in seconds."""
        return (-pod.priority, since)

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

    def pre_score(self, pod: PodInfo, columns: Columns, rows: Ints) -> None:
        """Called with the feasible rows before they are scored."""

    def score(self, pod: PodInfo, columns: Columns, rows: Ints) -> Ints | None:
        """Returns 0 to 100 for each of the rows (the feasible ones); None if the plugin has nothing to say."""
        return None

    def reserve(self, pod: PodInfo, node: str, columns: Columns) -> str:
        """Called once a node is chosen; returns why the pod is rejected, or nothing. Raises Refused for an error."""
        return ""

    def unreserve(self, pod: PodInfo, node: str, columns: Columns) -> Steps | None:
        """Takes a reservation back; returns what has to be undone in the API."""
        return None

    def permit(self, pod: PodInfo, node: str) -> str | Wait:
        """Called last before binding; returns why the pod is rejected, nothing, or that it has to wait."""
        return ""

    def pre_bind(self, pod: PodInfo, node: str, columns: Columns) -> Steps:
        """Returns what must happen in the API before the pod is bound; an empty tuple if nothing."""
        return ()

    def bind(self, pod: PodInfo, node: str, columns: Columns) -> Steps | None:
        """Returns how the pod is bound; None leaves it to the next plugin, the last of which is upstream's own."""
        return None

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
    "queue_key",
    "pre_enqueue",
    "pre_filter",
    "filter",
    "post_filter",
    "pre_score",
    "score",
    "reserve",
    "permit",
    "pre_bind",
    "bind",
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
        methods = (point, "unreserve") if point == "reserve" else (point,)
        able = [
            one
            for one in self.plugins
            if any(getattr(type(one), name) is not getattr(Plugin, name) for name in methods)
        ]
        if point not in self.points:
            return tuple(able)
        named = {one.name: one for one in able}
        return tuple(named[name] for name in self.points[point] if name in named)

    @cached_property
    def sorter(self) -> Plugin | None:
        """The plugin that orders the queue; None: by priority, then age."""
        return next(iter(self._at("queue_key")), None)

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
    def pre_scorers(self) -> tuple[Plugin, ...]:
        return self._at("pre_score")

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
    def binders(self) -> tuple[Plugin | None, ...]:
        """The plugins that may bind, in order; None stands for the default binder."""
        named = {one.name: one for one in self._at("bind")}
        if "bind" not in self.points:
            return (*named.values(), None)
        return tuple(named.get(name) for name in self.points["bind"] if name in named or name == DEFAULT_BINDER)

    def may_wait(self, pod: PodInfo) -> bool:
        """Tells whether a pod may have to wait before it is bound: for volumes, devices, or a user's plugin."""
        return bool(pod.claims or pod.obj["spec"].get("resourceClaims") or self._waits_for_users)

    @cached_property
    def _waits_for_users(self) -> bool:
        return any(not type(one).__module__.startswith("proa.") for one in (*self.pre_binders, *self.binders) if one)

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
