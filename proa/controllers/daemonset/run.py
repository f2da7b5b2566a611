"""Carries out what DaemonSets need."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

from proa.client.interface import DeleteOptions
from proa.client.resources import CONTROLLERREVISIONS, DAEMONSETS, NODES, PODS
from proa.controllers.batches import slow_start
from proa.controllers.daemonset.plan import KIND, Fitting, Plan, manage, pod_for, status, target_node, update
from proa.controllers.history import History
from proa.controllers.ownership import CONTROLLER_INDEX, Claimer, by_controller, count_controlled
from proa.controllers.pods import phase
from proa.controllers.revisions import HASH_LABEL
from proa.controllers.runtime import Context, Controller, Result, ignore_absent
from proa.meta.errors import StatusError
from proa.meta.objects import (
    Obj,
    controller_of,
    is_deleted,
    key_of,
    labels_of,
    name_of,
    namespace_of,
    split_key,
    uid_of,
)
from proa.meta.selectors import from_object

_FAILED_BACKOFF_SECONDS_FIRST = 1.0
_FAILED_BACKOFF_SECONDS_MAX = 900.0


class DaemonSetController(Controller):
    name = "daemon-set-controller"
    event_source = "daemonset-controller"
    workers = 2

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._sets = self.watch(DAEMONSETS)
        self.need(PODS).add_index(CONTROLLER_INDEX, by_controller)
        self._fitting: dict[str, Fitting] = {}  # by the set's key
        self._nodes = self.need(NODES)
        self._pods = self.watch(PODS, self._keys_of_pod, weigh=self._weight)
        self.watch(NODES, lambda _: map(key_of, self._sets.objects()), relevant=_node_facts, weigh=self._weight)
        revisions = self.watch(CONTROLLERREVISIONS, self._keys_of_revision)
        revisions.add_index(CONTROLLER_INDEX, by_controller)
        self._claimer = Claimer(self.client, DAEMONSETS, KIND)
        self._history = History(self.client, revisions, self._claimer, KIND)
        self._failures: dict[tuple[str, str], tuple[int, float]] = {}  # (set's uid, node) -> count, not before

    def _weight(self, key: str) -> int:
        return max(len(self._nodes), count_controlled(self._sets, self._pods, key))

    def _fitting_of(self, daemon_set: Obj, nodes: Sequence[Obj]) -> Fitting:
        key = key_of(daemon_set)
        known = self._fitting.get(key)
        if known is None or not known.is_of(daemon_set):
            known = self._fitting[key] = Fitting(daemon_set)
        known.forget({name_of(node) for node in nodes})
        return known

    def _keys_of_pod(self, pod: Obj) -> Iterable[str]:
        yield from self._keys_of_revision(pod)
        if controller_of(pod) is None:
            for one in self._sets.objects(namespace_of(pod)):
                if from_object(one["spec"].get("selector")).matches(labels_of(pod)):
                    yield key_of(one)

    def _keys_of_revision(self, obj: Obj) -> Iterable[str]:
        reference = controller_of(obj)
        if reference is not None and reference.get("kind") == KIND.kind:
            yield f"{namespace_of(obj)}/{reference['name']}"

    async def reconcile(self, key: str) -> Result | None:
        namespace, name = split_key(key)
        daemon_set = self._sets.get(name, namespace)
        if daemon_set is None:
            self._fitting.pop(key, None)
            return None
        selector = from_object(daemon_set["spec"].get("selector"))
        if selector.empty:
            text = "This daemon set is selecting all pods. A non-empty selector is required."
            self.events.event(daemon_set, "Warning", "SelectingAll", text)
            return None
        if is_deleted(daemon_set):
            return None
        current = await self._history.current(daemon_set, labels_of(daemon_set["spec"]["template"]))
        hashed = labels_of(current.revision)[HASH_LABEL]
        nodes = self._nodes.objects()
        fitting = self._fitting_of(daemon_set, nodes)
        uid = uid_of(daemon_set)
        candidates = self._pods.indexed(CONTROLLER_INDEX, uid)
        candidates += self._pods.indexed(CONTROLLER_INDEX, f"orphan/{namespace}")
        pods = await self._claimer.claim(daemon_set, selector, PODS, candidates)
        await asyncio.sleep(0)  # each of these looks at all nodes: others have their turn in between
        step = manage(daemon_set, nodes, pods, hashed, self.clock.now(), fitting)
        recheck_seconds = await self._carry_out(daemon_set, step, hashed)
        strategy = (daemon_set["spec"].get("updateStrategy") or {}).get("type", "RollingUpdate")
        if strategy == "RollingUpdate":
            pods = self._pods.indexed(CONTROLLER_INDEX, uid)
            step = update(daemon_set, nodes, pods, hashed, self.clock.now(), fitting)
            await self._carry_out(daemon_set, step, hashed)
        pods = self._pods.indexed(CONTROLLER_INDEX, uid)
        await self._forget(daemon_set, current.all, pods, hashed)
        await asyncio.sleep(0)
        changed, wait_seconds = status(daemon_set, nodes, pods, hashed, self.clock.now(), fitting)
        if changed is not None or current.collisions != (daemon_set.get("status") or {}).get("collisionCount"):
            written = {**(changed or daemon_set.get("status") or {})}
            if current.collisions:
                written["collisionCount"] = current.collisions
            updated = {**(self._sets.get(name, namespace) or daemon_set), "status": written}
            await ignore_absent(self.client.update(DAEMONSETS, updated, subresource="status"))
        waits = [one for one in (wait_seconds, recheck_seconds) if one]
        return Result(min(waits, default=None))

    async def _forget(self, owner: Obj, revisions: Sequence[Obj], pods: Sequence[Obj], current: str) -> None:
        hashes = {labels_of(pod).get(HASH_LABEL) for pod in pods} | {current}
        live = {name_of(one) for one in revisions if labels_of(one).get(HASH_LABEL) in hashes}
        await self._history.forget(owner, revisions, live)

    async def _carry_out(self, owner: Obj, step: Plan, hashed: str) -> float | None:
        """Returns when a failed pod that was left alone for now may be replaced."""
        waits: list[float] = []
        failed = {uid_of(pod) for pod in step.failed}
        delete = []
        for pod in step.delete:
            wait_seconds = self._failed_wait(owner, pod) if uid_of(pod) in failed else 0.0
            if wait_seconds > 0:
                waits.append(wait_seconds)
                continue
            delete.append(pod)
            if uid_of(pod) in failed:
                text = f"Found failed daemon pod {key_of(pod)} on node {target_node(pod)}, will try to kill it"
                self.events.event(owner, "Warning", "FailedDaemonPod", text)
            elif phase(pod) == "Succeeded":
                text = f"Found succeeded daemon pod {key_of(pod)} on node {target_node(pod)}, will try to delete it"
                self.events.event(owner, "Normal", "SucceededDaemonPod", text)
        await asyncio.gather(*(self._delete(owner, pod) for pod in delete))
        nodes = list(step.create)
        _, error = await slow_start(len(nodes), lambda: self._create(owner, nodes.pop(0), hashed))
        if error is not None:
            raise error
        return min(waits, default=None)

    def _failed_wait(self, owner: Obj, pod: Obj) -> float:
        """Returns how long a failed pod stays, so that one that always fails is not replaced in a rush."""
        now = self.clock.monotonic()
        place = uid_of(owner), target_node(pod)
        count, not_before = self._failures.get(place, (0, 0.0))
        if now < not_before:
            return not_before - now
        delay = min(_FAILED_BACKOFF_SECONDS_FIRST * 2**count, _FAILED_BACKOFF_SECONDS_MAX)
        self._failures[place] = min(count + 1, 12), now + delay
        return 0.0

    async def _create(self, owner: Obj, node: str, hashed: str) -> None:
        try:
            pod = await self.client.create(PODS, pod_for(owner, node, hashed), namespace_of(owner))
        except StatusError as error:
            self.events.event(owner, "Warning", "FailedCreate", f"Error creating: {error}")
            raise
        self.events.event(owner, "Normal", "SuccessfulCreate", f"Created pod: {name_of(pod)}")

    async def _delete(self, owner: Obj, pod: Obj) -> None:
        await ignore_absent(self.client.delete(PODS, name_of(pod), namespace_of(pod), DeleteOptions(uid=uid_of(pod))))
        self.events.event(owner, "Normal", "SuccessfulDelete", f"Deleted pod: {name_of(pod)}")


def _node_facts(node: Obj) -> object:
    return labels_of(node), (node.get("spec") or {}).get("taints")
