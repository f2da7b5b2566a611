"""One pod on this node: looks, plans, acts, reports, until nothing of the pod is left.

The loop is: observe the runtime, ask `plan.plan` what to do, start what is not already under way, write the status.
Every action runs as a task of its own and pokes the loop when it is over, so a slow image or a long grace period delays
nothing else, and a deletion is seen at once. All lasting state is in the runtime and the API: a new agent's worker
starts from them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from proa.client.interface import DeleteOptions
from proa.client.resources import PODS
from proa.kubelet import cgroups, launch
from proa.kubelet.admit import rejection
from proa.kubelet.configs import container_hash
from proa.kubelet.context import Context
from proa.kubelet.cri.types import EXITED, RUNNING, Container, RuntimeFailure
from proa.kubelet.eviction import EVICTED
from proa.kubelet.handlers import Outcome, Place, perform
from proa.kubelet.images import Refused
from proa.kubelet.messages import termination_message
from proa.kubelet.plan import (
    NANO,
    CreateSandbox,
    Health,
    KillContainer,
    Memory,
    Observed,
    Plan,
    Refusal,
    StartContainer,
    StopSandbox,
    in_round,
    plan,
    restart_count,
)
from proa.kubelet.podspec import container_named, containers_of, is_terminal
from proa.kubelet.probes import ContainerProbes, told
from proa.kubelet.report import StatusReport
from proa.kubelet.resize import resize_conditions
from proa.kubelet.resizing import Resizing
from proa.kubelet.status import Surroundings, pod_status
from proa.kubelet.volumes.manager import VolumeError
from proa.kubelet.volumes.payload import downward_mark, references_of
from proa.meta.errors import StatusError
from proa.meta.objects import Obj, is_deleted, metadata, name_of, namespace_of
from proa.util.clock import rfc3339

log = logging.getLogger(__name__)

_RETRY_SECONDS = 1.0
_VOLUME_RETRY_SECONDS_FIRST, _VOLUME_RETRY_SECONDS_MAX = 0.5, 120.0
_KEPT_PER_CONTAINER = 2


class PodWorker:
    """The life of one pod (`uid`) on this node. `run` returns when the pod is gone from here and from the API."""

    def __init__(self, context: Context, pod: Obj) -> None:
        self.context = context
        self.uid: str = metadata(pod)["uid"]
        self._pod = pod
        self._poked = asyncio.Event()
        self._poked.set()
        self._operations: dict[tuple[str, ...], asyncio.Task[None]] = {}
        self._operations_ended = 0
        self._kill_until: dict[str, float] = {}
        self._refusals: dict[str, Refusal] = {}
        self._sandbox_refusal: Refusal | None = None
        self._rejected: tuple[str, str] | None = None
        self._replaced: frozenset[str] = frozenset()
        self._admitted = False
        self._volume_paths: dict[str, Path] | None = None
        self._volumes_dirty = True
        self._volumes_retry_at = 0.0
        self._volumes_delay = _VOLUME_RETRY_SECONDS_FIRST
        self._probes: dict[str, ContainerProbes] = {}
        self._resizing = Resizing(context)
        self._messages: dict[str, str] = {}
        self._told_waiting: set[tuple[str, str]] = set()
        self._retry_at: float | None = None
        self._report = StatusReport(context)
        self._removed_from_api = False
        self._settled = False
        self.observed = Observed()

    # ------------------------------------------------------------ news

    @property
    def pod(self) -> Obj:
        return self._pod

    @property
    def volume_paths(self) -> dict[str, Path]:
        """Where the pod's volumes are, by name; empty until they are made."""
        return self._volume_paths or {}

    def poke(self) -> None:
        """Something of the pod changed in the runtime."""
        self._settled = False
        self._poked.set()

    def update(self, pod: Obj) -> None:
        """The pod changed in the API."""
        if downward_mark(pod) != downward_mark(self._pod) or pod.get("spec") != self._pod.get("spec"):
            self._volumes_dirty = True
            self._refusals.clear()
        self._pod = pod
        self.poke()

    def references_changed(self) -> None:
        """A config map, secret or claim that the pod refers to changed."""
        self._volumes_dirty = True
        self._volumes_retry_at = 0.0
        self._refusals.clear()
        self.poke()

    def evict(self, message: str) -> None:
        """Makes the pod fail and leave the node."""
        if self._rejected is None and not is_terminal(self._pod):
            self._rejected = (EVICTED, message)
            self.context.tell(self._pod, None, "Warning", EVICTED, message)
            self.poke()

    def removed(self) -> None:
        """The pod is gone from the API: what runs of it must go."""
        self._removed_from_api = True
        meta = metadata(self._pod)
        if not is_deleted(self._pod):
            asked = meta.get("deletionGracePeriodSeconds")
            seconds = (self._pod.get("spec") or {}).get("terminationGracePeriodSeconds", 30) if asked is None else asked
            until = self.context.seconds() + seconds
            stamp = rfc3339(self.context.clock.now().fromtimestamp(until, self.context.clock.now().tzinfo))
            gone = {"deletionTimestamp": stamp, "deletionGracePeriodSeconds": seconds}
            self._pod = {**self._pod, "metadata": {**meta, **gone}}
        self.poke()

    # ------------------------------------------------------------ the loop

    async def run(self) -> None:
        wake_at: float | None = None
        try:
            while True:
                await self._wait(wake_at)
                self._poked.clear()
                try:
                    wake_at = await self._sync()
                except RuntimeFailure as failure:
                    log.warning("pod %s/%s: %s", namespace_of(self._pod), name_of(self._pod), failure.message)
                    wake_at = self.context.seconds() + _RETRY_SECONDS
                if wake_at is not None and wake_at < 0:
                    return
        finally:
            self._stop_probes()
            for task in self._operations.values():
                task.cancel()
            self._report.stop()

    async def _wait(self, wake_at: float | None) -> None:
        seconds = None if wake_at is None else max(0.0, wake_at - self.context.seconds())
        try:
            async with asyncio.timeout(seconds):
                await self._poked.wait()
        except TimeoutError:
            pass

    async def _observe(self) -> Observed:
        """Looks at the runtime; again if an action ended meanwhile, so that a plan never repeats one just done."""
        while True:
            ended = self._operations_ended
            observed = await self.context.watcher.observe(self.uid)
            if ended == self._operations_ended:
                return observed

    async def _sync(self) -> float | None:
        """One round; returns when to look again by itself, or -1 when all is over."""
        pod = self._pod
        if self._settled and is_terminal(pod) and not is_deleted(pod):
            return None
        observed = await self._observe()
        pod = self._pod
        self.observed = observed = in_round(pod, observed)
        now = self.context.seconds()
        if not self._admitted and not is_deleted(pod):
            self._admit(pod, observed)
        self._sync_probes(pod, observed)
        self._read_messages(observed)
        hashes = {one.name: container_hash(one.spec) for one in containers_of(pod)}
        resize = self._resizing.look(pod, observed, self._others)
        hashes.update(dict.fromkeys(resize.restart, "resized"))
        decided = plan(pod, observed, self._memory(), now, hashes)
        if not (is_terminal(pod) and decided.gone):
            self._report.put(pod, self._status(pod, observed, decided))
        self._tell_waiting(pod, decided)
        if decided.terminating:
            self._cancel("start", "sandbox", "volumes")
            if decided.gone and not self._operations:
                return await self._finish(pod, observed)
        else:
            self._sync_volumes(pod, now)
            if self._resizing.is_due(pod, bool(self._replaced)):
                self._begin(("resize",), self._resizing.carry_out(pod))
        for action in decided.actions:
            self._dispatch(action, pod, observed)
        self._collect(observed)
        moments = [decided.wake_at, self._retry_at, self._volumes_due()]
        if not decided.terminating:
            moments += [self._resizing.retry_at, self.context.volumes.renew_at(self.uid)]
        self._retry_at = None
        return min((moment for moment in moments if moment is not None), default=None)

    def _memory(self) -> Memory:
        return Memory(
            health={key: probes.health for key, probes in self._probes.items()},
            refusals=self._refusals,
            sandbox_refusal=self._sandbox_refusal,
            volumes_ready=self._volume_paths is not None,
            volumes_refused=self._volume_paths is None and self._volumes_retry_at > 0,
            rejected=self._rejected,
            replaced=self._replaced,
        )

    def _admit(self, pod: Obj, observed: Observed) -> None:
        """Decides once whether the node takes the pod; one that already runs, or was reported on, was taken before."""
        self._admitted = True
        if observed.sandboxes or (pod.get("status") or {}).get("startTime") or is_terminal(pod):
            return
        node = self.context.node()
        apparmor = self.context.settings.apparmor
        refused = rejection(pod, self._others(), node, apparmor=apparmor) if node else None
        if refused:
            self._rejected = refused
            self.context.tell(pod, None, "Warning", refused[0], refused[1].removeprefix("Pod was rejected: "))

    def _others(self) -> list[Obj]:
        """The other pods that the node has taken."""
        return [one for one in self.context.taken() if metadata(one)["uid"] != self.uid]

    @property
    def taken(self) -> bool:
        """Whether the node has taken the pod, and it has not ended: one that left the API gives its room to others."""
        return self._admitted and self._rejected is None and not self._removed_from_api and not is_terminal(self._pod)

    @property
    def waits_for_room(self) -> bool:
        """Whether a resize of the pod waits for other pods to go."""
        return self._resizing.plan.pending is not None

    def _status(self, pod: Obj, observed: Observed, decided: Plan) -> Obj:
        resize = self._resizing.plan
        around = Surroundings(
            host_ips=self.context.facts().host_ips,
            runtime_name=self.context.runtime_name,
            messages=self._messages,
            starting=frozenset(key[1] for key in self._operations if key[0] == "start"),
            resources=resize.actual,
            resize_pending=resize.pending is not None,
            resize=resize_conditions(
                pod, resize, ("resize",) in self._operations or bool(self._replaced), self._resizing.failure
            ),
        )
        return pod_status(pod, observed, decided, self._memory(), around, self.context.clock.now())

    def _tell_waiting(self, pod: Obj, decided: Plan) -> None:
        told = set()
        for name, (reason, _) in decided.waiting.items():
            if reason != "CrashLoopBackOff":
                continue
            latest = self.observed.latest(name)
            key = (name, latest.id if latest else "")
            told.add(key)
            if key not in self._told_waiting:
                meta = metadata(pod)
                where = f"{meta['name']}_{meta['namespace']}({self.uid})"
                text = f"Back-off restarting failed container {name} in pod {where}"
                self.context.tell(pod, container_named(pod, name), "Warning", "BackOff", text)
        self._told_waiting = told

    # ------------------------------------------------------------ actions

    def _dispatch(self, action: Any, pod: Obj, observed: Observed) -> None:
        context = self.context
        match action:
            case CreateSandbox():
                self._begin(("sandbox",), launch.create_sandbox(context, pod, action))
            case StartContainer():
                paths = self._volume_paths or {}
                self._begin(("start", action.name), launch.start_container(context, pod, action, observed, paths))
            case KillContainer():
                if action.replace:
                    self._replaced |= {action.id}
                known = self._kill_until.get(action.id)
                if ("kill", action.id) in self._operations:
                    if known is None or action.until > known - _RETRY_SECONDS:
                        return
                    # A shorter grace period than the one that is running: the runtime takes the earlier end.
                    self._kill_until[action.id] = action.until
                    self._begin(("kill", action.id, "sooner"), launch.kill_container(context, pod, action, observed))
                    return
                self._kill_until[action.id] = action.until
                self._begin(("kill", action.id), launch.kill_container(context, pod, action, observed))
            case StopSandbox():
                self._begin(("stop", action.id), context.runtime.stop_sandbox(action.id))

    def _begin(self, key: tuple[str, ...], work: Coroutine[Any, Any, None]) -> None:
        """Starts an action unless the same one is under way."""
        if key in self._operations:
            work.close()
            return
        task = asyncio.create_task(self._carry_out(key, work))
        self._operations[key] = task
        task.add_done_callback(lambda _: self._ended(key))

    def _ended(self, key: tuple[str, ...]) -> None:
        self._operations.pop(key, None)
        self._operations_ended += 1
        self.poke()

    async def _carry_out(self, key: tuple[str, ...], work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
            if key[0] == "start":
                self._refusals.pop(key[1], None)
            elif key[0] == "sandbox":
                self._sandbox_refusal = None
        except Refused as refused:
            retry_at = self.context.seconds() + refused.retry_seconds
            refusal = Refusal(refused.reason, refused.message, retry_at)
            if key[0] == "start":
                self._refusals[key[1]] = refusal
            else:
                self._sandbox_refusal = refusal
        except RuntimeFailure as failure:
            log.warning("pod %s/%s: %s: %s", namespace_of(self._pod), name_of(self._pod), key[0], failure.message)
            self._retry_at = self.context.seconds() + _RETRY_SECONDS
        except asyncio.CancelledError:
            raise
        except Exception:
            log.exception("pod %s/%s: %s", namespace_of(self._pod), name_of(self._pod), key)
            self._retry_at = self.context.seconds() + _RETRY_SECONDS

    def _cancel(self, *kinds: str) -> None:
        for key, task in self._operations.items():
            if key[0] in kinds:
                task.cancel()

    # ------------------------------------------------------------ volumes

    def _sync_volumes(self, pod: Obj, now: float) -> None:
        renew_at = self.context.volumes.renew_at(self.uid)
        due = self._volumes_dirty or (renew_at is not None and now >= renew_at)
        if due and now >= self._volumes_retry_at and ("volumes",) not in self._operations:
            self._volumes_dirty = False
            self._begin(("volumes",), self._make_volumes(pod))

    def _volumes_due(self) -> float | None:
        """When volumes that were refused are to be tried again."""
        waiting = self._volumes_retry_at > 0 and ("volumes",) not in self._operations
        return self._volumes_retry_at if waiting else None

    async def _make_volumes(self, pod: Obj) -> None:
        self.context.references.hold(self.uid, references_of(pod))
        try:
            self._volume_paths = await self.context.volumes.ensure(pod)
            self._volumes_delay = _VOLUME_RETRY_SECONDS_FIRST
            self._volumes_retry_at = 0.0
        except VolumeError as error:
            self.context.tell(pod, None, "Warning", "FailedMount", str(error))
            self._volumes_dirty = True
            self._volumes_retry_at = self.context.seconds() + self._volumes_delay
            self._volumes_delay = min(_VOLUME_RETRY_SECONDS_MAX, self._volumes_delay * 2)

    # ------------------------------------------------------------ probes and messages

    def _sync_probes(self, pod: Obj, observed: Observed) -> None:
        wanted: dict[str, Container] = {}
        for container in containers_of(pod):
            current = observed.current(container.name)
            has_probe = any(container.spec.get(f"{kind}Probe") for kind in ("startup", "liveness", "readiness"))
            if current and current.state == RUNNING and has_probe and ("start", container.name) not in self._operations:
                wanted[current.id] = current
        for key in [key for key in self._probes if key not in wanted]:
            self._probes.pop(key).stop()
        for key, current in wanted.items():
            if key not in self._probes:
                self._probes[key] = self._make_probes(pod, current, observed)
            if is_deleted(pod):
                self._probes[key].keep_readiness_only()

    def _make_probes(self, pod: Obj, current: Container, observed: Observed) -> ContainerProbes:
        context = self.context
        container = container_named(pod, current.name)
        assert container is not None
        address = next(iter(launch.pod_addresses(context, pod, observed)), "127.0.0.1")
        place = Place(current.id, address, container.spec)
        status = pod.get("status") or {}
        reported = [*(status.get("containerStatuses") or []), *(status.get("initContainerStatuses") or [])]
        before: Obj = next((one for one in reported if (one.get("containerID") or "").endswith(current.id)), {})

        def tell(kind: str, outcome: Outcome) -> None:
            reason = "ProbeWarning" if outcome.warned else "Unhealthy"
            context.tell(self._pod, container, "Warning", reason, told(kind, outcome))

        return ContainerProbes(
            container.spec,
            lambda probe: perform(probe, place, context.runtime, float(probe.get("timeoutSeconds") or 1)),
            self.poke,
            tell,
            age_seconds=max(0.0, context.seconds() - current.started_at / NANO),
            started=bool(before.get("started")),
            ready=bool(before.get("ready")),
        )

    def _stop_probes(self) -> None:
        for probes in self._probes.values():
            probes.stop()
        self._probes.clear()

    def health(self, container_id: str) -> Health:
        probes = self._probes.get(container_id)
        return probes.health if probes else Health()

    def _read_messages(self, observed: Observed) -> None:
        present = set()
        for one in observed.all():
            present.add(one.id)
            if one.state == EXITED and one.id not in self._messages:
                file = launch.termination_file(self.context, self.uid, one.name, restart_count(one))
                self._messages[one.id] = termination_message(one, file)
        self._messages = {key: text for key, text in self._messages.items() if key in present}
        self._replaced &= {history[0].id for history in observed.containers.values() if history}

    # ------------------------------------------------------------ clearing away

    def _collect(self, observed: Observed) -> None:
        """Removes ended containers beyond the last two of each name, and old sandboxes that hold nothing."""
        for history in observed.containers.values():
            for one in history[_KEPT_PER_CONTAINER:]:
                if one.state == EXITED:
                    self._begin(("remove", one.id), self._remove_container(one))
        used = {one.sandbox_id for one in observed.all()}
        for sandbox in observed.sandboxes[1:]:
            if not sandbox.ready and sandbox.id not in used:
                self._begin(("remove", sandbox.id), self.context.runtime.remove_sandbox(sandbox.id))

    async def _remove_container(self, container: Container) -> None:
        await self.context.runtime.remove_container(container.id)
        launch.remove_logs(container.log_path)
        file = launch.termination_file(self.context, self.uid, container.name, restart_count(container))
        file.unlink(missing_ok=True)

    async def _finish(self, pod: Obj, observed: Observed) -> float | None:
        """Nothing runs any more: report the end, and once the pod is deleted, leave no trace. Returns -1 at the end."""
        self._stop_probes()
        await self._report.flush()
        await self.context.volumes.remove(self.uid)
        self._volume_paths, self._volumes_dirty = None, True
        if self.context.settings.manage_cgroups:
            cgroups.remove_pod(self.context.settings.cgroup_root, self.uid)
        self.context.references.release(self.uid)
        self.context.images.forget(self.uid)
        if not is_deleted(pod):
            self._settled = not self._poked.is_set()
            return None
        if not self._removed_from_api:
            try:
                options = DeleteOptions(grace_seconds=0, uid=self.uid)
                await self.context.client.delete(PODS, name_of(pod), namespace_of(pod), options)
            except (StatusError, OSError, EOFError) as error:
                if not isinstance(error, StatusError) or error.code not in (404, 409):
                    log.warning("deleting pod %s/%s: %s", namespace_of(pod), name_of(pod), error)
                    return self.context.seconds() + _RETRY_SECONDS
        for sandbox in observed.sandboxes:
            await self.context.runtime.remove_sandbox(sandbox.id)
        for one in observed.all():
            await self.context.runtime.remove_container(one.id)
        await asyncio.to_thread(_remove_tree, self.context.log_folder(pod))
        return -1.0


def _remove_tree(folder: Path) -> None:
    import shutil

    shutil.rmtree(folder, ignore_errors=True)
