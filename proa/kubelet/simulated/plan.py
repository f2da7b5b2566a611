"""What a simulated kubelet does with a pod next: a pure function of the pod, its life, its node's past and the time.

The decisions are the real kubelet's (`proa.kubelet.plan`), and so is the status it reports (`proa.kubelet.status`);
simulated is the runtime below: containers start, run and stop as the pod's life says. Everything is read off the pod's
own status, so a restarted simulator goes on where the last one was, and whatever fell due meanwhile happens in order,
at the time when it was due.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from proa.kubelet.cri.types import EXITED, RUNNING, Container
from proa.kubelet.eviction import EVICTED
from proa.kubelet.plan import (
    NANO,
    Action,
    CreateSandbox,
    Health,
    KillContainer,
    Memory,
    Observed,
    Plan,
    StartContainer,
    StopSandbox,
    restart_step,
)
from proa.kubelet.plan import plan as decide
from proa.kubelet.podspec import (
    BACKOFF_STEP,
    CONTAINER_HASH,
    INIT,
    SIDECAR,
    ContainerSpec,
    containers_of,
    is_terminal,
)
from proa.kubelet.simulated.life import FOREVER, KILLED, Life, seconds_of
from proa.kubelet.simulated.outages import FAIL, Outage, awake, later, learned
from proa.kubelet.simulated.recall import RUNTIME, STATUSES, container_id, containers_in, sandbox, sandbox_in, seconds
from proa.kubelet.simulated.shortcuts import is_new, is_settled, just_runs, killing, may_go, started
from proa.kubelet.simulated.starting import Start, Told, start
from proa.kubelet.status import Surroundings, pod_status
from proa.meta.objects import Obj, is_deleted, metadata, name_of, namespace_of, uid_of
from proa.util.clock import rfc3339

# What may fall due at once: a container that crashed every five minutes for a week, behind a partition.
_TURNS_MAX = 10_000
_POWER_LOST = 255  # what containerd says of containers that were running when the machine went down


@dataclass(frozen=True, slots=True)
class Place:
    """Where a pod lives: its address, its node's, and what was wrong with the node so far (nothing is now)."""

    pod_ip: str
    host_ip: str
    outages: Sequence[Outage] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """Write `status` (None: leave it), then remove the pod for good if `remove`; tell `told` as events; look again in
    `after_seconds` (None: only when it changes)."""

    status: Obj | None = None
    remove: bool = False
    told: Sequence[Told] = ()
    after_seconds: float | None = None


def plan(pod: Obj, life: Life, place: Place, now: datetime, since: float = -FOREVER) -> Step:
    """Returns the next step for a pod that is bound to a simulated node; what happened before `since` (seconds since
    the epoch) is not told."""
    if is_terminal(pod) and not is_deleted(pod):
        return Step()
    if just_runs(pod, life, place.outages):
        step = _short(pod, place, now, since)
        if step is not None:
            return step
    return long_way(pod, life, place, now, since)


def _short(pod: Obj, place: Place, now: datetime, since: float) -> Step | None:
    """Returns what is obvious about a pod that just runs."""
    if is_settled(pod):
        return Step()
    if is_new(pod):
        status, told = started(pod, place.pod_ip, place.host_ip, now)
        return Step(status=status, told=told if told[0].at >= since else ())
    if may_go(pod):
        told = killing(pod, now.timestamp())
        return Step(remove=True, told=told)
    return None


def long_way(pod: Obj, life: Life, place: Place, now: datetime, since: float = -FOREVER) -> Step:
    """The same as `plan` for any pod, by asking the kubelet."""
    return _Timeline(pod, life, place, now).step(since)


def usage_annotations(life: Life) -> dict[str, str]:
    """Returns the annotations that tell the API server what a pod uses."""
    return {f"proa.dev/usage-{resource}": quantity for resource, quantity in life.usage.items()}


@dataclass(slots=True)
class _Event:
    """Something that falls due."""

    at: float
    happen: Callable[[], None]


def _nothing() -> None:
    pass


