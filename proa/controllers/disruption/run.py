"""Keeps the status of disruption budgets."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from proa.client.resources import (
    CUSTOMRESOURCEDEFINITIONS,
    DEPLOYMENTS,
    PODDISRUPTIONBUDGETS,
    PODS,
    REPLICASETS,
    REPLICATIONCONTROLLERS,
    STATEFULSETS,
)
from proa.controllers.conditions import condition, is_true, with_condition
from proa.controllers.discovery import Kinds
from proa.controllers.disruption.plan import failed, kept, needs_scale, seconds_to_stale, status
from proa.controllers.runtime import Context, Controller, Result, ignore_absent
from proa.meta.errors import StatusError
from proa.meta.gvk import split_api_version
from proa.meta.objects import Obj, controller_of, key_of, labels_of, metadata, name_of, namespace_of, split_key
from proa.meta.selectors import LabelSelector, from_object, go_text


class _Unknown(Exception):
    """The size that a pod's controller is set to cannot be found out."""


class _Absent(Exception):
    """The controller that a pod refers to does not exist, or has no size."""


_UNMANAGED = (
    "Pods selected by this PodDisruptionBudget (selector: {}) were found to be unmanaged. As a result, the status of "
    "the PDB cannot be calculated correctly, which may result in undefined behavior. To account for these pods please "
    'set ".spec.minAvailable" field of the PDB to an integer value.'
)


