"""What follows a decision: the changes before binding, the binding itself, evictions, and what the pod is told."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from proa.client.interface import Client, DeleteOptions
from proa.client.resources import PODS
from proa.client.series import SeriesRecorder
from proa.meta.errors import StatusError
from proa.meta.objects import Obj, is_deleted, name_of, namespace_of, uid_of
from proa.util.clock import Clock, rfc3339

if TYPE_CHECKING:
    from proa.scheduler.calls import Calls
    from proa.scheduler.engine import Engine, Refuse
    from proa.scheduler.framework import Change, Until
    from proa.scheduler.pod import PodInfo

log = logging.getLogger(__name__)

_CONFLICTS_MAX = 5


class Effects:
    """Carries out decisions through the client; calls `wake` when a pod can be tried again."""

    def __init__(self, client: Client, clock: Clock, wake: Callable[[], None]) -> None:
        self._client = client
        self._wake = wake
        self._clock = clock
        self._recorders: dict[str, SeriesRecorder] = {}
        self._changed = asyncio.Event()

    def something_changed(self) -> None:
        """Lets those who wait for a state of the cluster look again."""
        self._changed.set()

    async def stop(self) -> None:
        for recorder in self._recorders.values():
            await recorder.stop()

    def event(
        self,
        pod: Obj,
        type: str,
        reason: str,
        action: str,
        note: str,
        *,
        related: Obj | None = None,
        once: bool = False,
    ) -> None:
        """Records an event about a pod in the name of its scheduler (of the related pod's, if there is one)."""
        name = ((related or pod).get("spec") or {}).get("schedulerName") or "default-scheduler"
        recorder = self._recorders.get(name)
        if recorder is None:
            recorder = self._recorders[name] = SeriesRecorder(self._client, self._clock, name, os.uname().nodename)
        recorder.event(pod, type, reason, action, note, related=related, once=once)

    # ------------------------------------------------------------ binding

    async def bind(self, engine: Engine, calls: Calls | None, pod: PodInfo, node: str) -> None:
        """Binds a pod to the node that was decided; on failure the pod is tried again."""
        problem = await self._prepare(engine, pod, node) or await self._bind(engine, calls, pod, node)
        if problem is None:
            self._wake()
            return
        if problem:
            engine.unbind(pod, self._clock.monotonic())
            self._wake()
            self.event(pod.obj, "Warning", "FailedScheduling", "Scheduling", problem)
            condition = {"type": "PodScheduled", "status": "False", "reason": "SchedulerError", "message": problem}
            await self.set_condition(pod.obj, condition)
            return
        engine.bound(pod)
        note = f"Successfully assigned {pod.key} to {node}"
        self.event(pod.obj, "Normal", "Scheduled", "Binding", note, once=True)

    async def _prepare(self, engine: Engine, pod: PodInfo, node: str) -> str:
        """Does what plugins want done before binding; returns what went wrong, or nothing."""
        steps = engine.before_binding(pod, node)
        if not steps:
            return ""
        from proa.scheduler.framework import Change, Refused

        for name, step in steps:
            try:
                if isinstance(step, Change):
                    await self.change(step)
                else:
                    await self._wait(step)
            except (Refused, StatusError, OSError, EOFError) as error:
                return f'running PreBind plugin "{name}": {error}'
        return ""

    async def _bind(self, engine: Engine, calls: Calls | None, pod: PodInfo, node: str) -> str | None:
        """Returns what went wrong, nothing if all is well, None if the pod is gone or bound already."""
        from proa.scheduler.extender import ExtenderError, binder_for, binding_body

        extender = binder_for(engine.profile(pod).extenders, pod) if calls is not None else None
        if extender is not None and calls is not None:
            try:
                answer = await calls.ask(extender, extender.bind_verb, binding_body(pod, node))
            except ExtenderError as error:
                return f"binding rejected: {error}"
            error_text = (answer or {}).get("error") or (answer or {}).get("Error")
            return f"binding rejected: {error_text}" if error_text else ""
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
            if isinstance(error, StatusError) and error.code in (404, 409):
                engine.unbind(pod, self._clock.monotonic())
                return None
            return f"binding rejected: {error}"
        return ""

    async def change(self, step: Change) -> None:
        """Makes one change to the newest state of an object, again when somebody else was faster."""
        for attempt in range(_CONFLICTS_MAX):
            current = await self._client.get(step.resource, step.name, step.namespace)
            wanted = step.change(current)
            if wanted is None:
                return
            try:
                await self._client.update(step.resource, wanted, subresource=step.subresource)
            except StatusError as error:
                if error.reason != "Conflict" or attempt == _CONFLICTS_MAX - 1:
                    raise
            else:
                return

    async def _wait(self, step: Until) -> None:
        from proa.scheduler.framework import Refused

        try:
            async with asyncio.timeout(step.timeout_seconds):
                while not step.done():
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise Refused(step.late) from None

    # ------------------------------------------------------------ refusals

    async def report(self, engine: Engine, pod: PodInfo, current: Obj, refusal: Refuse) -> None:
        """Says on the pod why it is not scheduled, and makes room if victims were found."""
        for step in refusal.changes:
            try:
                await self.change(step)
            except StatusError as error:
                log.warning("scheduler: %s", error)
        for below in refusal.pods_to_clear:
            engine.nominate(below, "")
            engine.queue.activate(below.key)
            self._wake()
            await self.set_condition(below.obj, None, "")
        for victim in refusal.victims:
            await self._evict(pod, victim, refusal.nominated or "")
        self.event(current, "Warning", "FailedScheduling", "Scheduling", refusal.message)
        condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": refusal.message}
        await self.set_condition(current, condition, refusal.nominated)

    async def set_condition(self, pod: Obj, condition: Obj | None, nominated: str | None = None) -> None:
        """Writes a condition, and the nominated node unless that is None; nothing if the pod says so already."""
        status = pod.get("status") or {}
        patch: Obj = {}
        if condition is not None:
            known: Obj = next(
                (one for one in status.get("conditions") or () if one.get("type") == condition["type"]), {}
            )
            if any(known.get(key) != value for key, value in condition.items()):
                now = rfc3339(self._clock.now())
                changed = known.get("status") != condition["status"]
                since = now if changed else known.get("lastTransitionTime") or now
                patch["conditions"] = [{**condition, "lastProbeTime": None, "lastTransitionTime": since}]
        if nominated is not None and nominated != (status.get("nominatedNodeName") or ""):
            patch["nominatedNodeName"] = nominated or None
        if not patch:
            return
        try:
            await self._client.patch(PODS, name_of(pod), {"status": patch}, namespace_of(pod), subresource="status")
        except StatusError as error:
            if error.code != 404:
                raise

    async def _evict(self, pod: PodInfo, victim: PodInfo, node: str) -> None:
        scheduler = (pod.obj.get("spec") or {}).get("schedulerName") or "default-scheduler"
        condition = {
            "type": "DisruptionTarget",
            "status": "True",
            "reason": "PreemptionByScheduler",
            "message": f"{scheduler}: preempting to accommodate a higher priority pod",
        }
        try:
            if not is_deleted(victim.obj):
                await self.set_condition(victim.obj, condition)
                await self._client.delete(
                    PODS, name_of(victim.obj), victim.namespace, DeleteOptions(uid=victim.uid or None)
                )
        except StatusError as error:
            if error.code not in (404, 409):
                raise
            return
        preemptor = uid_of(pod.obj) or name_of(pod.obj)
        note = f"Preempted by pod {preemptor} on node {node}"
        self.event(victim.obj, "Normal", "Preempted", "Preempting", note, related=pod.obj)
