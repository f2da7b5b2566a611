"""The next step of a Job (pure). Follows upstream's job controller with finalizer tracking.

An ended pod is first noted in the status by uid, then released from its finalizer, then counted; so each is counted
exactly once, whatever crashes in between.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from proa.controllers.conditions import condition, find, is_true
from proa.controllers.job.indexes import parse, show
from proa.controllers.job.policy import COUNT, FAIL_INDEX, FAIL_JOB, IGNORE, judge, success_policy_met
from proa.controllers.pods import is_active, is_finished, is_ready, phase
from proa.meta.objects import Obj, annotations_of, is_deleted, metadata, uid_of
from proa.util.clock import parse_rfc3339, rfc3339

FINALIZER = "batch.kubernetes.io/job-tracking"
INDEX = "batch.kubernetes.io/job-completion-index"
INDEX_FAILURES = "batch.kubernetes.io/job-index-failure-count"
BATCH_MAX = 500
_BACKOFF_SECONDS_FIRST = 10.0
_BACKOFF_SECONDS_MAX = 600.0
_INDEXES_MAX = 100_000


@dataclass(frozen=True, slots=True)
class NewPod:
    """A pod to create; `index` None unless the Job is indexed."""

    index: int | None = None
    failures: int | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """In this order: write `status` (if not None), `release` pods from their finalizer, `delete`, `create`."""

    status: Obj | None = None
    release: tuple[Obj, ...] = ()
    delete: tuple[Obj, ...] = ()
    create: tuple[NewPod, ...] = ()
    recheck_seconds: float | None = None
    events: tuple[tuple[str, str, str], ...] = ()


@dataclass(slots=True)
class _State:
    """What is known while planning."""

    job: Obj
    pods: Sequence[Obj]
    now: datetime
    status: Obj
    conditions: list[Obj]
    active: list[Obj] = field(default_factory=list)
    completed: set[int] = field(default_factory=set)
    failed_indexes: set[int] = field(default_factory=set)
    release: list[Obj] = field(default_factory=list)
    held: dict[str, Obj] = field(default_factory=dict)  # failed pods that are kept, and not counted, for their index
    events: list[tuple[str, str, str]] = field(default_factory=list)
    verdict: tuple[str, str] | None = None  # a failure policy's reason and message

    @property
    def indexed(self) -> bool:
        return bool(self.job["spec"].get("completionMode") == "Indexed")

    def count(self, name: str) -> int:
        """Returns how many pods succeeded or failed, those noted but not yet counted included."""
        noted = len((self.status.get("uncountedTerminatedPods") or {}).get(name) or ())
        return int(self.status.get(name) or 0) + noted

    def set(self, type: str, status: str, reason: str, message: str) -> None:
        made = condition(type, status, reason, message, self.now)
        made["lastProbeTime"] = made["lastTransitionTime"]
        self.conditions = [*(one for one in self.conditions if one.get("type") != type), made]


def is_over(job: Obj) -> bool:
    conditions = (job.get("status") or {}).get("conditions")
    return is_true(conditions, "Complete") or is_true(conditions, "Failed")


def index_of(pod: Obj) -> int | None:
    text = annotations_of(pod).get(INDEX, "")
    return int(text) if text.isdecimal() else None


def plan(job: Obj, pods: Sequence[Obj], now: datetime) -> Plan:
    """`pods`: those that the Job controls."""
    if is_over(job) or is_deleted(job):
        return Plan(release=tuple(pod for pod in pods if _is_tracked(pod)))
    old = job.get("status") or {}
    state = _State(job, pods, now, dict(old), list(old.get("conditions") or []))
    state.active = [pod for pod in pods if is_active(pod)]
    _note_ended(state)
    suspended = bool(job["spec"].get("suspend"))
    if not suspended and not state.status.get("startTime"):
        state.status["startTime"] = rfc3339(now)
    delete, create, recheck_seconds = _decide(state, suspended)
    status = _finish(state)
    return Plan(
        None if status == old else status,
        tuple(state.release),
        tuple(delete[:BATCH_MAX]),
        tuple(create[:BATCH_MAX]),
        recheck_seconds,
        tuple(state.events),
    )


# ---------------------------------------------------------------- counting


def _is_tracked(pod: Obj) -> bool:
    return FINALIZER in (metadata(pod).get("finalizers") or ())


def _replaces_only_failed(job: Obj) -> bool:
    return bool(job["spec"].get("podReplacementPolicy") == "Failed" or job["spec"].get("podFailurePolicy"))


def _has_failed(job: Obj, pod: Obj) -> bool:
    if phase(pod) == "Failed":
        return True
    return is_deleted(pod) and not is_finished(pod) and not _replaces_only_failed(job)


def _note_ended(state: _State) -> None:
    """Moves ended pods on: noted, released, counted."""
    spec, status = state.job["spec"], state.status
    tracked = {uid_of(pod): pod for pod in state.pods if _is_tracked(pod)}
    noted = status.get("uncountedTerminatedPods") or {}
    waiting = {name: [uid for uid in noted.get(name) or () if uid in tracked] for name in ("succeeded", "failed")}
    for name in ("succeeded", "failed"):
        counted = len(noted.get(name) or ()) - len(waiting[name])
        if counted:
            status[name] = int(status.get(name) or 0) + counted
    indexes_max = min(int(spec.get("completions") or 0), _INDEXES_MAX)
    if state.indexed:
        state.completed = {one for one in parse(status.get("completedIndexes")) if one < indexes_max}
        state.failed_indexes = {one for one in parse(status.get("failedIndexes")) if one < indexes_max}
    failed = set(waiting["failed"])
    _hold(state, [pod for uid, pod in tracked.items() if uid not in failed])
    room = BATCH_MAX
    already = failed.union(waiting["succeeded"])
    for uid, pod in tracked.items():
        if uid in state.held:
            continue
        if uid in already:
            state.release.append(pod)
            continue
        if phase(pod) == "Succeeded":
            index = index_of(pod)
            if state.indexed:
                if index is not None and index < indexes_max:
                    state.completed.add(index)
                state.release.append(pod)
            elif room:
                waiting["succeeded"].append(uid)
                state.release.append(pod)
                room -= 1
        elif _has_failed(state.job, pod) and room:
            if _judged(state, pod) is not IGNORE:
                waiting["failed"].append(uid)
                room -= 1
            state.release.append(pod)
    status["uncountedTerminatedPods"] = {name: uids for name, uids in waiting.items() if uids}
    if state.indexed:
        status["succeeded"] = len(state.completed)
        if spec.get("backoffLimitPerIndex") is not None:
            _fail_indexes(state, indexes_max)


def _hold(state: _State, tracked: Sequence[Obj]) -> None:
    """Keeps the last failed pod of an index that is to be tried again: it knows how often the index has failed."""
    limit = state.job["spec"].get("backoffLimitPerIndex")
    over = is_true(state.conditions, "FailureTarget") or is_true(state.conditions, "SuccessCriteriaMet")
    if limit is None or not state.indexed or over:
        return
    settled = {index_of(pod) for pod in state.active} | state.completed | state.failed_indexes
    last: dict[int, Obj] = {}
    for pod in tracked:
        index = index_of(pod)
        if index is None or phase(pod) != "Failed" or index in settled:
            continue
        if index not in last or _failures(pod) >= _failures(last[index]):
            last[index] = pod
    for pod in last.values():
        action, _ = judge(state.job, pod)
        if action in (COUNT, IGNORE) and (action == IGNORE or _failures(pod) + 1 <= int(limit)):
            state.held[uid_of(pod)] = pod


def _judged(state: _State, pod: Obj) -> str:
    """Returns what the failure policy says of a failed pod, and keeps a verdict on the whole Job."""
    if phase(pod) != "Failed":
        return COUNT
    action, message = judge(state.job, pod)
    if action == FAIL_JOB and state.verdict is None:
        state.verdict = ("PodFailurePolicy", message)
    index = index_of(pod)
    if action == FAIL_INDEX and index is not None:
        state.failed_indexes.add(index)
    return IGNORE if action == IGNORE else action


def _fail_indexes(state: _State, indexes_max: int) -> None:
    limit = int(state.job["spec"]["backoffLimitPerIndex"])
    for pod in state.pods:
        index = index_of(pod)
        if index is None or index >= indexes_max or not _has_failed(state.job, pod):
            continue
        if judge(state.job, pod)[0] != IGNORE and _failures(pod) + 1 > limit:
            state.failed_indexes.add(index)
    state.failed_indexes -= state.completed
    state.status["failedIndexes"] = show(state.failed_indexes)


def _failures(pod: Obj) -> int:
    text = annotations_of(pod).get(INDEX_FAILURES, "")
    return int(text) if text.isdecimal() else 0


# ---------------------------------------------------------------- deciding


def _decide(state: _State, suspended: bool) -> tuple[list[Obj], list[NewPod], float | None]:
    failure = _failure(state)
    success = _success(state)
    if failure or success:
        _conclude(state, failure, success)
        return list(state.active), [], _until_deadline(state)
    if suspended:
        _suspend(state)
        return list(state.active), [], None
    if is_true(state.conditions, "Suspended"):
        state.set("Suspended", "False", "JobResumed", "Job resumed")
        state.status["startTime"] = rfc3339(state.now)
        state.events.append(("Normal", "Resumed", "Job resumed"))
    wanted = _wanted_active(state)
    if len(state.active) > wanted:
        return _surplus(state, len(state.active) - wanted), [], _until_deadline(state)
    terminating = sum(is_deleted(pod) and not is_finished(pod) for pod in state.pods)
    missing = wanted - len(state.active) - (terminating if _replaces_only_failed(state.job) else 0)
    duplicates = _duplicates(state)
    created: list[NewPod] = []
    wait_seconds = 0.0
    if missing > 0:
        wait_seconds = 0.0 if _limits_per_index(state) else _backoff_seconds(state)
        if not wait_seconds:
            created, wait_seconds = _new_pods(state, missing)
    waits = [one for one in (wait_seconds or None, _until_deadline(state)) if one is not None]
    return duplicates, created, min(waits, default=None)


def _limits_per_index(state: _State) -> bool:
    return state.job["spec"].get("backoffLimitPerIndex") is not None


def _failure(state: _State) -> tuple[str, str] | None:
    """Returns (reason, message) if the Job has failed."""
    target = find(state.conditions, "FailureTarget")
    if target is not None and target.get("status") == "True":
        return target.get("reason") or "", target.get("message") or ""
    spec = state.job["spec"]
    if is_true(state.conditions, "SuccessCriteriaMet"):
        return None
    if state.verdict is not None:
        return state.verdict
    limit = spec.get("backoffLimit")
    limit = 6 if limit is None else int(limit)
    restarts = 0
    if (spec["template"].get("spec") or {}).get("restartPolicy") == "OnFailure":
        restarts = sum(_restarts(pod) for pod in state.active if phase(pod) in ("Running", "Pending"))
    held = sum(judge(state.job, pod)[0] != IGNORE for pod in state.held.values())
    if state.count("failed") + held > limit or (restarts and restarts >= max(limit, 1)):
        return "BackoffLimitExceeded", "Job has reached the specified backoff limit"
    deadline = _until_deadline(state)
    if deadline is not None and deadline <= 0 and not spec.get("suspend"):
        return "DeadlineExceeded", "Job was active longer than specified deadline"
    if _limits_per_index(state) and state.indexed:
        most = spec.get("maxFailedIndexes")
        if most is not None and len(state.failed_indexes) > int(most):
            return "MaxFailedIndexesExceeded", "Job has exceeded the specified maximal number of failed indexes"
        if state.failed_indexes and len(state.failed_indexes | state.completed) >= int(spec.get("completions") or 0):
            return "FailedIndexes", "Job has failed indexes"
    return None


def _restarts(pod: Obj) -> int:
    status = pod.get("status") or {}
    listed = [*(status.get("containerStatuses") or ()), *(status.get("initContainerStatuses") or ())]
    return sum(one.get("restartCount") or 0 for one in listed)


def _success(state: _State) -> tuple[str, str] | None:
    met = find(state.conditions, "SuccessCriteriaMet")
    if met is not None and met.get("status") == "True":
        return met.get("reason") or "", met.get("message") or ""
    if state.indexed:
        why = success_policy_met(state.job, state.completed)
        if why:
            return "SuccessPolicy", why
    completions = state.job["spec"].get("completions")
    reached = ("CompletionsReached", "Reached expected number of succeeded pods")
    if completions is None:
        return reached if state.count("succeeded") and not state.active else None
    return reached if state.count("succeeded") >= int(completions) else None


def _conclude(state: _State, failure: tuple[str, str] | None, success: tuple[str, str] | None) -> None:
    """Sets the target condition at once, the final one when no pod is left to wait for or count."""
    target, final, why = (
        ("FailureTarget", "Failed", failure) if failure else ("SuccessCriteriaMet", "Complete", success)
    )
    assert why is not None
    if not is_true(state.conditions, target):
        state.set(target, "True", *why)
    noted = state.status.get("uncountedTerminatedPods")
    if noted or state.held or any(not is_finished(pod) for pod in state.pods):
        return
    state.set(final, "True", *why)
    if failure:
        state.events.append(("Warning", why[0], why[1]))
    else:
        state.status["completionTime"] = rfc3339(state.now)
        state.events.append(("Normal", "Completed", "Job completed"))


def _suspend(state: _State) -> None:
    if not is_true(state.conditions, "Suspended"):
        state.set("Suspended", "True", "JobSuspended", "Job suspended")
        state.events.append(("Normal", "Suspended", "Job suspended"))
    state.status.pop("startTime", None)


def _until_deadline(state: _State) -> float | None:
    seconds = state.job["spec"].get("activeDeadlineSeconds")
    started = state.status.get("startTime")
    if seconds is None or not started:
        return None
    return float(seconds) - (state.now - parse_rfc3339(started)).total_seconds()


def _wanted_active(state: _State) -> int:
    spec = state.job["spec"]
    parallelism = 1 if spec.get("parallelism") is None else int(spec["parallelism"])
    succeeded = state.count("succeeded")
    if spec.get("completions") is None:
        return len(state.active) if succeeded else parallelism
    left = int(spec["completions"]) - succeeded - (len(state.failed_indexes) if state.indexed else 0)
    return max(0, min(left, parallelism))


def _surplus(state: _State, count: int) -> list[Obj]:
    """Returns active pods to delete: doubles first, then those that are not ready and the youngest."""
    doubles = _duplicates(state)
    chosen = {uid_of(pod) for pod in doubles}
    others = [pod for pod in state.active if uid_of(pod) not in chosen]
    others.sort(key=lambda pod: metadata(pod).get("creationTimestamp") or "", reverse=True)
    others.sort(key=is_ready)
    return [*doubles, *others][: max(count, len(doubles))]


def _duplicates(state: _State) -> list[Obj]:
    """Returns active pods of an indexed Job that have no index of their own."""
    if not state.indexed:
        return []
    seen: set[int] = set()
    found = []
    for pod in sorted(state.active, key=lambda one: metadata(one).get("creationTimestamp") or ""):
        index = index_of(pod)
        most = int(state.job["spec"].get("completions") or 0)
        if index is None or index in seen or index in state.completed or index in state.failed_indexes or index >= most:
            found.append(pod)
        else:
            seen.add(index)
    return found


def _new_pods(state: _State, count: int) -> tuple[list[NewPod], float]:
    """Returns pods to create, and how long an index that has failed has to wait for its turn (0: none does)."""
    if not state.indexed:
        return [NewPod()] * count, 0.0
    busy = {index_of(pod) for pod in state.active} | state.completed | state.failed_indexes
    if _replaces_only_failed(state.job):
        busy |= {index_of(pod) for pod in state.pods if not is_finished(pod)}
    free = (one for one in range(int(state.job["spec"].get("completions") or 0)) if one not in busy)
    if not _limits_per_index(state):
        return [NewPod(index) for index, _ in zip(free, range(count), strict=False)], 0.0
    failed: dict[int | None, list[Obj]] = {}
    for pod in state.pods:
        if _has_failed(state.job, pod):
            failed.setdefault(index_of(pod), []).append(pod)
    made: list[NewPod] = []
    waits: list[float] = []
    for index in free:
        if len(made) == count:
            break
        wait_seconds = _index_wait(failed.get(index, ()), state.now)
        if wait_seconds > 0:
            waits.append(wait_seconds)
        else:
            made.append(NewPod(index, _index_failures(state, failed.get(index, ()))))
    return made, min(waits, default=0.0)


def _index_failures(state: _State, failed: Sequence[Obj]) -> int:
    return max((_failures(pod) + (judge(state.job, pod)[0] != IGNORE) for pod in failed), default=0)


def _index_wait(failed: Sequence[Obj], now: datetime) -> float:
    """Returns how long an index waits after its last failure: as a Job does, by its own failures."""
    if not failed:
        return 0.0
    last = max(failed, key=lambda pod: (_failures(pod), _ended_at(pod, now)))
    return _delay(_failures(last) + 1, _ended_at(last, now), now)


def _delay(failures: int, since: datetime, now: datetime) -> float:
    delay: float = min(_BACKOFF_SECONDS_FIRST * 2 ** min(failures - 1, 10), _BACKOFF_SECONDS_MAX)
    return max(0.0, float(delay) - (now - since).total_seconds())


def _backoff_seconds(state: _State) -> float:
    """Returns how long to wait since the last failure: 10 s, doubled for each failure since the last success."""
    ends = sorted((_ended_at(pod, state.now), phase(pod) == "Succeeded") for pod in state.pods if is_finished(pod))
    failures = 0
    for _, succeeded in reversed(ends):
        if succeeded:
            break
        failures += 1
    return _delay(failures, ends[-1][0], state.now) if failures else 0.0


def _ended_at(pod: Obj, now: datetime) -> datetime:
    status = pod.get("status") or {}
    stamps = [
        (one.get("state") or {}).get("terminated", {}).get("finishedAt")
        for one in status.get("containerStatuses") or ()
    ]
    known = [parse_rfc3339(one) for one in stamps if one]
    if known:
        return max(known)
    ready = find(status.get("conditions"), "Ready") or {}
    stamp = ready.get("lastTransitionTime") or metadata(pod).get("deletionTimestamp")
    stamp = stamp or metadata(pod).get("creationTimestamp")
    return parse_rfc3339(stamp) if stamp else now


def _finish(state: _State) -> Obj:
    """Returns the whole status, with upstream's zeros shown and hidden."""
    status: dict[str, Any] = state.status
    over = is_true(state.conditions, "Complete") or is_true(state.conditions, "Failed")
    status["active"] = 0 if over else len(state.active)
    status["ready"] = sum(is_ready(pod) for pod in state.active)
    status["terminating"] = sum(is_deleted(pod) and not is_finished(pod) for pod in state.pods)
    status["conditions"] = state.conditions
    if state.indexed:
        status["completedIndexes"] = show(state.completed)
    shown = {"ready", "terminating", "uncountedTerminatedPods"}
    return {key: value for key, value in status.items() if value or key in shown}
