"""All or nothing: the pods of a gang are bound when all of them have a place, and give their places back otherwise.

A pod belongs to the gang that its label `gang` names; its annotation `gang-size` says how many pods that takes.
"""

from __future__ import annotations

from proa.meta.objects import annotations_of
from proa.scheduler.columns import Columns
from proa.scheduler.framework import Happening, Plugin, Wait
from proa.scheduler.pod import PodInfo, Selection


class Gang(Plugin):
    name = "Gang"
    # A gang that gave up is tried again when one of its pods is added or room appears.
    wakes = Happening.POD_ADD | Happening.POD_DELETE | Happening.NODE_ADD | Happening.NODE_ALLOCATABLE

    def __init__(self, timeoutSeconds: float = 60) -> None:
        self._timeout_seconds = timeoutSeconds

    def permit(self, pod: PodInfo, node: str) -> str | Wait:
        gang = pod.labels.get("gang")
        if not gang:
            return ""
        wanted = int(annotations_of(pod.obj).get("gang-size") or 1)
        members = Selection({"matchLabels": {"gang": gang}}, (pod.namespace,))
        # Those that wait count as being on their nodes already; this one does not yet.
        placed = int(self.handle.columns.matching(members).sum()) + 1
        if placed < wanted:
            return Wait(self._timeout_seconds)
        for waiting in self.handle.waiting_pods():
            if self._together(pod, waiting.pod):
                waiting.allow(self.name)
        return ""

    def unreserve(self, pod: PodInfo, node: str, columns: Columns) -> None:
        """One that cannot be bound, or waited too long, takes the others of its gang along."""
        for waiting in self.handle.waiting_pods():
            if self._together(pod, waiting.pod):
                waiting.reject(self.name, f'pod {pod.key} of gang "{pod.labels["gang"]}" gave up')

    @staticmethod
    def _together(one: PodInfo, other: PodInfo) -> bool:
        gang = one.labels.get("gang")
        return bool(gang) and (one.namespace, gang) == (other.namespace, other.labels.get("gang"))
