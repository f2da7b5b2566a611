"""What follows a decision: the changes before binding, the binding itself, evictions, and what the pod is told."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from proa.client.interface import Client, DeleteOptions
from proa.client.resources import PODS
from proa.client.series import SeriesRecorder
from proa.meta.errors import StatusError
from proa.meta.objects import Obj, is_deleted, metadata, name_of, namespace_of, uid_of
from proa.scheduler.steps import DEFAULT_BINDER, Change, Refused, Step, Steps, Until
from proa.util.clock import Clock, rfc3339

if TYPE_CHECKING:
    from proa.scheduler.calls import Calls
    from proa.scheduler.counts import Counts
    from proa.scheduler.engine import Bind, Engine, Refuse
    from proa.scheduler.pod import PodInfo
    from proa.scheduler.waiting import Verdict, WaitingPod

log = logging.getLogger(__name__)

_CONFLICTS_MAX = 5
_FAILURES = (Refused, StatusError, OSError, EOFError)


@dataclass(frozen=True, slots=True)
class Attempt:
    """For the counts: which attempt of a pod this is, and when it and the first one began, in monotonic seconds."""

    profile: str
    began: float
    tries: int
    first_tried_at: float


class Effects:
    """Carries out decisions through the client; calls `wake` when a pod can be tried again."""

    def __init__(
        self,
        client: Client,
        clock: Clock,
        wake: Callable[[], None],
        newest: Callable[[PodInfo], Obj | None],
        counts: Counts,
    ) -> None:
        """`newest` returns a pod's newest form, None if it is gone."""
        self._counts = counts
        self._client = client
        self._newest = newest
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

    async def bind(self, engine: Engine, calls: Calls | None, decision: Bind, attempt: Attempt) -> None:
        """Binds a pod to the node that was decided; on failure the pod is tried again."""
        pod, node = decision.pod, decision.node
        problem = await self._permitted(engine, decision) or await self._attempt(engine, calls, decision)
        now = self._clock.monotonic()
        if problem is None:
            self._counts.attempt("scheduled", attempt.profile, now - attempt.began)
            self._counts.bound(attempt.tries, now - attempt.first_tried_at)
            engine.bound(pod)
            note = f"Successfully assigned {pod.key} to {node}"
            self.event(pod.obj, "Normal", "Scheduled", "Binding", note, once=True)
            return
        result = "error" if problem.is_error else "unschedulable"
        self._counts.attempt(result, attempt.profile, now - attempt.began)
        current = self._newest(pod)
        undo = engine.unbind(pod, now, current, problem.plugins)
        self._wake()
        if current is not None and not (current.get("spec") or {}).get("nodeName"):
            self.event(current, "Warning", "FailedScheduling", "Scheduling", problem.message)
            await self.set_condition(current, _unscheduled(current, problem), "")
        for steps in undo:
            try:
                await self.carry_out(pod.obj, steps)
            except _FAILURES as error:
                log.warning("scheduler: %s", error)

    async def _permitted(self, engine: Engine, decision: Bind) -> Refuse | None:
        """Waits for permission; returns why it was not given."""
        pod, waiting = decision.pod, decision.waiting
        if waiting is None:
            return None
        try:
            await self._expect(pod, decision.node)
            began = self._clock.monotonic()
            verdict = await self._decided(waiting)
            self._counts.waited(verdict.allowed, self._clock.monotonic() - began)
        finally:
            engine.handle.release(pod.uid)
        if verdict.allowed:
            return None
        from proa.scheduler.engine import rejected

        return rejected(verdict.plugin, verdict.text)

    async def _expect(self, pod: PodInfo, node: str) -> None:
        """Says on the pod where it is going, as it will take a while."""
        try:
            await self.set_condition(pod.obj, None, node)
        except (StatusError, OSError, EOFError) as error:
            log.warning("scheduler: %s", error)

    async def _attempt(self, engine: Engine, calls: Calls | None, decision: Bind) -> Refuse | None:
        pod, node = decision.pod, decision.node
        before = engine.before_binding(pod, node)
        if before and decision.waiting is None:
            await self._expect(pod, node)
        profile, began = engine.profile(pod).name, self._clock.monotonic()
        for name, steps in before:
            try:
                await self.carry_out(pod.obj, steps)
            except _FAILURES as error:
                return _failed(f'running PreBind plugin "{name}": {error}')
        if before:
            self._counts.point("PreBind", profile, self._clock.monotonic() - began)
            began = self._clock.monotonic()
        problem = await self._bind(engine, calls, pod, node)
        self._counts.point("Bind", profile, self._clock.monotonic() - began, "Error" if problem else "Success")
        return problem

    async def _decided(self, waiting: WaitingPod) -> Verdict:
        decided = asyncio.Event()
        waiting.when_decided(decided.set)
        began = self._clock.monotonic()
        while (verdict := waiting.late(self._clock.monotonic() - began)) is None:
            left = waiting.seconds_left_at_start - (self._clock.monotonic() - began)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(left, 0.0)):
                    await decided.wait()
        return verdict

    async def _bind(self, engine: Engine, calls: Calls | None, pod: PodInfo, node: str) -> Refuse | None:
        """Binds; returns what went wrong."""
        from proa.scheduler.extender import ExtenderError, binder_for, binding_body

        profile = engine.profile(pod)
        extender = binder_for(profile.extenders, pod) if calls is not None else None
        if extender is not None and calls is not None:
            try:
                answer = await calls.ask(extender, extender.bind_verb, binding_body(pod, node))
            except ExtenderError as error:
                return _failed(f"binding rejected: {error}")
            error_text = (answer or {}).get("error") or (answer or {}).get("Error")
            return _failed(f"binding rejected: {error_text}") if error_text else None
        for plugin in profile.binders:
            try:
                if plugin is None:
                    await self._bind_by_api(pod, node)
                    return None
                steps = plugin.bind(pod, node, engine.columns)
                if steps is not None:
                    await self.carry_out(pod.obj, steps)
                    return None
            except _FAILURES as error:
                name = plugin.name if plugin is not None else DEFAULT_BINDER
                return _failed(f'binding rejected: running Bind plugin "{name}": {error}')
        return _failed("binding rejected: no plugin binds the pod")

    async def _bind_by_api(self, pod: PodInfo, node: str) -> None:
        name = name_of(pod.obj)
        binding = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": name, "namespace": pod.namespace, "uid": pod.uid},
            "target": {"apiVersion": "v1", "kind": "Node", "name": node},
        }
        await self._client.create(PODS, binding, pod.namespace, name=name, subresource="binding")

    async def carry_out(self, pod: Obj, steps: Steps) -> None:
        """Takes steps one after the other; raises Refused, StatusError and errors of the connection, after a generator
        had its chance to deal with them."""
        if not isinstance(steps, Generator):
            for step in steps:
                await self._take(pod, step)
            return
        try:
            step = next(steps)
            while True:
                try:
                    answer = await self._take(pod, step)
                except _FAILURES as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(answer)
        except StopIteration:
            return

    async def _take(self, pod: Obj, step: Step) -> Obj | None:
        if isinstance(step, Change):
            return await self.change(step)
        if isinstance(step, Until):
            await self._wait(step)
        else:
            self.event(pod, step.type, step.reason, step.action, step.note)
        return None

    async def change(self, step: Change) -> Obj | None:
        """Makes one change to the newest state of an object, again if somebody else was faster; returns the object."""
        if step.verb != "update":
            return await self._send(step)
        for attempt in range(_CONFLICTS_MAX):
            current = await self._client.get(step.resource, step.name, step.namespace)
            wanted = step.change(current)
            if wanted is None:
                return current
            if step.now_at:
                wanted = _stamped(wanted, step.now_at, rfc3339(self._clock.now()))
            try:
                return await self._client.update(step.resource, wanted, subresource=step.subresource)
            except StatusError as error:
                if error.reason != "Conflict" or attempt == _CONFLICTS_MAX - 1:
                    raise
        return None

    async def _send(self, step: Change) -> Obj | None:
        body = step.change({})
        if body is None:
            return None
        if step.verb == "delete":
            try:
                return await self._client.delete(step.resource, step.name, step.namespace)
            except StatusError as error:
                if error.code != 404:
                    raise
                return None
        if step.verb == "patch":
            return await self._client.patch(
                step.resource, step.name, body, step.namespace, subresource=step.subresource
            )
        return await self._client.create(
            step.resource, body, step.namespace, name=step.name, subresource=step.subresource
        )

    async def _wait(self, step: Until) -> None:
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
            await self._evict(engine, pod, victim, refusal.nominated or "")
        self.event(current, "Warning", "FailedScheduling", "Scheduling", refusal.message)
        await self.set_condition(current, _unscheduled(current, refusal), refusal.nominated)

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

    async def _evict(self, engine: Engine, pod: PodInfo, victim: PodInfo, node: str) -> None:
        waiting = engine.handle.waiting_pod(victim.uid)
        try:
            if waiting is not None:
                waiting.reject("DefaultPreemption", "preempted")
            elif not is_deleted(victim.obj):
                scheduler = (pod.obj.get("spec") or {}).get("schedulerName") or "default-scheduler"
                condition = {
                    "type": "DisruptionTarget",
                    "status": "True",
                    "reason": "PreemptionByScheduler",
                    "message": f"{scheduler}: preempting to accommodate a higher priority pod",
                    **_observed(victim.obj),
                }
                await self.set_condition(victim.obj, condition)
                await self._client.delete(
                    PODS, name_of(victim.obj), victim.namespace, DeleteOptions(uid=victim.uid or None)
                )
            else:
                return
        except StatusError as error:
            if error.code not in (404, 409):
                raise
            return
        preemptor = uid_of(pod.obj) or name_of(pod.obj)
        note = f"Preempted by pod {preemptor} on node {node}"
        self.event(victim.obj, "Normal", "Preempted", "Preempting", note, related=pod.obj)


def _stamped(obj: Obj, path: tuple[str, ...], time: str) -> Obj:
    """Returns an object with a time at a path, unless there is one or nothing to put it in."""
    first, rest = path[0], path[1:]
    if not rest:
        return {first: time, **obj}
    inner = obj.get(first)
    return {**obj, first: _stamped(inner, rest, time)} if isinstance(inner, dict) else obj


def _failed(message: str) -> Refuse:
    from proa.scheduler.engine import Refuse

    return Refuse(message, frozenset(), is_error=True)


def _unscheduled(pod: Obj, refusal: Refuse) -> Obj:
    """Returns the condition that says why a pod has no node."""
    return {
        "type": "PodScheduled",
        "status": "False",
        "reason": "SchedulerError" if refusal.is_error else "Unschedulable",
        "message": refusal.message,
        **_observed(pod),
    }


def _observed(pod: Obj) -> Obj:
    generation = metadata(pod).get("generation")
    return {"observedGeneration": generation} if generation else {}
