"""Carries out the lives of pods on simulated nodes: one process, one watch, thousands of nodes."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
from collections.abc import Mapping, Sequence

from proa.client.informer import Informers
from proa.client.interface import MERGE_PATCH, Client, DeleteOptions
from proa.client.resources import NODES, PODS
from proa.client.workqueue import ShutDown, WorkQueue
from proa.kubelet.simulated.addresses import Addresses
from proa.kubelet.simulated.life import Life
from proa.kubelet.simulated.nodes import Group, check_fault
from proa.kubelet.simulated.outages import PARTITION
from proa.kubelet.simulated.plan import Place, Step, plan, usage_annotations
from proa.kubelet.simulated.rounds import Rounds
from proa.kubelet.simulated.starting import Told
from proa.kubelet.simulated.telling import Telling
from proa.kubelet.simulated.tending import Tending
from proa.meta.errors import StatusError
from proa.meta.objects import (
    Obj,
    annotations_of,
    key_of,
    labels_of,
    name_of,
    namespace_of,
    resource_version_of,
    split_key,
    uid_of,
)
from proa.util.clock import Clock

log = logging.getLogger(__name__)

LIFE = "proa.dev/life"
# Nothing ever listens there. The first quarter is for nodes; each node gets a part of the rest for its pods.
NETWORK = "100.64.0.0/10"
RENEW_SECONDS = 10.0
# Nodes beyond the first 2,000 make all of them renew less often, so that leases cost a tenth of a core at most. At
# 25 s, one renewal may still fail before a node counts as silent (50 s).
RENEW_SECONDS_PER_NODE = 1 / 200
RENEW_SECONDS_MAX = 25.0
WORKERS = 64


def addresses(groups: Sequence[Group], network: str) -> Addresses:
    """Divides a network among the nodes of all groups; raises ValueError if it is too small."""
    pods = max((group.template.pods for group in groups), default=1)
    return Addresses(ipaddress.ip_network(network), sum(group.count for group in groups), pods)


class SimulatedNodes:
    """The nodes of `groups`; the first of `lives` that matches a pod is its life; a pod that none matches just runs.

    A pod's annotation `proa.dev/life` goes before: the name of a life, or a life of its own (docs/simulated-nodes.md).
    """

    def __init__(
        self,
        client: Client,
        informers: Informers,
        clock: Clock,
        groups: Sequence[Group],
        lives: Sequence[Life] = (),
        *,
        network: str = NETWORK,
        renew_seconds: float | None = None,
    ) -> None:
        self.lives = list(lives)
        self._client = client
        self._clock = clock
        count = sum(group.count for group in groups)
        self._addresses = addresses(groups, network)
        self._renew_seconds = renew_seconds or min(
            max(RENEW_SECONDS, count * RENEW_SECONDS_PER_NODE), RENEW_SECONDS_MAX
        )
        self._pods = informers.informer(PODS)
        self._nodes = informers.informer(NODES)
        self._telling = Telling(client, clock)
        self._tending = Tending(client, self._nodes, clock, groups, self._addresses, self._telling, self._back)
        self._numbers = self._tending.numbers
        self.names = list(self._numbers)
        self._told: dict[str, tuple[float, frozenset[Told]]] = {}  # pod's uid -> until when, what in its last second
        self._began = 0.0
        self._queue: WorkQueue[str] = WorkQueue()
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Registers the nodes; returns when all exist. From then on pods bound to them live."""
        self._began = float(int(self._clock.now().timestamp()))
        await self._pods.wait_synced()
        await self._tending.start()
        self._pods.add_handler(self._pod_changed)
        self._loop = loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._work(), name="simulated pods") for _ in range(WORKERS)]
        renewals = Rounds(self.names, self._renew_seconds, self._tending.renew)
        self._tasks.append(loop.create_task(renewals.run(), name="simulated leases"))

    async def stop(self) -> None:
        """Stops living; the nodes stay registered."""
        self._queue.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._tending.stop()
        await self._telling.stop()

    def fault(self, name: str, kind: str) -> None:
        """Gives a node a fault: `fail`, `hang` or `partition`, or a condition that it reports (`not-ready`,
        `memory-pressure`, `disk-pressure`, `pid-pressure`). Raises ValueError for another, and for no node of ours.
        """
        if name not in self._numbers:
            raise ValueError(f"{name!r} is no simulated node")
        check_fault(kind)
        # May be called from another thread, or between two runs of the loop.
        self._loop.call_soon_threadsafe(self._tending.fault, name, kind)

    def heal(self, name: str) -> None:
        """Takes a node's fault away."""
        self.fault(name, "")

    def halt(self, name: str) -> None:
        """Cuts a node off: no lease, no status, nothing heard of its pods."""
        self.fault(name, PARTITION)

    def resume(self, name: str) -> None:
        """Makes a halted node go on."""
        self.heal(name)

    def look_again(self) -> None:
        """Makes every pod be looked at again, after `lives` was changed."""
        for pod in self._pods.objects():
            self._pod_changed(None, pod)

    def _back(self, names: set[str]) -> None:
        for pod in self._pods.objects():
            if (pod.get("spec") or {}).get("nodeName") in names:
                self._queue.add(key_of(pod))

    # ------------------------------------------------------------ pods

    def _pod_changed(self, old: Obj | None, new: Obj | None) -> None:
        pod = new or old or {}
        number = self._numbers.get((pod.get("spec") or {}).get("nodeName") or "")
        if number is None:
            return
        if new is None:
            self._addresses.free(number, uid_of(pod))
            self._told.pop(uid_of(pod), None)
            return
        known = (pod.get("status") or {}).get("podIP")
        if known and old is None:  # another simulator gave it before this one started
            self._addresses.keep(number, uid_of(pod), known)
        self._queue.add(key_of(pod))

    async def _work(self) -> None:
        while True:
            try:
                key = await self._queue.get()
            except ShutDown:
                return
            try:
                await self._live(key)
                self._queue.forget(key)
            except (StatusError, OSError, EOFError) as error:
                log.debug("simulated pod %s: %s", key, error)
                self._queue.add_rate_limited(key)
            finally:
                self._queue.done(key)
            await asyncio.sleep(0)  # leases, too, have their turn while thousands of pods wait for theirs

    async def _live(self, key: str) -> None:
        namespace, name = split_key(key)
        pod = self._pods.get(name, namespace)
        if pod is None:
            return
        node = (pod.get("spec") or {}).get("nodeName")
        if node not in self._numbers or self._tending.is_silent(node):
            return
        life = self._life_of(pod, node)
        number, uid, now = self._numbers[node], uid_of(pod), self._clock.now()
        pod_ip = (pod.get("status") or {}).get("podIP") or self._addresses.pod(number, uid)
        place = Place(pod_ip, self._addresses.node(number), self._tending.outages(node))
        since, known = self._told.get(uid, (self._began, frozenset()))
        step = plan(pod, life, place, now, since)
        await self._carry_out(pod, step, usage_annotations(life) if life.usage else {})
        self._tell(pod, step.told, known, now.timestamp())
        if step.after_seconds:  # what is due at once follows from the change that was just written
            self._queue.add_after(key, step.after_seconds)

    def _life_of(self, pod: Obj, node: str) -> Life:
        own = annotations_of(pod).get(LIFE)
        if own:
            return self._own_life(pod, own)
        for life in self.lives:
            if life.matches(pod) and (not life.node_labels or life.is_on(labels_of(self._nodes.get(node) or {}))):
                return life
        return _JUST_RUNS

    def _own_life(self, pod: Obj, text: str) -> Life:
        from proa.kubelet.simulated.configuration import ConfigurationError, named_life

        try:
            return named_life(text, self.lives)
        except ConfigurationError as error:
            self._telling.about_pod(pod, "", "Warning", "InvalidLife", f"annotation {LIFE}: {error}")
            return _JUST_RUNS

    def _tell(self, pod: Obj, told: Sequence[Told], known: frozenset[Told], now: float) -> None:
        second = float(int(now))
        said = [Told(float(int(one.at)), one.container, one.type, one.reason, one.message) for one in told]
        for one in said:
            if one not in known:
                path = _field_path(pod, one.container) if one.container else ""
                self._telling.about_pod(pod, path, one.type, one.reason, one.message)
        self._told[uid_of(pod)] = (second, frozenset(one for one in said if one.at >= second))

    async def _carry_out(self, pod: Obj, step: Step, annotations: Mapping[str, str]) -> None:
        name, namespace = name_of(pod), namespace_of(pod)
        try:
            if step.status is not None:
                # Whoever else writes a status, such as a condition of a disruption, is not overwritten.
                meta: Obj = {"uid": uid_of(pod), "resourceVersion": resource_version_of(pod)}
                if annotations:
                    meta["annotations"] = annotations
                patch = {"metadata": meta, "status": step.status}
                await self._client.patch(PODS, name, patch, namespace, patch_type=MERGE_PATCH, subresource="status")
            if step.remove:
                await self._client.delete(PODS, name, namespace, DeleteOptions(grace_seconds=0, uid=uid_of(pod)))
        except StatusError as error:
            if error.code not in (404, 409):
                raise


_JUST_RUNS = Life()
_FIELDS = ("containers", "initContainers", "ephemeralContainers")


def _field_path(pod: Obj, container: str) -> str:
    """Returns where in the pod a container is, as events name it."""
    spec = pod.get("spec") or {}
    for field in _FIELDS:
        if any(one.get("name") == container for one in spec.get(field) or ()):
            return f"spec.{field}{{{container}}}"
    return ""
