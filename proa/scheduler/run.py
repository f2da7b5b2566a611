"""Runs the scheduler: watches pods and nodes, decides one pod at a time, binds, reports.

The columns (and NumPy) come into being with the first pod that waits for a node, so that a control plane without pods
stays small. Everything else is decided by the pure modules; this one carries out.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any

from proa.client.informer import Informers
from proa.client.interface import Client
from proa.client.resources import (
    CSIDRIVERS,
    CSINODES,
    CSISTORAGECAPACITIES,
    DEVICECLASSES,
    NAMESPACES,
    NODES,
    PERSISTENTVOLUMECLAIMS,
    PERSISTENTVOLUMES,
    PODDISRUPTIONBUDGETS,
    PODS,
    REPLICASETS,
    REPLICATIONCONTROLLERS,
    RESOURCECLAIMS,
    RESOURCESLICES,
    SERVICES,
    STATEFULSETS,
    STORAGECLASSES,
)
from proa.meta.errors import StatusError
from proa.meta.objects import Obj, controller_of, labels_of, name_of, namespace_of, uid_of
from proa.scheduler.binding import Attempt, Effects
from proa.scheduler.counts import SAMPLED, Counts
from proa.scheduler.storage import VOLUMES_INDEX, Storage, wanted_by
from proa.util.clock import Clock

if TYPE_CHECKING:
    from proa.scheduler.calls import Calls
    from proa.scheduler.engine import Bind, Engine, Refuse
    from proa.scheduler.framework import Profile
    from proa.scheduler.pod import PodInfo

log = logging.getLogger(__name__)

# Cycles run without a pause for the rest of the process; bindings in flight at once.
CYCLES_PER_TURN = 16
BINDINGS_MAX = 64


def is_finished(pod: Obj) -> bool:
    return (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")


def node_of(pod: Obj) -> str:
    return (pod.get("spec") or {}).get("nodeName") or ""


class Scheduler:
    """Schedules the pods whose schedulerName is that of one of its profiles (default: upstream's default profile)."""

    def __init__(
        self,
        client: Client,
        informers: Informers,
        clock: Clock,
        profiles: Sequence[Profile] | None = None,
        *,
        backoff_seconds: tuple[float, float] = (1.0, 10.0),
    ) -> None:
        """`backoff_seconds` are the first and the longest wait before a pod is tried again."""
        self._client = client
        self._clock = clock
        self._calls: Calls | None = None
        self._profiles = profiles
        self._backoff_seconds = backoff_seconds
        self._engine: Engine | None = None
        self._work = asyncio.Event()
        self.counts = Counts()
        self._effects = Effects(client, clock, self._work.set, self._newest, self.counts)
        self._attempts = 0
        self._slots = asyncio.Semaphore(BINDINGS_MAX)
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop_task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._pods = informers.informer(PODS)
        self._nodes = informers.informer(NODES)
        self._namespaces = informers.informer(NAMESPACES)
        self._budgets = informers.informer(PODDISRUPTIONBUDGETS)
        self._services = informers.informer(SERVICES)
        self._owners = {
            kind: informers.informer(resource)
            for kind, resource in (
                ("ReplicaSet", REPLICASETS),
                ("StatefulSet", STATEFULSETS),
                ("ReplicationController", REPLICATIONCONTROLLERS),
            )
        }
        # In the order of Storage's and Devices' fields.
        self._storage = [
            informers.informer(resource)
            for resource in (
                PERSISTENTVOLUMECLAIMS,
                PERSISTENTVOLUMES,
                STORAGECLASSES,
                CSINODES,
                CSIDRIVERS,
                CSISTORAGECAPACITIES,
            )
        ]
        informers.informer(PERSISTENTVOLUMES).add_index(VOLUMES_INDEX, wanted_by)
        self._devices = [informers.informer(one) for one in (RESOURCECLAIMS, DEVICECLASSES, RESOURCESLICES)]

    async def start(self) -> None:
        """Waits for its copies of the cluster to be complete, then schedules until `stop`."""
        for informer in (
            self._pods,
            self._nodes,
            self._namespaces,
            self._budgets,
            *self._storage,
            *self._devices,
            self._services,
            *self._owners.values(),
        ):
            await informer.wait_synced()
        self._pods.add_handler(self._pod_changed)
        self._nodes.add_handler(self._node_changed)
        self._namespaces.add_handler(self._namespace_changed)
        for informer in self._storage:
            informer.add_handler(self._volume_changed)
        for informer in self._devices:
            informer.add_handler(self._device_changed)
        self._loop_task = asyncio.get_running_loop().create_task(self._run(), name="scheduler")

    async def stop(self) -> None:
        """Ends scheduling; bindings under way are abandoned."""
        tasks = [*self._tasks, *([self._loop_task] if self._loop_task else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._timer is not None:
            self._timer.cancel()
        await self._effects.stop()
        if self._calls is not None:
            await self._calls.close()

    # ------------------------------------------------------------ events

    def _engine_for(self, pod: Obj) -> Engine | None:
        """Returns the engine, made when the first pod that waits for a node appears."""
        if self._engine is None and not node_of(pod) and not is_finished(pod):
            from proa.scheduler.devices.state import Devices
            from proa.scheduler.engine import Engine

            self._engine = Engine(
                self._profiles,
                self._siblings,
                storage=Storage(*self._storage),
                devices=Devices(*self._devices),
                backoff_seconds=self._backoff_seconds,
            )
            self.counts.engine = self._engine
            for namespace in self._namespaces.objects():
                self._engine.namespace(namespace, gone=False)
            for node in self._nodes.objects():
                self._engine.node(None, node, self._clock.monotonic())
            for other in self._pods.objects():
                if node_of(other):
                    self._engine.pod(None, other, self._clock.monotonic())
        return self._engine

    def _pod_changed(self, old: Obj | None, new: Obj | None) -> None:
        engine = self._engine_for(new or old or {})
        self._effects.something_changed()
        if engine is not None:
            engine.pod(old, new, self._clock.monotonic())
            self._work.set()

    def _node_changed(self, old: Obj | None, new: Obj | None) -> None:
        if self._engine is not None and self._engine.node(old, new, self._clock.monotonic()):
            self._work.set()

    def _namespace_changed(self, old: Obj | None, new: Obj | None) -> None:
        if self._engine is not None:
            self._engine.namespace(new or old or {}, gone=new is None)

    def _volume_changed(self, old: Obj | None, new: Obj | None) -> None:
        self._effects.something_changed()
        if self._engine is not None:
            self._engine.volume(new or old or {}, self._clock.monotonic())
            self._work.set()

    def _device_changed(self, old: Obj | None, new: Obj | None) -> None:
        if self._engine is not None:
            self._engine.device(new or old or {}, self._clock.monotonic())
            self._work.set()
        self._effects.something_changed()

    def _siblings(self, pod: Obj) -> Obj | None:
        """Returns a selector for the pods of the same services and owner, None if there are neither."""
        namespace, labels = namespace_of(pod), labels_of(pod)
        wanted: dict[str, str] = {}
        for service in self._services.objects(namespace):
            chosen = (service.get("spec") or {}).get("selector") or {}
            if chosen and chosen.items() <= labels.items():
                wanted.update(chosen)
        expressions: list[Obj] = []
        reference = controller_of(pod) or {}
        owners = self._owners.get(reference.get("kind") or "")
        owner = owners.get(reference.get("name") or "", namespace) if owners else None
        if owner is not None:
            selector = owner["spec"].get("selector") or {}
            if reference["kind"] == "ReplicationController":
                wanted.update(selector)
            else:
                wanted.update(selector.get("matchLabels") or {})
                expressions = selector.get("matchExpressions") or []
        if not wanted and not expressions:
            return None
        return {"matchLabels": wanted, "matchExpressions": expressions}

    def _newest(self, pod: PodInfo) -> Obj | None:
        current = self._pods.get(name_of(pod.obj), pod.namespace)
        return current if current is not None and uid_of(current) == pod.uid else None

    # ------------------------------------------------------------ work

    async def _run(self) -> None:
        while True:
            await self._work.wait()
            self._work.clear()
            engine = self._engine
            if engine is None:
                continue
            cycles = 0
            while True:
                await self._slots.acquire()
                pod = engine.pop(self._clock.monotonic())
                if pod is None:
                    self._slots.release()
                    break
                if engine.has_extenders(pod):
                    await self._asking_cycle(engine, pod)
                else:
                    self._cycle(engine, pod)
                cycles += 1
                if cycles % CYCLES_PER_TURN == 0:
                    await asyncio.sleep(0)
            self._arm(engine)

    def _arm(self, engine: Engine) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due = engine.next_at()
        if due is not None:
            delay = max(due - self._clock.monotonic(), 0.0)
            self._timer = asyncio.get_running_loop().call_later(delay, self._work.set)

    def _cycle(self, engine: Engine, pod: PodInfo) -> None:
        began = self._clock.monotonic()
        lap = self._stopwatch(engine, pod, began)
        self._follow(engine, pod, engine.decide(pod, self._budgets.objects(), lap), began)

    def _stopwatch(self, engine: Engine, pod: PodInfo, began: float) -> Callable[[str], None] | None:
        """Returns what measures the points of this attempt, if it is one of those that are measured."""
        self._attempts += 1
        if self._attempts % SAMPLED:
            return None
        profile, last = engine.profile(pod).name, began

        def lap(point: str) -> None:
            nonlocal last
            now = self._clock.monotonic()
            self.counts.point(point, profile, now - last)
            last = now

        return lap

    async def _asking_cycle(self, engine: Engine, pod: PodInfo) -> None:
        """A cycle in which extenders are asked; the next pod waits for its end, as upstream's do."""
        from proa.scheduler.calls import Calls
        from proa.scheduler.engine import Refuse
        from proa.scheduler.extender import ExtenderError

        if self._calls is None:
            self._calls = Calls()
        began = self._clock.monotonic()
        try:
            decision = await self._calls.drive(engine.deciding(pod, self._budgets.objects()))
        except ExtenderError as error:
            decision = Refuse(str(error), frozenset(), is_error=True)
        self._follow(engine, pod, decision, began)

    def _follow(self, engine: Engine, pod: PodInfo, decision: Bind | Refuse, began: float) -> None:
        from proa.scheduler.engine import Bind

        now = self._clock.monotonic()
        self.counts.algorithm.observe(now - began)
        effect: Coroutine[Any, Any, None]
        if isinstance(decision, Bind):
            tries, first_tried_at = engine.tried(pod)
            attempt = Attempt(engine.profile(pod).name, began, tries, first_tried_at)
            effect = self._effects.bind(engine, self._calls, decision, attempt)
            if decision.waiting is not None or engine.profile(pod).may_wait(decision.pod):
                # It may wait for minutes, for permission, volumes or devices; others must not wait with it.
                self._slots.release()
                self._start(self._logged(effect))
                return
        else:
            result = "error" if decision.is_error else "unschedulable"
            self.counts.attempt(result, engine.profile(pod).name, now - began)
            if engine.profile(pod).preemption and not decision.is_error:
                self.counts.preempted(len(decision.victims))
            if decision.nominated is not None:
                engine.nominate(pod, decision.nominated)
            engine.failed(pod.key, decision.plugins, self._clock.monotonic())
            current = self._newest(pod)
            if current is None or node_of(current):
                self._slots.release()
                return
            effect = self._effects.report(engine, pod, current, decision)
        self._start(self._slotted(effect))

    def _start(self, effect: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(effect)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _slotted(self, effect: Coroutine[Any, Any, None]) -> None:
        try:
            await self._logged(effect)
        finally:
            self._slots.release()

    async def _logged(self, effect: Coroutine[Any, Any, None]) -> None:
        try:
            await effect
        except (StatusError, OSError, EOFError) as error:
            log.warning("scheduler: %s", error)