class _Timeline:
    """One pod's simulated runtime, carried forward in time."""

    def __init__(self, pod: Obj, life: Life, place: Place, now: datetime) -> None:
        self.pod, self.life, self.place, self.now_at = pod, life, place, now
        self.now = now.timestamp()
        self.outages = place.outages
        self.containers = containers_in(pod.get("status") or {})
        self.sandbox = sandbox_in(pod, self.containers, place.pod_ip)
        self.specs = {one.name: one for one in containers_of(pod)}
        self.hashes = {name: one.spec.get("image") or "" for name, one in self.specs.items()}
        self.starts: dict[tuple[str, int], Start] = {}
        self.kills: dict[str, float] = {}  # container id -> when it was told to stop
        self.told: list[Told] = []
        self.deleted_at = self._deleted_at()
        self.living = pod
        if is_deleted(pod):  # as its node still knows it
            kept = ("deletionTimestamp", "deletionGracePeriodSeconds")
            self.living = {**pod, "metadata": {key: one for key, one in metadata(pod).items() if key not in kept}}
        self.evicted_at = self._evicted_at()

    def _deleted_at(self) -> float:
        """When the node learns that the pod is to go."""
        stamp = metadata(self.pod).get("deletionTimestamp")
        if not stamp:
            return FOREVER
        grace_seconds = metadata(self.pod).get("deletionGracePeriodSeconds") or 0
        return learned(self.outages, seconds(stamp) - grace_seconds)

    def _evicted_at(self) -> float:
        span = seconds_of(self.life.evict_seconds, self.life, self.pod, "evict")
        return FOREVER if span == FOREVER else self._later(self._begun_at(), span)

    def _begun_at(self) -> float:
        """When the node began with the pod, or will."""
        if self.sandbox is not None:
            return self.sandbox.created_at / NANO
        for one in (self.pod.get("status") or {}).get("conditions") or ():
            if one.get("type") == "PodScheduled" and one.get("lastTransitionTime"):
                return learned(self.outages, seconds(one["lastTransitionTime"]))
        return self.now

    def _later(self, at: float, span: float) -> float:
        return later(self.outages, at, span)

    # ------------------------------------------------------------ the way through time

    def step(self, since: float) -> Step:
        decided = self._live()
        deleted = self.deleted_at <= self.now
        told = tuple(one for one in self._all_told(decided) if since <= one.at <= self.now)
        if decided.gone and deleted and not self._is_awaited():
            return Step(remove=True, told=told)
        status = self._status(decided)
        changed = None if _is_same(self.pod.get("status") or {}, status) else status
        if decided.gone:
            return Step(status=changed, remove=deleted, told=told)
        due = self._due(decided)
        return Step(status=changed, told=told, after_seconds=None if due == FOREVER else due - self.now)

    def _is_awaited(self) -> bool:
        """Tells whether somebody wants to know how the pod ends: who holds it back, or gave it an end of its own."""
        return bool(metadata(self.pod).get("finalizers")) or self.life.stop_seconds != 0

    def _live(self) -> Plan:
        """Lets everything happen that is due; returns what the kubelet decides in the end."""
        at = self._known_until()
        for _ in range(_TURNS_MAX):
            decided = self._decide(at)
            if decided.gone:
                break
            event = min(self._events(decided, at), key=_when, default=None)
            if event is None or event.at > self.now:
                break
            at = max(at, event.at)
            event.happen()
        return decided

    def _known_until(self) -> float:
        """The last moment that the pod's status tells of."""
        moments = [max(one.started_at, one.finished_at) for some in self.containers.values() for one in some]
        return min(self.now, max([self._begun_at(), *(one / NANO for one in moments)]))

    def _observed(self) -> Observed:
        return Observed((self.sandbox,) if self.sandbox is not None else (), self.containers)

    def _decide(self, at: float) -> Plan:
        pod = self.pod if self.deleted_at <= at else self.living
        rejected = (EVICTED, self.life.evict_message) if self.evicted_at <= at else None
        return decide(pod, self._observed(), Memory(rejected=rejected), at, self.hashes)

    def _events(self, decided: Plan, at: float) -> Iterable[_Event]:
        """What may come next, if nothing else does before."""
        lost_at = self._power_lost_at()
        if lost_at < FOREVER:
            yield _Event(lost_at, lambda: self._lose(lost_at))
        for container in self._running():
            if (due := self._ends_at(container)) < FOREVER:
                yield _Event(due, lambda one=container, due=due: self._end(one, due))  # type: ignore[misc]
        for moment in (self.deleted_at, self.evicted_at, decided.wake_at or FOREVER):
            if at < moment < FOREVER:
                yield _Event(moment, _nothing)
        for action in decided.actions:
            yield self._event(action, decided, at)

    def _event(self, action: Action, decided: Plan, at: float) -> _Event:
        match action:
            case CreateSandbox():
                due = awake(self.outages, at)
                return _Event(due, lambda: self._make_sandbox(action.attempt, due))
            case StopSandbox():
                return _Event(at, self._stop_sandbox)
            case StartContainer():
                started = self._start(action).at
                return _Event(started, lambda: self._run(action, started))
            case KillContainer():
                due, code = self._kill(action, decided, at)
                container = self.containers[action.name][0]
                return _Event(due, lambda: self._stop(container, due, code))

    def _due(self, decided: Plan) -> float:
        """When something changes next that a status shows."""
        moments = [one.at for one in self._events(decided, self.now)]
        moments += [self._ready_at(container) for container in self._running()]
        for one in self.starts.values():
            moments += [said.at for said in one.waits]
        return min((one for one in moments if one > self.now), default=FOREVER)

    # ------------------------------------------------------------ what happens

    def _running(self) -> list[Container]:
        return [some[0] for some in self.containers.values() if some[0].state == RUNNING]

    def _put(self, container: Container) -> None:
        known = self.containers.get(container.name, ())
        same = bool(known) and known[0].id == container.id
        self.containers[container.name] = (container, *(known[1:] if same else known[:1]))

    def _power_lost_at(self) -> float:
        """When the node failed for the first time since it made the pod's sandbox."""
        if self.sandbox is None or not self.sandbox.ready:
            return FOREVER
        made = self.sandbox.created_at / NANO
        return min((one.start for one in self.outages if one.kind == FAIL and one.start >= made), default=FOREVER)

    def _lose(self, at: float) -> None:
        """The node fails: whatever ran is gone."""
        for one in self._running():
            ended = max(_whole(at), one.started_at)
            self._put(replace(one, state=EXITED, finished_at=ended, exit_code=_POWER_LOST, reason="Unknown"))
        self._stop_sandbox()
        text = "Pod sandbox changed, it will be killed and re-created."
        self.told.append(Told(awake(self.outages, at), "", "Normal", "SandboxChanged", text))

    def _make_sandbox(self, attempt: int, at: float) -> None:
        self.sandbox = sandbox(self.pod, attempt, _whole(at), self.place.pod_ip)

    def _stop_sandbox(self) -> None:
        if self.sandbox is not None:
            self.sandbox = replace(self.sandbox, ready=False)

    def _start(self, action: StartContainer) -> Start:
        """How the start of a container goes that the kubelet wants to run."""
        key = (action.name, action.attempt)
        if key not in self.starts:
            spec, life = self.specs[action.name], self.life.of(action.name)
            previous = self.containers.get(action.name)
            asked = awake(self.outages, self._wanted_at(spec, previous[0] if previous else None))
            pulls = previous is None
            self.starts[key] = start(self.pod, spec, life, asked, self.now, self.outages, pulls=pulls)
        return self.starts[key]

    def _wanted_at(self, spec: ContainerSpec, previous: Container | None) -> float:
        """Since when nothing but its start is missing to a container."""
        moments = [self._begun_at()]
        if previous is not None:
            moments.append(previous.finished_at / NANO + restart_step(previous)[1])
        for one in self.specs.values():
            if one.name == spec.name or one.kind not in (INIT, SIDECAR):
                break
            before = self.containers.get(one.name)
            if before:
                moments.append((before[0].finished_at if one.kind == INIT else before[0].started_at) / NANO)
        return max(moments)

    def _run(self, action: StartContainer, at: float) -> None:
        assert self.sandbox is not None
        self._put(
            Container(
                id=container_id(self.pod, action.name, self.sandbox.id, action.attempt, action.step),
                sandbox_id=self.sandbox.id,
                name=action.name,
                attempt=action.attempt,
                state=RUNNING,
                created_at=_whole(at),
                started_at=_whole(at),
                image=self.hashes[action.name],
                image_ref="",
                annotations={BACKOFF_STEP: str(action.step), CONTAINER_HASH: self.hashes[action.name]},
            )
        )

    def _ends_at(self, container: Container) -> float:
        spec, life = self.specs.get(container.name), self.life.of(container.name)
        if spec is None or (spec.kind == SIDECAR and container.name not in self.life.containers):
            return FOREVER
        run = life.init(container.attempt) if spec.kind == INIT else life.run(container.attempt)
        span = seconds_of(run.seconds, life, self.pod, "run", container.name, container.attempt)
        return FOREVER if span == FOREVER else self._later(container.started_at / NANO, span)

    def _end(self, container: Container, at: float) -> None:
        life, is_init = self.life.of(container.name), self.specs[container.name].kind == INIT
        run = life.init(container.attempt) if is_init else life.run(container.attempt)
        end = _whole(at)
        self._put(
            replace(
                container,
                state=EXITED,
                finished_at=end,
                exit_code=run.exit_code,
                reason=run.reason,
                message=run.message,
            )
        )

    def _kill(self, action: KillContainer, decided: Plan, at: float) -> tuple[float, int]:
        """Returns when a container that is told to stop has stopped, and with which code it exits."""
        life = self.life.of(action.name)
        if action.id not in self.kills:
            self.kills[action.id] = asked = self._asked_at(action.name, decided, at)
            self.told.append(Told(asked, action.name, "Normal", "Killing", action.message))
        asked = self.kills[action.id]
        stopped = self._later(asked, seconds_of(life.stop_seconds, life, self.pod, "stop", action.name))
        until = max(awake(self.outages, action.until), asked)
        return (stopped, life.stop_exit_code) if stopped <= until else (until, KILLED)

    def _asked_at(self, name: str, decided: Plan, at: float) -> float:
        """When a container was told to stop: sidecars once the others have ended."""
        ends = [some[0].finished_at / NANO for some in self.containers.values() if some[0].state == EXITED]
        if self.deleted_at <= at:
            asked = self.deleted_at
        elif decided.verdict and decided.verdict[0] == EVICTED:
            asked = self.evicted_at
        else:
            asked = at if decided.terminating else self.now
        if self.specs[name].kind == SIDECAR:
            asked = max([asked, *ends])
        return max(asked, self.containers[name][0].started_at / NANO)

    def _stop(self, container: Container, at: float, code: int) -> None:
        self._put(replace(container, state=EXITED, finished_at=_whole(at), exit_code=code))

    # ------------------------------------------------------------ what is shown

    def _ready_at(self, container: Container) -> float:
        spec, life = self.specs.get(container.name), self.life.of(container.name)
        if spec is None or (spec.kind == SIDECAR and container.name not in self.life.containers):
            return 0.0
        span = seconds_of(life.ready_seconds, life, self.pod, "ready", container.name, container.attempt)
        return FOREVER if span == FOREVER else self._later(container.started_at / NANO, span)

    def _status(self, decided: Plan) -> Obj:
        waiting = dict(decided.waiting)
        for (name, _), one in self.starts.items():
            said = [wait for wait in one.waits if wait.at <= self.now]
            if said and one.at > self.now and name not in waiting:
                waiting[name] = (said[-1].reason, said[-1].message)
        health = {one.id: Health(ready=self._ready_at(one) <= self.now) for one in self._running()}
        everything = [one for some in self.containers.values() for one in some]
        around = Surroundings(
            host_ips=(self.place.host_ip,),
            runtime_name=RUNTIME,
            messages={one.id: one.message for one in everything if one.message},
        )
        shown = replace(decided, waiting=waiting)
        status = pod_status(self.pod, self._observed(), shown, Memory(health=health), around, self.now_at)
        if self.sandbox is not None and not (self.pod.get("status") or {}).get("startTime"):
            status["startTime"] = rfc3339(datetime.fromtimestamp(self.sandbox.created_at / NANO, UTC))
        for key in STATUSES:
            for one in status.get(key) or ():
                one.pop("volumeMounts", None)  # nothing is mounted; and of 50,000 pods it would be 50 MB
        return status

    def _all_told(self, decided: Plan) -> Iterable[Told]:
        """Everything that happened, in order."""
        told = [*self.told, *(said for one in self.starts.values() for said in one.told)]
        where = f"{name_of(self.pod)}_{namespace_of(self.pod)}({uid_of(self.pod)})"
        for name, (reason, _) in decided.waiting.items():
            if reason == "CrashLoopBackOff":
                text = f"Back-off restarting failed container {name} in pod {where}"
                at = self.containers[name][0].finished_at / NANO
                told.append(Told(at, name, "Warning", "BackOff", text))
        if decided.verdict and decided.verdict[0] == EVICTED:
            told.append(Told(self.evicted_at, "", "Warning", EVICTED, self.life.evict_message))
        for one in self._running():
            if self._ready_at(one) > self.now and self.specs[one.name].spec.get("readinessProbe"):
                text = "Readiness probe failed: the pod's simulated life says that it is not ready"
                told.append(Told(one.started_at / NANO, one.name, "Warning", "Unhealthy", text))
        return sorted(told, key=_when)


def _whole(at: float) -> int:
    """Returns a moment in nanoseconds as a status tells it, in whole seconds: what is read back must be what was."""
    return int(at) * NANO


def _when(one: _Event | Told) -> float:
    return one.at


def _is_same(old: Obj, new: Obj) -> bool:
    """Tells whether a status says nothing new."""
    return all(old.get(key) == value or _says(old.get(key)) == _says(value) for key, value in new.items())


def _says(value: object) -> object:
    if isinstance(value, dict):
        return {key: said for key, one in value.items() if (said := _says(one)) not in (None, {}, [], "")}
    return [_says(one) for one in value] if isinstance(value, list) else value
