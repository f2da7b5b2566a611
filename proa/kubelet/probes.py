"""Startup, liveness and readiness probes of running containers.

`advance` is the pure rule (thresholds, upstream's initial results); `ContainerProbes` runs one container's probes.
Upstream's order holds: liveness and readiness begin once the startup probe has passed.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from proa.kubelet.handlers import Outcome
from proa.kubelet.plan import Health
from proa.meta.objects import Obj

LIVENESS, READINESS, STARTUP = "liveness", "readiness", "startup"
_TRIES = 3
_FIELDS = {STARTUP: "startupProbe", LIVENESS: "livenessProbe", READINESS: "readinessProbe"}


@dataclass(frozen=True, slots=True)
class ProbeState:
    """The result shown so far, and how often in a row the last outcome came."""

    passing: bool
    last_ok: bool | None = None
    times: int = 0


def advance(state: ProbeState, ok: bool, success_threshold: int, failure_threshold: int) -> ProbeState:
    """Returns the state after one more outcome: the result turns when its threshold is reached."""
    times = state.times + 1 if state.last_ok is ok else 1
    reached = times >= (success_threshold if ok else failure_threshold)
    return ProbeState(ok if reached else state.passing, ok, times)


def told(kind: str, outcome: Outcome) -> str:
    """The event that an outcome is worth, in upstream's words."""
    if outcome.warned:
        return f"{kind.capitalize()} probe warning: {outcome.text}"
    how = "errored and resulted in unknown state" if outcome.errored else "failed"
    return f"{kind.capitalize()} probe {how}: {outcome.text}"


class ContainerProbes:
    """The probes of one running container. `attempt` carries a probe out, `changed` is called when `health` changes,
    `tell(kind, outcome)` for every outcome that is worth an event."""

    def __init__(
        self,
        container: Obj,
        attempt: Callable[[Obj], Awaitable[Outcome]],
        changed: Callable[[], None],
        tell: Callable[[str, Outcome], None],
        *,
        age_seconds: float,
        started: bool = False,
        ready: bool = False,
    ) -> None:
        self._attempt = attempt
        self._changed = changed
        self._tell = tell
        self._age_seconds = age_seconds
        self._probes = {kind: container[field] for kind, field in _FIELDS.items() if container.get(field)}
        self.health = Health(
            started=STARTUP not in self._probes or started, ready=READINESS not in self._probes or ready
        )
        self._tasks: dict[str, asyncio.Task[None]] = {}
        if not self.health.started:
            self._run(STARTUP)
        else:
            self._run_rest()

    def _run(self, kind: str) -> None:
        if kind in self._probes:
            self._tasks[kind] = asyncio.create_task(self._loop(kind, self._probes[kind]))

    def _run_rest(self) -> None:
        self._run(LIVENESS)
        self._run(READINESS)

    async def _loop(self, kind: str, probe: Obj) -> None:
        period = probe.get("periodSeconds") or 10
        delay = (probe.get("initialDelaySeconds") or 0) - self._age_seconds
        # An agent that has just started must not probe everything at once.
        await asyncio.sleep(delay if delay > 0 else random.random() * min(period, self._age_seconds))
        state = ProbeState(kind == LIVENESS or (kind == READINESS and self.health.ready))
        while True:
            outcome = await self._try(probe)
            if not outcome.ok or outcome.warned:
                self._tell(kind, outcome)
            # What could not be asked is no answer: neither threshold comes nearer.
            if not outcome.errored:
                thresholds = probe.get("successThreshold") or 1, probe.get("failureThreshold") or 3
                state = advance(state, outcome.ok, *thresholds)
                if self._take(kind, probe, state):
                    return
            await asyncio.sleep(period)

    async def _try(self, probe: Obj) -> Outcome:
        for _ in range(_TRIES - 1):
            outcome = await self._attempt(probe)
            if not outcome.errored:
                return outcome
        return await self._attempt(probe)

    def _take(self, kind: str, probe: Obj, state: ProbeState) -> bool:
        """Makes the health what the probe says; returns whether the probe is over."""
        before, health, over = self.health, self.health, False
        if kind == READINESS:
            health = Health(health.started, state.passing, health.failed, health.failed_grace_seconds)
        elif kind == STARTUP and state.passing:
            health, over = Health(True, health.ready), True
            self._run_rest()
        elif not state.passing and state.last_ok is False and (kind == LIVENESS or _failed(state, probe)):
            health = Health(health.started, health.ready, kind, probe.get("terminationGracePeriodSeconds"))
            over = True
        self.health = health
        if health != before:
            self._changed()
        return over

    def keep_readiness_only(self) -> None:
        """The pod is ending: nothing may restart it, but it may still become unready."""
        for kind in (LIVENESS, STARTUP):
            task = self._tasks.pop(kind, None)
            if task:
                task.cancel()

    def stop(self) -> None:
        for task in self._tasks.values():
            task.cancel()


def _failed(state: ProbeState, probe: Obj) -> bool:
    return state.times >= (probe.get("failureThreshold") or 3)
