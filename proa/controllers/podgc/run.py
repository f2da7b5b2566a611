"""Collects pods in rounds."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable

from proa.client.interface import DeleteOptions
from proa.client.resources import NODES, PODS
from proa.controllers.conditions import condition
from proa.controllers.indexes import NODE_INDEX, by_node
from proa.controllers.podgc.plan import Collect, is_out_of_service, node_of, plan
from proa.controllers.pods import is_finished
from proa.controllers.runtime import Context, Controller, ignore_absent
from proa.meta.errors import StatusError
from proa.meta.objects import Obj, is_deleted, name_of, namespace_of, uid_of

log = logging.getLogger(__name__)

_INDEX, _ENDED, _NOWHERE = "podgc", "ended", "deleted and on no node"
_QUARANTINE_SECONDS = 40.0  # how long a node must be absent before its pods go


def by_end(pod: Obj) -> Iterable[str]:
    """Index: pods that have ended, and those that were deleted before they got a node."""
    if is_deleted(pod):
        return () if node_of(pod) else (_NOWHERE,)
    return (_ENDED,) if is_finished(pod) else ()


class PodGarbageCollector(Controller):
    name = "pod-garbage-collector"
    workers = 0

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._pods = self.need(PODS)
        self._pods.add_index(NODE_INDEX, by_node)
        self._pods.add_index(_INDEX, by_end)
        self._nodes = self.need(NODES)
        self._absent_since: dict[str, float] = {}

    def background(self) -> Iterable[Callable[[], object]]:
        return (self._rounds,)

    async def _rounds(self) -> None:
        while True:
            try:
                await self.collect()
            except Exception:
                log.exception("pod garbage collection failed")
            await asyncio.sleep(self.context.options.orphan_check_seconds)

    async def collect(self) -> None:
        """One round."""
        nodes = {name_of(node): node for node in self._nodes.objects()}
        now = self.clock.monotonic()
        absent = set(self._pods.index_values(NODE_INDEX)) - nodes.keys()
        self._absent_since = {name: self._absent_since.get(name, now) for name in absent}
        lost = {name for name, since in self._absent_since.items() if now - since >= _QUARANTINE_SECONDS}
        confirmed = {name for name in lost if await self._is_absent(name)}
        out = {name for name, node in nodes.items() if is_out_of_service(node)}
        ended_max = self.context.options.terminated_pods_max
        for one in plan(self._candidates(confirmed | out, ended_max), nodes, confirmed, out, ended_max):
            await self._delete(one)

    def _candidates(self, nodes: Iterable[str], ended_max: int) -> list[Obj]:
        """Returns the pods that may have to go: of tens of thousands of pods on good nodes none is looked at."""
        found = self._pods.indexed(_INDEX, _NOWHERE)
        if 0 < ended_max < self._pods.count_indexed(_INDEX, _ENDED):
            found += self._pods.indexed(_INDEX, _ENDED)
        for node in nodes:
            found += self._pods.indexed(NODE_INDEX, node)
        return list({uid_of(pod): pod for pod in found}.values())

    async def _is_absent(self, node: str) -> bool:
        try:
            await self.client.get(NODES, node)
        except StatusError as error:
            if error.code == 404:
                return True
            raise
        return False

    async def _delete(self, collect: Collect) -> None:
        pod = collect.pod
        if collect.fail:
            await ignore_absent(self._fail(pod, collect.disrupted_because))
        options = DeleteOptions(grace_seconds=0, uid=uid_of(pod))
        try:
            await self.client.delete(PODS, name_of(pod), namespace_of(pod), options)
        except StatusError as error:
            if error.code not in (404, 409):
                log.warning("pod %s/%s not collected: %s", namespace_of(pod), name_of(pod), error)

    async def _fail(self, pod: Obj, why: str) -> None:
        status: Obj = {"phase": "Failed"}
        if why:
            status["conditions"] = [condition("DisruptionTarget", "True", "DeletionByPodGC", why, self.clock.now())]
        changes = {"status": status}
        await self.client.patch(PODS, name_of(pod), changes, namespace_of(pod), subresource="status")
