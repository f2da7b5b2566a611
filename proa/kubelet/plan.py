"""What to do next for one pod: a pure function of the pod, what the runtime shows, and what was tried before.

A worker (`worker.py`) asks for a plan, carries its actions out side by side, and asks again whenever something changed.
So every action must follow from what is observed: nothing is lost when the agent restarts in the middle.

Follows upstream's documented pod lifecycle: sandbox, init containers in order, sidecars (KEP-753), restart policies, a
back-off of 10 s doubling to 5 min and forgotten after 10 min of running, active deadline, termination in order
(containers, then sidecars last to first, then the sandbox).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from proa.apis.podspec.features import restarts_all
from proa.kubelet.cri.types import CREATED, EXITED, RUNNING, UNKNOWN, Container, Sandbox
from proa.kubelet.eviction import EVICTED
from proa.kubelet.podspec import (
    BACKOFF_STEP,
    CONTAINER_HASH,
    EPHEMERAL,
    INIT,
    MAIN,
    RESTART_ALL,
    RESTART_COUNT,
    ROUND,
    SIDECAR,
    ContainerSpec,
    by_kind,
    containers_of,
    exit_action,
    grace_seconds,
    is_terminal,
    restart_policy,
    restarts,
)
from proa.meta.objects import Obj, is_deleted, metadata
from proa.util.clock import parse_rfc3339

BACKOFF_SECONDS_FIRST = 10.0
BACKOFF_SECONDS_MAX = 300.0
BACKOFF_FORGOTTEN_SECONDS = 600.0
GRACE_SECONDS_MIN = 2
NANO = 1_000_000_000


# ---------------------------------------------------------------- what is known


@dataclass(frozen=True, slots=True)
class Observed:
    """What the runtime holds of one pod, newest first.

    All containers of a pod may be restarted together (KEP-5532): each time begins a new `round`, in which containers of
    earlier ones count as predecessors only. `restarting`: the last round is being ended. See `in_round`.
    """

    sandboxes: tuple[Sandbox, ...] = ()
    containers: Mapping[str, tuple[Container, ...]] = field(default_factory=dict)
    round: int = 0
    restarting: bool = False

    @property
    def sandbox(self) -> Sandbox | None:
        """The newest sandbox, ready or not."""
        return self.sandboxes[0] if self.sandboxes else None

    @property
    def ready_sandbox(self) -> Sandbox | None:
        return self.sandboxes[0] if self.sandboxes and self.sandboxes[0].ready else None

    def latest(self, name: str) -> Container | None:
        found = self.containers.get(name)
        return found[0] if found else None

    def of_round(self, name: str) -> Container | None:
        """The newest container of this name, if it is of this round."""
        latest = self.latest(name)
        return latest if latest and round_of(latest) >= self.round else None

    def current(self, name: str) -> Container | None:
        """The newest container of this name, if it is of this round and in the newest sandbox."""
        latest = self.of_round(name)
        return latest if latest and self.sandbox and latest.sandbox_id == self.sandbox.id else None

    def all(self) -> Iterator[Container]:
        for containers in self.containers.values():
            yield from containers

    @property
    def running(self) -> bool:
        return any(one.state in (RUNNING, UNKNOWN) for one in self.all())


@dataclass(frozen=True, slots=True)
class Health:
    """What the probes of a running container say; None while a probe has not yet said anything."""

    started: bool = True
    ready: bool = True
    failed: str = ""  # "liveness" or "startup" when the container must go
    failed_grace_seconds: int | None = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a container (or, with no name, the sandbox) could not be started; `retry_at` is seconds since the epoch."""

    reason: str
    message: str
    retry_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """What the worker remembers: probe results by container id, refusals by container name, and a final verdict.

    The sandbox is made while volumes are being made, but not once one was refused; containers wait for all volumes.
    `rejected` is set for a pod that the node did not admit or had to evict: (reason, message). `replaced` are ids of
    containers that were ended only for others to take their place, whatever the restart policy says.
    """

    health: Mapping[str, Health] = field(default_factory=dict)
    refusals: Mapping[str, Refusal] = field(default_factory=dict)
    sandbox_refusal: Refusal | None = None
    volumes_ready: bool = True
    volumes_refused: bool = False
    rejected: tuple[str, str] | None = None
    replaced: frozenset[str] = frozenset()


# ---------------------------------------------------------------- what to do


@dataclass(frozen=True, slots=True)
class CreateSandbox:
    attempt: int


@dataclass(frozen=True, slots=True)
class StopSandbox:
    id: str


