"""Answers requests for NodeMetrics and PodMetrics: asks the kubelets concerned, and keeps what they say for a moment.

Nothing runs while nobody asks. The first answer after a pause takes a second, for CPU time needs two samples; those who
ask again and again get the mean since their last question, or the last answer within 15 seconds. Simulated nodes have
no kubelet: what their pods use is what their annotations say.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from proa.apis.metrics.resources import GROUP, definitions
from proa.apis.registry import ResourceDef
from proa.apiserver.api import Core
from proa.apiserver.live import Live, decode
from proa.apiserver.special.nodes import Nodes
from proa.apiserver.usage.plan import (
    Sample,
    Usage,
    metrics_list,
    node_metrics,
    node_usage,
    pod_metrics,
    pod_usages,
    read_sample,
    simulated_node,
    simulated_pod,
)
from proa.client.interface import ApiRequest
from proa.client.resources import NODES, PODS
from proa.meta.errors import StatusError, not_found
from proa.meta.gvk import GVR
from proa.meta.objects import Obj, metadata, name_of, namespace_of
from proa.meta.selectors import parse_fields, parse_labels
from proa.util.clock import Clock
from proa.wire.http import BodyTooLarge

log = logging.getLogger("proa.apiserver.usage")

SIMULATED = "proa.dev/simulated"
KEPT_SECONDS = 15.0
_PAUSE_SECONDS = 120.0  # samples further apart say little about now
_BETWEEN_SECONDS = 1.0
_ASK_SECONDS_MAX = 5.0
_AT_ONCE_MAX = 32
_BYTES_MAX = 16 << 20
_BREATH_PODS = 500


@dataclass(slots=True)
class _Known:
    """Two samples of a node."""

    old: Sample
    new: Sample


class UsageApi:
    """Special handlers of metrics.k8s.io."""

    def __init__(self, live: Live, nodes: Nodes, clock: Clock) -> None:
        self._live = live
        self._nodes = nodes
        self._clock = clock
        self._known: dict[str, _Known] = {}
        self._asking: dict[str, asyncio.Task[_Known | None]] = {}
        self._slots = asyncio.Semaphore(_AT_ONCE_MAX)

    # ------------------------------------------------------------ handlers

    async def nodes(self, request: ApiRequest) -> Obj:
        """Answers get and list of NodeMetrics; raises the 404 StatusError."""
        if request.verb == "get":
            node = self._live.get(NODES, request.name)
            found = await self._of_nodes([node] if node is not None else [])
            if not found:
                raise not_found(GVR("metrics.k8s.io", "v1beta1", "nodemetrics"), request.name)
            return found[0]
        wanted = _selected(self._live.list(NODES), request.parameters)
        return metrics_list("NodeMetrics", await self._of_nodes(wanted))

    async def pods(self, request: ApiRequest) -> Obj:
        """Answers get and list of PodMetrics; raises the 404 StatusError."""
        if request.verb == "get":
            pod = self._live.get(PODS, request.name, request.namespace)
            found = await self._of_pods([pod] if pod is not None else [])
            if not found:
                resource = GVR("metrics.k8s.io", "v1beta1", "podmetrics")
                raise not_found(resource, f"{request.namespace}/{request.name}")
            return found[0]
        pods = self._live.list(PODS, request.namespace) if request.namespace else await self._everywhere()
        wanted = _selected(pods, request.parameters)
        return metrics_list("PodMetrics", await self._of_pods(wanted))

    async def _of_nodes(self, wanted: Iterable[Obj]) -> list[Obj]:
        now = self._clock.now()
        nodes = {name_of(one): one for one in wanted}
        simulated: dict[str, list[Obj]] = {name: [] for name, one in nodes.items() if _is_simulated(one)}
        known = await self._measure(name for name in nodes if name not in simulated)
        for pod in await self._everywhere() if simulated else ():
            on = simulated.get((pod.get("spec") or {}).get("nodeName") or "")
            if on is not None:
                on.append(pod)
        found = []
        for name, node in nodes.items():
            used: Usage | None = None
            if name in simulated:
                used = simulated_node(simulated[name], now.timestamp())
            elif name in known:
                used = node_usage(known[name].old, known[name].new)
            if used is not None:
                found.append(node_metrics(node, used, now))
        return found

    async def _everywhere(self) -> list[Obj]:
        """Returns all pods; of tens of thousands, others get their turn in between."""
        found: list[Obj] = []
        for number, entry in enumerate(self._live.entries(PODS), 1):
            found.append(decode(entry.value))
            if not number % _BREATH_PODS:
                await asyncio.sleep(0)
        return found

    async def _of_pods(self, wanted: Iterable[Obj]) -> list[Obj]:
        now = self._clock.now()
        by_node: dict[str, list[Obj]] = {}
        for pod in wanted:
            node = (pod.get("spec") or {}).get("nodeName")
            if node and (pod.get("status") or {}).get("phase") == "Running":
                by_node.setdefault(node, []).append(pod)
        simulated = {name for name in by_node if _is_simulated(self._live.get(NODES, name) or {})}
        known = await self._measure(name for name in by_node if name not in simulated)
        found = []
        for name, pods in by_node.items():
            usages = pod_usages(known[name].old, known[name].new) if name in known else {}
            for pod in pods:
                used = usages.get((namespace_of(pod), name_of(pod))) or {}
                if name in simulated:
                    used = simulated_pod(pod, now.timestamp())
                if used:
                    found.append(pod_metrics(pod, used, now))
        return sorted(found, key=lambda one: (namespace_of(one), name_of(one)))

    # ------------------------------------------------------------ measuring

    async def _measure(self, names: Iterable[str]) -> dict[str, _Known]:
        """Returns the samples of nodes, taken now or within the last seconds; nodes that don't answer are left out."""
        now = self._clock.now().timestamp()
        self._known = {name: one for name, one in self._known.items() if now - one.new.at < _PAUSE_SECONDS}
        tasks = {name: self._task(name) for name in names}
        await asyncio.gather(*tasks.values(), return_exceptions=True)
        return {name: known for name, task in tasks.items() if (known := task.result()) is not None}

    def _task(self, name: str) -> asyncio.Task[_Known | None]:
        """Returns the one measurement of a node that is under way."""
        task = self._asking.get(name)
        if task is None:
            task = self._asking[name] = asyncio.create_task(self._sample(name), name=f"usage of {name}")
            task.add_done_callback(lambda _: self._asking.pop(name, None))
        return task

    async def _sample(self, name: str) -> _Known | None:
        known = self._known.get(name)
        if known is not None and self._clock.now().timestamp() - known.new.at < KEPT_SECONDS:
            return known
        try:
            new = await self._ask(name)
            if known is not None:
                old = known.new
            else:
                old = new
                await asyncio.sleep(_BETWEEN_SECONDS)
                new = await self._ask(name)
        except (OSError, TimeoutError, ValueError, BodyTooLarge, StatusError) as error:
            log.info("node %s does not say what it uses: %s", name, error or type(error).__name__)
            return None
        made = self._known[name] = _Known(old, new)
        return made

    async def _ask(self, name: str) -> Sample:
        url = f"{self._nodes.url(name)}/metrics/resource"
        async with self._slots, asyncio.timeout(_ASK_SECONDS_MAX):
            response = await self._nodes.client.request("GET", url)
            async with response:
                body = await response.read(_BYTES_MAX)
        if response.status != 200:
            raise ValueError(f"{url} answered {response.status}")
        return read_sample(body.decode("utf-8", "replace"), self._clock.now().timestamp())


def _is_simulated(node: Obj) -> bool:
    return SIMULATED in (metadata(node).get("annotations") or {})


def _selected(objects: Iterable[Obj], parameters: Mapping[str, str]) -> list[Obj]:
    """Returns the objects that a list's selectors choose; raises the 400 StatusError."""
    labels = parse_labels(parameters.get("labelSelector", ""))
    wanted = parse_fields(parameters.get("fieldSelector", ""))
    wanted.check(())
    return [
        one
        for one in objects
        if labels.matches(metadata(one).get("labels"))
        and wanted.matches({"metadata.name": name_of(one), "metadata.namespace": namespace_of(one)})
    ]


class OptionalUsage:
    """The group as the aggregator switches it on and off."""

    def __init__(self, core: Core, live: Live, nodes: Nodes) -> None:
        self._core = core
        self._api = UsageApi(live, nodes, core.shared.clock)

    def definitions(self) -> Iterable[ResourceDef]:
        return definitions()

    def serve(self, on: bool) -> None:
        for plural, handler in (("nodes", self._api.nodes), ("pods", self._api.pods)):
            if on:
                self._core.special[GROUP, plural, ""] = {"get": handler, "list": handler}
            else:
                self._core.special.pop((GROUP, plural, ""), None)