class DisruptionController(Controller):
    name = "disruption-controller"
    event_source = "controllermanager"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._budgets = self.watch(PODDISRUPTIONBUDGETS)
        self._pods = self.need(PODS)
        self.watch(PODS, self._keys_of_pod, relevant=_facts, weigh=self._count_pods)
        self._kinds = Kinds(self.need(CUSTOMRESOURCEDEFINITIONS))
        self._sized = {
            ("apps", "ReplicaSet"): self.watch(REPLICASETS, self._keys_of_namespace, relevant=_size),
            ("apps", "Deployment"): self.watch(DEPLOYMENTS, self._keys_of_namespace, relevant=_size),
            ("apps", "StatefulSet"): self.watch(STATEFULSETS, self._keys_of_namespace, relevant=_size),
            ("", "ReplicationController"): self.watch(REPLICATIONCONTROLLERS, self._keys_of_namespace, relevant=_size),
        }

    def _count_pods(self, key: str) -> int:
        return self._pods.count(split_key(key)[0])

    def _keys_of_pod(self, pod: Obj) -> Iterable[str]:
        for budget in self._budgets.objects(namespace_of(pod)):
            if _selector(budget).matches(labels_of(pod)):
                yield key_of(budget)
        if is_true((pod.get("status") or {}).get("conditions"), "DisruptionTarget"):
            yield f"{namespace_of(pod)}/!{name_of(pod)}"

    def _keys_of_namespace(self, obj: Obj) -> Iterable[str]:
        return [key_of(budget) for budget in self._budgets.objects(namespace_of(obj)) if needs_scale(budget)]

    async def reconcile(self, key: str) -> Result | None:
        namespace, name = split_key(key)
        if name.startswith("!"):
            return await self._end_disruption(namespace, name[1:])
        budget = self._budgets.get(name, namespace)
        if budget is None:
            return None
        selector = _selector(budget)
        pods = [pod for pod in self._pods.objects(namespace) if selector.matches(labels_of(pod))]
        now = self.clock.now()
        recheck_seconds = None
        if not pods:
            self.events.event(budget, "Normal", "NoPods", "No matching pods found")
        try:
            scale = 0
            if needs_scale(budget):
                scale = await self._scale(budget, pods)
                if any(controller_of(pod) is None for pod in pods):
                    text = _UNMANAGED.format(go_text(budget["spec"].get("selector")))
                    self.events.event(budget, "Warning", "UnmanagedPods", text)
            changed, recheck_seconds = status(budget, pods, scale, now)
            self._tell_of_kept(budget, pods, now)
        except (_Unknown, ValueError) as error:
            text = f"Failed to calculate the number of expected pods: {error}"
            self.events.event(budget, "Warning", "CalculateExpectedPodCountFailed", text)
            wanted = failed(budget, str(error), now)
            changed = None if wanted == budget.get("status") else wanted
            recheck_seconds = 30.0
        if changed is not None:
            updated = {**budget, "status": changed}
            await ignore_absent(self.client.update(PODDISRUPTIONBUDGETS, updated, subresource="status"))
        return Result(recheck_seconds)

    async def _end_disruption(self, namespace: str, name: str) -> Result | None:
        """Takes back that a pod is about to be disrupted when nobody has deleted it in time."""
        pod = self._pods.get(name, namespace)
        left = seconds_to_stale(pod, self.clock.now()) if pod is not None else None
        if pod is None or left is None:
            return None
        if left > 0:
            return Result(left)
        made = condition("DisruptionTarget", "False", "", "", self.clock.now())
        changed = with_condition(pod["status"].get("conditions"), made)
        updated = {**pod, "status": {**pod["status"], "conditions": changed}}
        await ignore_absent(self.client.update(PODS, updated, subresource="status"))
        return None

    def _tell_of_kept(self, budget: Obj, pods: Sequence[Obj], now: datetime) -> None:
        """Tells of pods that were to be evicted, and still are there."""
        for pod in kept(budget, pods, now):
            text = f"Pod was expected by PDB {key_of(budget)} to be deleted but it wasn't"
            self.events.event(pod, "Warning", "NotDeleted", text)

    async def _scale(self, budget: Obj, pods: Sequence[Obj]) -> int:
        """Returns the sum of the sizes of the pods' controllers; raises _Unknown."""
        sizes: dict[str, int] = {}
        for pod in pods:
            reference = controller_of(pod)
            if reference is None:
                continue  # a pod without a controller is counted by nobody
            if reference["uid"] not in sizes:
                try:
                    owner_uid, size = await self._size_of(namespace_of(pod), reference)
                except _Absent:
                    text = f'found no controllers for pod "{name_of(pod)}"'
                    self.events.event(budget, "Warning", "NoControllers", text)
                    raise _Unknown(text) from None
                sizes[owner_uid] = size
                sizes.setdefault(reference["uid"], 0 if owner_uid != reference["uid"] else size)
        return sum(sizes.values())

    async def _size_of(self, namespace: str, reference: Obj) -> tuple[str, int]:
        """Returns the uid and size of what sets a pod's number: a replica set's deployment rather than itself."""
        group, _ = split_api_version(reference["apiVersion"])
        informer = self._sized.get((group, reference["kind"]))
        if informer is not None:
            owner = informer.get(reference["name"], namespace)
            if owner is None or metadata(owner).get("uid") != reference["uid"]:
                raise _Absent
            above = controller_of(owner) if reference["kind"] == "ReplicaSet" else None
            if above is not None and above.get("kind") == "Deployment":
                return await self._size_of(namespace, above)
            return reference["uid"], _size(owner)
        for kind in self._kinds.all():
            if kind.group_kind == (group, reference["kind"]):
                try:
                    scale = await self.client.get(kind.resource, reference["name"], namespace, subresource="scale")
                except StatusError as error:
                    if error.code == 404:
                        raise _Absent from error
                    raise
                return reference["uid"], int((scale.get("spec") or {}).get("replicas") or 0)
        raise _Unknown(f"{reference['kind']}.{group} does not implement the scale subresource")


def _selector(budget: Obj) -> LabelSelector:
    return from_object(budget["spec"].get("selector"))


def _size(owner: Obj) -> int:
    value = owner["spec"].get("replicas")
    return 1 if value is None else int(value)


def _facts(pod: Obj) -> object:
    status = pod.get("status") or {}
    conditions = status.get("conditions") or ()
    ready = [(one["type"], one.get("status")) for one in conditions if one.get("type") in ("Ready", "DisruptionTarget")]
    return labels_of(pod), status.get("phase"), ready, metadata(pod).get("deletionTimestamp"), controller_of(pod)