@dataclass(frozen=True, slots=True)
class StartContainer:
    """`attempt` counts the restarts of this container; `step` is its place in the back-off, `round` that of the pod."""

    name: str
    attempt: int
    step: int
    round: int = 0


@dataclass(frozen=True, slots=True)
class KillContainer:
    """Runs the preStop hook, then stops; `until` is when the grace period ends, in seconds since the epoch.

    `replace`: another container takes its place, whatever the restart policy says. `abrupt`: no hook, no grace period.
    """

    id: str
    name: str
    message: str
    until: float
    replace: bool = False
    abrupt: bool = False


Action = CreateSandbox | StopSandbox | StartContainer | KillContainer


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Actions to carry out at once and side by side; `wake_at` is when to ask again although nothing changed.

    `waiting` says why containers don't run: name -> (reason, message). `terminating`: the pod is on its way out;
    `gone`: nothing of it runs any more. `verdict` is the (reason, message) with which it fails.
    """

    actions: tuple[Action, ...] = ()
    wake_at: float | None = None
    waiting: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    terminating: bool = False
    gone: bool = False
    verdict: tuple[str, str] | None = None


def plan(pod: Obj, observed: Observed, memory: Memory, now: float, hashes: Mapping[str, str] | None = None) -> Plan:
    """Decides what to do next; `now` is seconds since the epoch, `hashes` what `container_hash` gives for each name.

    A pod that is gone from the API is passed with a deletionTimestamp.
    """
    verdict = memory.rejected or _deadline_passed(pod, now)
    if is_deleted(pod) or is_terminal(pod) or verdict:
        return _terminate(pod, observed, now, verdict)
    if _finished(pod, observed, memory):
        return _terminate(pod, observed, now, None)
    if observed.ready_sandbox is None:
        return _without_sandbox(pod, observed, memory, now)
    if observed.restarting:
        return _end_round(pod, observed, now)
    run = _Run(pod, observed, memory, now, hashes or {})
    run.decide()
    wake_at = _earliest(run.wake_at, _deadline_at(pod))
    return Plan(actions=tuple(run.actions), wake_at=wake_at, waiting=run.waiting)


def in_round(pod: Obj, observed: Observed) -> Observed:
    """Returns what is observed with its round: a new one begins when a container's rule asks for it and none runs."""
    if not restarts_all(pod.get("spec") or {}):
        return observed
    rounds = [round_of(one) for one in observed.all()]
    seen = replace(observed, round=max(rounds, default=0))
    ended = [(one, seen.of_round(one.name)) for one in by_kind(pod, INIT, SIDECAR, MAIN)]
    if not any(one and one.state == EXITED and exit_action(spec, one.exit_code) == RESTART_ALL for spec, one in ended):
        return seen
    if any(one and one.state in (RUNNING, UNKNOWN) for _, one in ended):
        return replace(seen, restarting=True)
    return replace(seen, round=seen.round + 1)


def round_of(container: Container) -> int:
    return int(container.annotations.get(ROUND) or 0)


def _end_round(pod: Obj, observed: Observed, now: float) -> Plan:
    """Ends all containers at once, so that they can begin anew together."""
    message = "Stopping container {} for all of the pod's to be restarted"
    kills = [
        KillContainer(one.id, one.name, message.format(one.name), now, abrupt=True)
        for spec in by_kind(pod, INIT, SIDECAR, MAIN)
        if (one := observed.of_round(spec.name)) and one.state in (RUNNING, UNKNOWN)
    ]
    return Plan(actions=tuple(kills), wake_at=_deadline_at(pod))


def backoff_seconds(step: int) -> float:
    """The wait before a container's restart; step 0 is a container that was never restarted."""
    return min(BACKOFF_SECONDS_MAX, BACKOFF_SECONDS_FIRST * 2.0 ** (step - 1)) if step else 0.0


def restart_step(container: Container) -> tuple[int, float]:
    """Returns (step of the next container, seconds to wait after this one's end)."""
    step = int(container.annotations.get(BACKOFF_STEP) or 0)
    ran_seconds = (container.finished_at - container.started_at) / NANO if container.started_at else 0.0
    if step == 0 or ran_seconds > BACKOFF_FORGOTTEN_SECONDS:
        return 1, 0.0
    return step + 1, backoff_seconds(step)


def restart_count(container: Container) -> int:
    return int(container.annotations.get(RESTART_COUNT) or container.attempt)


# ---------------------------------------------------------------- ends


