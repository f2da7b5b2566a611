"""Runs the scheduler: watches pods and nodes, decides one pod at a time, binds, reports.

The columns (and NumPy) come into being with the first pod that waits for a node, so that a control plane without pods
stays small. Everything else is decided by the pure modules; this one carries out.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from proa.client.events import EventRecorder
from proa.client.informer import Informers
from proa.client.interface import Client, DeleteOptions
from proa.client.resources import (
    NAMESPACES,
    NODES,
    PERSISTENTVOLUMECLAIMS,
    PERSISTENTVOLUMES,
    PODDISRUPTIONBUDGETS,
    PODS,
    REPLICASETS,
    REPLICATIONCONTROLLERS,
    SERVICES,
    STATEFULSETS,
    STORAGECLASSES,
)
from proa.meta.errors import StatusError
from proa.meta.objects import Obj, controller_of, is_deleted, labels_of, name_of, namespace_of, uid_of
from proa.util.clock import Clock, rfc3339

if TYPE_CHECKING:
    from proa.scheduler.engine import Engine
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
        self, client: Client, informers: Informers, clock: Clock, profiles: Sequence[Profile] | None = None
    ) -> None:
        self._client = client
        self._clock = clock
        self._recorder = EventRecorder(client, clock, "default-scheduler")
        self._profiles = profiles
        self._engine: Engine | None = None
        self._work = asyncio.Event()
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
        self._volumes = [informers.informer(one) for one in (PERSISTENTVOLUMECLAIMS, PERSISTENTVOLUMES, STORAGECLASSES)]

    async def start(self) -> None:
        """Waits for its copies of the cluster to be complete, then schedules until `stop`."""
        for informer in (
            self._pods,
            self._nodes,
            self._namespaces,
            self._budgets,
            *self._volumes,
            self._services,
            *self._owners.values(),
        ):
            await informer.wait_synced()
        self._pods.add_handler(self._pod_changed)
        self._nodes.add_handler(self._node_changed)
        self._namespaces.add_handler(self._namespace_changed)
        for informer in self._volumes:
            informer.add_handler(self._volume_changed)
        self._loop_task = asyncio.get_running_loop().create_task(self._run(), name="scheduler")

    async def stop(self) -> None:
        """Ends scheduling; bindings under way are abandoned."""
        tasks = [*self._tasks, *([self._loop_task] if self._loop_task else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._timer is not None:
            self._timer.cancel()
        await self._recorder.stop()

    # ------------------------------------------------------------ events

    def _engine_for(self, pod: Obj) -> Engine | None:
        """Returns the engine, made when the first pod that waits for a node appears."""
        if self._engine is None and not node_of(pod) and not is_finished(pod):
            from proa.scheduler.engine import Engine

            self._engine = Engine(self._profiles, self._siblings)
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
        if self._engine is not None:
            self._engine.volume(self._clock.monotonic())
            self._work.set()

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
        from proa.scheduler.engine import Bind

        decision = engine.decide(pod, self._budgets.objects())
        if isinstance(decision, Bind):
            effect = self._bind(engine, decision.pod, decision.node)
        else:
            effect = self._report(engine, pod, decision.message, decision.nominated, decision.victims)
            engine.failed(pod.key, decision.plugins, self._clock.monotonic())
        task = asyncio.get_running_loop().create_task(self._slotted(effect))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _slotted(self, effect: object) -> None:
        try:
            await effect  # type: ignore[misc]
        except (StatusError, OSError, EOFError) as error:
            log.warning("scheduler: %s", error)
        finally:
            self._slots.release()

    async def _bind(self, engine: Engine, pod: PodInfo, node: str) -> None:
        name = name_of(pod.obj)
        binding = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": name, "namespace": pod.namespace, "uid": pod.uid},
            "target": {"apiVersion": "v1", "kind": "Node", "name": node},
        }
        try:
            await self._client.create(PODS, binding, pod.namespace, name=name, subresource="binding")
        except (StatusError, OSError, EOFError) as error:
            engine.unbind(pod, self._clock.monotonic())
            self._work.set()
            if not (isinstance(error, StatusError) and error.code in (404, 409)):
                self._recorder.event(pod.obj, "Warning", "FailedScheduling", f"binding rejected: {error}")
            return
        engine.bound(pod)
        self._recorder.event(pod.obj, "Normal", "Scheduled", f"Successfully assigned {pod.key} to {node}")

    async def _report(
        self, engine: Engine, pod: PodInfo, message: str, nominated: str, victims: Sequence[PodInfo]
    ) -> None:
        """Says on the pod why it is not scheduled, and makes room if victims were found."""
        for victim in victims:
            await self._evict(pod, victim, nominated)
        if victims:
            engine.nominate(pod, nominated)
        current = self._pods.get(name_of(pod.obj), pod.namespace)
        if current is None or uid_of(current) != pod.uid or node_of(current):
            return
        self._recorder.event(pod.obj, "Warning", "FailedScheduling", message)
        condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
        await self._set_condition(current, condition, nominated if victims else None)

    async def _set_condition(self, pod: Obj, condition: Obj, nominated: str | None = None) -> None:
        status = pod.get("status") or {}
        known: Obj = next((one for one in status.get("conditions") or () if one.get("type") == condition["type"]), {})
        same = all(known.get(key) == value for key, value in condition.items())
        if same and nominated in (None, status.get("nominatedNodeName")):
            return
        now = rfc3339(self._clock.now())
        changed = known.get("status") != condition["status"]
        condition = {
            **condition,
            "lastProbeTime": None,
            "lastTransitionTime": now if changed else known.get("lastTransitionTime") or now,
        }
        patch: Obj = {"status": {"conditions": [condition]}}
        if nominated is not None:
            patch["status"]["nominatedNodeName"] = nominated
        try:
            await self._client.patch(PODS, name_of(pod), patch, namespace_of(pod), subresource="status")
        except StatusError as error:
            if error.code != 404:
                raise

    async def _evict(self, pod: PodInfo, victim: PodInfo, node: str) -> None:
        condition = {
            "type": "DisruptionTarget",
            "status": "True",
            "reason": "PreemptionByScheduler",
            "message": "default-scheduler: preempting to accommodate a higher priority pod",
        }
        try:
            if not is_deleted(victim.obj):
                await self._set_condition(victim.obj, condition)
                await self._client.delete(
                    PODS, name_of(victim.obj), victim.namespace, DeleteOptions(uid=victim.uid or None)
                )
        except StatusError as error:
            if error.code not in (404, 409):
                raise
            return
        preemptor = name_of(pod.obj)
        self._recorder.event(
            victim.obj, "Normal", "Preempted", f"Preempted by pod {uid_of(pod.obj) or preemptor} on node {node}"
        )
