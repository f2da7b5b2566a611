"""Events of simulated kubelets: everything while little happens, and a sample of it while thousands of pods start.

Upstream's kubelet has a limit of its own per node (50 events a second); ours is for all simulated nodes together, since
one process writes what thousands would.
"""

from __future__ import annotations

from dataclasses import dataclass

from proa.client.events import EventRecorder
from proa.client.interface import Client
from proa.meta.objects import Obj
from proa.util.clock import Clock

# What is told at once, and per second from then on.
_NORMAL = (90.0, 10.0)
_WARNING = (500.0, 50.0)


@dataclass(slots=True)
class _Bucket:
    burst: float
    per_second: float
    tokens: float
    seconds: float = 0.0

    def take(self, now: float, kept: float) -> bool:
        """Takes a token, if more than `kept` are there."""
        self.tokens = min(self.burst, self.tokens + (now - self.seconds) * self.per_second)
        self.seconds = now
        if self.tokens < 1 + kept:
            return False
        self.tokens -= 1
        return True


class Telling:
    """Records events as the kubelets of many nodes."""

    def __init__(self, client: Client, clock: Clock) -> None:
        self._recorder = EventRecorder(client, clock, "kubelet")
        self._clock = clock
        self._buckets = {"Normal": _Bucket(*_NORMAL, _NORMAL[0]), "Warning": _Bucket(*_WARNING, _WARNING[0])}

    def about_pod(self, pod: Obj, field_path: str, type: str, reason: str, message: str) -> None:
        node = (pod.get("spec") or {}).get("nodeName") or ""
        about = pod if pod.get("kind") else {"kind": "Pod", "apiVersion": "v1", **pod}
        self._tell(about, node, type, reason, message, field_path)

    def about_node(self, name: str, type: str, reason: str, message: str, *, of_start: bool = False) -> None:
        """Events about nodes carry the node's name as uid, as upstream's kubelet does. What all tell at the start
        leaves room for what is worth more.
        """
        about = {"kind": "Node", "apiVersion": "v1", "metadata": {"name": name, "uid": name}}
        self._tell(about, name, type, reason, message, "", _NORMAL[0] / 3 if of_start else 0.0)

    def _tell(
        self, about: Obj, host: str, type: str, reason: str, message: str, field_path: str, kept: float = 0.0
    ) -> None:
        if self._buckets[type].take(self._clock.monotonic(), kept):
            self._recorder.event(about, type, reason, message, field_path=field_path, host=host)

    async def stop(self) -> None:
        await self._recorder.stop()
