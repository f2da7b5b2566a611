"""Evicts pods from tainted nodes when their time is over."""

from __future__ import annotations

from collections.abc import Iterable

from proa.client.resources import NODES, PODS
from proa.controllers.evictions import evict
from proa.controllers.indexes import NODE_INDEX, by_node
from proa.controllers.runtime import Context, Controller, Result
from proa.controllers.tainteviction.plan import seconds_to_stay
from proa.meta.objects import Obj, is_deleted, key_of, metadata, name_of, split_key, uid_of


def _taints(node: Obj) -> list[Obj]:
    return [one for one in (node.get("spec") or {}).get("taints") or () if one.get("effect") == "NoExecute"]


class TaintEvictionController(Controller):
    name = "taint-eviction-controller"
    service_account = "node-controller"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._since: dict[str, float] = {}  # pod uid -> when its stay began
        self._nodes = self.need(NODES)
        self._pods = self.watch(PODS, self._keys_of_pod, relevant=_facts)
        self._pods.add_index(NODE_INDEX, by_node)
        self.watch(NODES, self._keys_of_node, relevant=_taints)

    def _keys_of_pod(self, pod: Obj) -> Iterable[str]:
        node = self._nodes.get((pod.get("spec") or {}).get("nodeName") or "")
        if uid_of(pod) in self._since or (node is not None and _taints(node)):
            yield key_of(pod)

    def _keys_of_node(self, node: Obj) -> Iterable[str]:
        return [key_of(pod) for pod in self._pods.indexed(NODE_INDEX, name_of(node))]

    async def reconcile(self, key: str) -> Result | None:
        namespace, name = split_key(key)
        pod = self._pods.get(name, namespace)
        if pod is None or is_deleted(pod):
            return None
        uid = uid_of(pod)
        node = self._nodes.get((pod.get("spec") or {}).get("nodeName") or "")
        taints = _taints(node) if node is not None else []
        stay_seconds = seconds_to_stay(pod, taints) if taints else None
        if stay_seconds is None:
            if self._since.pop(uid, None) is not None:
                self.events.event(pod, "Normal", "TaintManagerEviction", f"Cancelling deletion of Pod {key}")
            return None
        now = self.clock.monotonic()
        left = self._since.setdefault(uid, now) + stay_seconds - now
        if left > 0:
            return Result(left)
        await self._evict(pod)
        self._since.pop(uid, None)
        return None

    async def _evict(self, pod: Obj) -> None:
        self.events.event(pod, "Normal", "TaintManagerEviction", f"Marking for deletion Pod {key_of(pod)}")
        text = "Taint manager: deleting due to NoExecute taint"
        await evict(self.client, pod, "DeletionByTaintManager", text, self.clock.now())


def _facts(pod: Obj) -> object:
    spec = pod.get("spec") or {}
    return spec.get("nodeName"), spec.get("tolerations"), metadata(pod).get("deletionTimestamp")