def _deadline_at(pod: Obj) -> float | None:
    seconds = (pod.get("spec") or {}).get("activeDeadlineSeconds")
    start = (pod.get("status") or {}).get("startTime")
    return parse_rfc3339(start).timestamp() + seconds if seconds and start else None


def _deadline_passed(pod: Obj, now: float) -> tuple[str, str] | None:
    at = _deadline_at(pod)
    if at is not None and now >= at:
        return "DeadlineExceeded", "Pod was active on the node longer than the specified deadline"
    return None


def _is_over(pod: Obj, container: ContainerSpec, latest: Container | None, memory: Memory) -> bool:
    """Tells whether the container has ended and none will be started in its place."""
    if latest is None or latest.state != EXITED or latest.id in memory.replaced:
        return False
    return not restarts(pod, container, latest.exit_code)


def _finished(pod: Obj, observed: Observed, memory: Memory) -> bool:
    """Tells whether every main container has ended for good, or an init container failed for good."""
    if observed.restarting:
        return False
    for container in by_kind(pod, INIT):
        latest = observed.of_round(container.name)
        if latest and latest.exit_code and _is_over(pod, container, latest, memory):
            return True
    mains = by_kind(pod, MAIN)
    return bool(mains) and all(_is_over(pod, one, observed.of_round(one.name), memory) for one in mains)


def _terminate(pod: Obj, observed: Observed, now: float, verdict: tuple[str, str] | None) -> Plan:
    """Containers first, then sidecars from last to first, then sandboxes."""
    deleted_at = metadata(pod).get("deletionTimestamp")
    if deleted_at:
        until = parse_rfc3339(deleted_at).timestamp()
        if metadata(pod).get("deletionGracePeriodSeconds") == 0:
            until = now
    else:
        until = now + grace_seconds(pod)
    if verdict and verdict[0] == EVICTED:
        until = now
    until = max(until, now + GRACE_SECONDS_MIN)
    sidecars = [one.name for one in by_kind(pod, SIDECAR)]
    live = [one for one in observed.all() if one.state in (RUNNING, UNKNOWN)]
    first = [one for one in live if one.name not in sidecars]
    if not first and live:
        last = max(live, key=lambda one: sidecars.index(one.name))
        first = [one for one in live if one.name == last.name]
    actions: list[Action] = [KillContainer(one.id, one.name, f"Stopping container {one.name}", until) for one in first]
    if not live:
        actions = [StopSandbox(sandbox.id) for sandbox in observed.sandboxes if sandbox.ready]
    return Plan(actions=tuple(actions), terminating=True, gone=not actions, verdict=verdict)


def _without_sandbox(pod: Obj, observed: Observed, memory: Memory, now: float) -> Plan:
    """No ready sandbox: end what is left of the old one, then make a new one, unless nothing may run again."""
    until = now + max(GRACE_SECONDS_MIN, grace_seconds(pod))
    left = [one for one in observed.all() if one.state in (RUNNING, UNKNOWN)]
    if left:
        kills = [
            KillContainer(one.id, one.name, "Pod sandbox changed, it will be killed and re-created.", until)
            for one in left
        ]
        return Plan(actions=tuple(kills))
    started_before = any(observed.latest(one.name) for one in by_kind(pod, MAIN))
    if started_before and restart_policy(pod) == "Never":
        return Plan(terminating=True, gone=True)
    refusal = memory.sandbox_refusal
    if memory.volumes_refused:
        return Plan(wake_at=_deadline_at(pod))
    if refusal and refusal.retry_at > now:
        return Plan(wake_at=_earliest(refusal.retry_at, _deadline_at(pod)))
    attempt = observed.sandboxes[0].attempt + 1 if observed.sandboxes else 0
    return Plan(actions=(CreateSandbox(attempt),), wake_at=_deadline_at(pod))


# ---------------------------------------------------------------- a pod that runs


def _earliest(*moments: float | None) -> float | None:
    known = [moment for moment in moments if moment is not None]
    return min(known) if known else None


