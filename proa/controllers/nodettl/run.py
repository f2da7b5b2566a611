"""Keeps the annotation `node.alpha.kubernetes.io/ttl`, which grows with the cluster, as upstream's ttl controller."""

from __future__ import annotations

from proa.client.interface import MERGE_PATCH
from proa.client.resources import NODES
from proa.controllers.runtime import Context, Controller, Result, ignore_absent
from proa.meta.objects import Obj, annotations_of, name_of

ANNOTATION = "node.alpha.kubernetes.io/ttl"
# (nodes at most, seconds); a cluster shrinks to a lower step only well below its bound.
_STEPS = ((100, 0), (500, 15), (1000, 30), (2000, 60))
_SECONDS_MAX = 300
_SHRINK_SHARE = 0.9


def ttl_seconds(nodes: int, current: int) -> int:
    """Returns the time for a cluster of this size, given the time now in force."""
    wanted = next((seconds for most, seconds in _STEPS if nodes <= most), _SECONDS_MAX)
    if wanted < current:
        return next((seconds for most, seconds in _STEPS if nodes <= most * _SHRINK_SHARE), _SECONDS_MAX)
    return wanted


class NodeTtlController(Controller):
    name = "ttl-controller"
    workers = 1

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._seconds = 0
        self._nodes = self.watch(NODES, relevant=lambda node: annotations_of(node).get(ANNOTATION))
        self._nodes.add_handler(self._counted)

    def _counted(self, old: Obj | None, new: Obj | None) -> None:
        if old is not None and new is not None:
            return
        seconds = ttl_seconds(len(self._nodes), self._seconds)
        if seconds != self._seconds:
            self._seconds = seconds
            for node in self._nodes.objects():
                self.queue.add(name_of(node))

    async def reconcile(self, key: str) -> Result | None:
        node = self._nodes.get(key)
        if node is not None and annotations_of(node).get(ANNOTATION) != str(self._seconds):
            patch = {"metadata": {"annotations": {ANNOTATION: str(self._seconds)}}}
            await ignore_absent(self.client.patch(NODES, key, patch, patch_type=MERGE_PATCH))
        return None