class _Run:
    """One decision about a pod with a ready sandbox; collects actions, reasons to wait, and the next wake-up."""

    def __init__(self, pod: Obj, observed: Observed, memory: Memory, now: float, hashes: Mapping[str, str]) -> None:
        self.pod, self.observed, self.memory, self.now, self.hashes = pod, observed, memory, now, hashes
        self.actions: list[Action] = []
        self.waiting: dict[str, tuple[str, str]] = {}
        self.wake_at: float | None = None

    def decide(self) -> None:
        for container in by_kind(self.pod, EPHEMERAL):
            if self.observed.latest(container.name) is None:
                self._start(container, None)
        if self._initialized() or self._initialize():
            for container in by_kind(self.pod, MAIN):
                self._keep(container)

    def _initialized(self) -> bool:
        """Once a main container was made in this sandbox, init containers are done; sidecars are kept alive."""
        if not any(self.observed.current(one.name) for one in by_kind(self.pod, MAIN)):
            return False
        for container in by_kind(self.pod, SIDECAR):
            self._keep(container)
        return True

    def _initialize(self) -> bool:
        """Walks the init containers in order, up to the first that is not done; returns whether all are."""
        for container in by_kind(self.pod, INIT, SIDECAR):
            current = self.observed.current(container.name)
            if container.kind == INIT and current and current.state == EXITED and current.exit_code == 0:
                continue
            self._keep(container)
            if container.kind == INIT or current is None or current.state != RUNNING:
                return False
            if not self._health(current).started:
                return False
        return True

    def _health(self, container: Container) -> Health:
        return self.memory.health.get(container.id) or Health()

    def _keep(self, container: ContainerSpec) -> None:
        """Starts the container if it should run and does not; ends it if it must be replaced."""
        current = self.observed.current(container.name)
        if current is None:
            earlier = self.observed.latest(container.name)
            same_round = self.observed.of_round(container.name) is not None
            if (
                earlier
                and same_round
                and container.kind == MAIN
                and not restarts(self.pod, container, earlier.exit_code)
            ):
                return  # it ended for good in an earlier sandbox
            self._start(container, earlier)
        elif current.state == CREATED:
            # Made but never started: a start that failed, or an agent that died in between.
            self._start(container, current)
        elif current.state == EXITED:
            if not _is_over(self.pod, container, current, self.memory):
                self._start(container, current)
        else:
            self._examine(container, current)

    def _examine(self, container: ContainerSpec, current: Container) -> None:
        """A running container goes when it fails a probe or no longer is what the pod says."""
        health = self._health(current)
        grace = grace_seconds(self.pod)
        changed = self._changed(current)
        if current.state == UNKNOWN:
            message = f"Container {container.name} is in unknown state, try killing it before restart"
        elif changed:
            message = f"Container {container.name} definition changed, will be restarted"
        elif health.failed:
            message = f"Container {container.name} failed {health.failed} probe, will be restarted"
            grace = grace if health.failed_grace_seconds is None else health.failed_grace_seconds
        else:
            return
        replaced = changed or current.state == UNKNOWN
        if not replaced and not restarts(self.pod, container, 137):
            message = f"Container {container.name} failed {health.failed} probe"
        until = self.now + max(GRACE_SECONDS_MIN, grace)
        self.actions.append(KillContainer(current.id, container.name, message, until, replaced))

    def _changed(self, current: Container) -> bool:
        """Tells whether the pod no longer asks for what this container was made from."""
        wanted = self.hashes.get(current.name)
        return wanted is not None and current.annotations.get(CONTAINER_HASH, wanted) != wanted

    def _start(self, container: ContainerSpec, previous: Container | None) -> None:
        name = container.name
        attempt, step, due = 0, 0, 0.0
        if previous is not None:
            attempt = restart_count(previous) + 1
            # What another container did says nothing of this one: a new image does not wait.
            step, wait_seconds = (1, 0.0) if self._changed(previous) else restart_step(previous)
            if previous.id in self.memory.replaced:
                wait_seconds = 0.0
            due = previous.finished_at / NANO + wait_seconds
            if previous.state == CREATED:
                attempt, step, due = restart_count(previous), int(previous.annotations.get(BACKOFF_STEP) or 0), 0.0
        if due > self.now:
            meta = metadata(self.pod)
            message = (
                f"back-off {_duration(due - previous.finished_at / NANO)} restarting failed container={name} "
                f"pod={meta.get('name')}_{meta.get('namespace')}({meta.get('uid')})"
                if previous
                else ""
            )
            self.waiting[name] = ("CrashLoopBackOff", message)
            self.wake_at = _earliest(self.wake_at, due)
            return
        refusal = self.memory.refusals.get(name)
        if refusal:
            self.waiting[name] = (refusal.reason, refusal.message)
            if refusal.retry_at > self.now:
                self.wake_at = _earliest(self.wake_at, refusal.retry_at)
                return
        if not self.memory.volumes_ready:
            return
        self.actions.append(StartContainer(name, attempt, step, self.observed.round))


def _duration(seconds: float) -> str:
    """Writes a span as Go does: 10s, 1m20s."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"


def known_names(pod: Obj) -> set[str]:
    return {one.name for one in containers_of(pod)}
