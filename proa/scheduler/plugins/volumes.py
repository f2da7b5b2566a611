"""VolumeBinding: nodes must reach the pod's bound volumes, and have or get volumes for the claims that wait for it.

Claims of classes with WaitForFirstConsumer get a volume that exists (static) or one that their provisioner makes for
the chosen node (dynamic). Follows upstream's volume binder; the API changes are made before the pod is bound.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from proa.client.resources import PERSISTENTVOLUMECLAIMS, PERSISTENTVOLUMES
from proa.meta.objects import Obj, annotations_of, is_deleted, labels_of, metadata, name_of, namespace_of, uid_of
from proa.meta.quantity import parse
from proa.meta.selectors import from_object
from proa.scheduler.columns import Columns, Ints, Mask
from proa.scheduler.framework import Change, Event, Happening, Plugin, Refused, Rejection, Until
from proa.scheduler.plugins.nodes import selector_mask
from proa.scheduler.pod import PodInfo
from proa.scheduler.storage import BOUND_BY, NO_PROVISIONER, SELECTED_NODE, class_name, is_bound

NO_MATCH = "node(s) didn't find available persistent volumes to bind"
ELSEWHERE = "node(s) didn't match PersistentVolume's node affinity"
NO_SPACE = "node(s) did not have enough free storage"
NO_VOLUME = "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)"


@dataclass(slots=True)
class _Cycle:
    """The pod's claims, as one cycle found them."""

    bound: list[Obj] = field(default_factory=list)
    waiting: list[Obj] = field(default_factory=list)


@dataclass(slots=True)
class _Found:
    """Which rows will do. `chosen[i]` holds, for the i-th waiting claim, the number of its volume in `volumes` for
    each row, or -1 where it is to be provisioned."""

    claims: list[Obj]
    volumes: list[Obj]
    chosen: list[Ints]
    unmatched: Mask
    without_space: Mask


@dataclass(slots=True)
class _Decision:
    """What was decided for a pod on its node."""

    volumes: list[tuple[Obj, Obj]]  # (volume as reserved, claim)
    claims: list[Obj]  # as sent to the node


class VolumeBinding(Plugin):
    """`timeout_seconds` bounds the wait for volumes before the pod is bound."""

    name = "VolumeBinding"
    wakes = Happening.VOLUME | Happening.NODE_ADD | Happening.NODE_LABEL | Happening.POD_UPDATE

    def __init__(self, timeout_seconds: float = 600.0) -> None:
        self._timeout_seconds = timeout_seconds
        self._decisions: dict[str, _Decision] = {}

    def pre_filter(self, pod: PodInfo, columns: Columns) -> str:
        if not pod.claims:
            return ""
        cycle = _Cycle()
        immediate = False
        ephemeral = {
            f"{pod.namespace}/{name_of(pod.obj)}-{one['name']}"
            for one in pod.obj["spec"]["volumes"]
            if one.get("ephemeral") is not None
        }
        for key in pod.claims:
            name = key.partition("/")[2]
            claim = columns.storage.claim(key)
            problem = _unusable(pod, claim, name, key in ephemeral)
            if problem or claim is None:
                return problem
            if is_bound(claim):
                cycle.bound.append(claim)
            elif _waits_for_consumer(claim, columns):
                cycle.waiting.append(claim)
            else:
                immediate = True
        if immediate:
            return "pod has unbound immediate PersistentVolumeClaims"
        cycle.waiting.sort(key=_requested)
        pod.cache[self.name] = cycle
        return ""

    def filter(self, pod: PodInfo, columns: Columns, rows: Ints) -> list[Rejection]:
        cycle: _Cycle | None = pod.cache.get(self.name)
        if cycle is None:
            return []
        elsewhere, absent = np.zeros((2, len(rows)), dtype=bool)
        for claim in cycle.bound:
            volume = columns.storage.volume(claim["spec"]["volumeName"])
            if volume is None:
                absent[:] = True
            else:
                elsewhere |= ~_reachable(volume, columns)[rows]
        found = _find(cycle.waiting, columns, rows)
        reasons = ((elsewhere, ELSEWHERE), (found.unmatched, NO_MATCH), (found.without_space, NO_SPACE))
        rejections = [Rejection(mask, text, resolvable=False) for mask, text in reasons if mask.any()]
        if absent.any():
            rejections.append(Rejection(absent, NO_VOLUME, resolvable=False))
        return rejections

    def reserve(self, pod: PodInfo, node: str, columns: Columns) -> str:
        cycle: _Cycle | None = pod.cache.get(self.name)
        if cycle is None or not cycle.waiting:
            return ""
        found = _find(cycle.waiting, columns, np.array([columns.row_of[node]], dtype=np.int64))
        if found.unmatched[0] or found.without_space[0]:
            raise Refused(NO_MATCH)
        decision = _Decision([], [])
        for claim, chosen in zip(found.claims, found.chosen, strict=True):
            if chosen[0] >= 0:
                volume = _reserved(found.volumes[chosen[0]], claim)
                columns.storage.assume_volume(volume)
                decision.volumes.append((volume, claim))
            else:
                sent = _sent(claim, node)
                columns.storage.assume_claim(sent)
                decision.claims.append(sent)
        self._decisions[pod.key] = decision
        return ""

    def unreserve(self, pod: PodInfo, node: str, columns: Columns) -> None:
        decision = self._decisions.pop(pod.key, None)
        if decision is not None:
            for volume, _ in decision.volumes:
                columns.storage.forget_volume(volume)
            for claim in decision.claims:
                columns.storage.forget_claim(claim)

    def pre_bind(self, pod: PodInfo, node: str, columns: Columns) -> Sequence[Change | Until]:
        decision = self._decisions.get(pod.key)
        if decision is None:
            return ()
        steps: list[Change | Until] = [
            Change(PERSISTENTVOLUMES, "", name_of(volume), _reserve_for(claim)) for volume, claim in decision.volumes
        ]
        steps += [
            Change(PERSISTENTVOLUMECLAIMS, namespace_of(claim), name_of(claim), _send_to(node))
            for claim in decision.claims
        ]
        sent = {f"{namespace_of(one)}/{name_of(one)}" for one in decision.claims}
        done = _all_bound(columns, pod.claims, sent, node)
        steps.append(Until(done, self._timeout_seconds, "binding volumes: context deadline exceeded"))
        return steps

    def post_bind(self, pod: PodInfo, node: str) -> None:
        self._decisions.pop(pod.key, None)

    def helps(self, pod: PodInfo, event: Event, columns: Columns) -> bool:
        if event.obj is None or event.obj.get("kind") != "PersistentVolumeClaim":
            return True
        return f"{namespace_of(event.obj)}/{name_of(event.obj)}" in pod.claims


def _unusable(pod: PodInfo, claim: Obj | None, name: str, ephemeral: bool) -> str:
    if claim is None:
        if ephemeral:
            return f'waiting for ephemeral volume controller to create the persistentvolumeclaim "{name}"'
        return f'persistentvolumeclaim "{name}" not found'
    if ephemeral and not any(one.get("uid") == pod.uid for one in metadata(claim).get("ownerReferences") or ()):
        return f"PersistentVolumeClaim {pod.namespace}/{name} was not created for pod {pod.key} (pod is not owner)"
    if (claim.get("status") or {}).get("phase") == "Lost":
        volume = claim["spec"].get("volumeName") or ""
        return f'persistentvolumeclaim "{name}" bound to non-existent persistentvolume "{volume}"'
    if is_deleted(claim):
        return f'persistentvolumeclaim "{name}" is being deleted'
    return ""


def _waits_for_consumer(claim: Obj, columns: Columns) -> bool:
    storage_class = columns.storage.class_for(claim)
    delayed = storage_class is not None and storage_class.get("volumeBindingMode") == "WaitForFirstConsumer"
    return delayed and not claim["spec"].get("volumeName")


def _requested(claim: Obj) -> int:
    return parse(str(((claim["spec"].get("resources") or {}).get("requests") or {}).get("storage") or "0")).nano


def _size(volume: Obj) -> int:
    return parse(str((volume["spec"].get("capacity") or {}).get("storage") or "0")).nano


def _reachable(volume: Obj, columns: Columns) -> Mask:
    """Returns the rows from which a volume can be used, by its node affinity."""
    required = (volume["spec"].get("nodeAffinity") or {}).get("required")
    return columns.alive if required is None else selector_mask(required, columns)


# ---------------------------------------------------------------- claims that wait


def _find(waiting: Sequence[Obj], columns: Columns, rows: Ints) -> _Found:
    found = _Found([], [], [], np.zeros(len(rows), dtype=bool), np.zeros(len(rows), dtype=bool))
    used: dict[str, Mask] = {}
    numbers: dict[str, int] = {}
    for claim in waiting:
        selected = annotations_of(claim).get(SELECTED_NODE)
        chosen = np.full(len(rows), -1, dtype=np.int64)
        if selected is not None:
            found.unmatched |= rows != columns.row_of.get(selected, -1)
        else:
            open_rows = np.ones(len(rows), dtype=bool)
            for volume in _candidates(claim, columns):
                taken = used.setdefault(name_of(volume), np.zeros(len(rows), dtype=bool))
                here = open_rows & ~taken & _reachable(volume, columns)[rows]
                if here.any():
                    number = numbers.setdefault(name_of(volume), len(numbers))
                    if number == len(found.volumes):
                        found.volumes.append(volume)
                    chosen[here] = number
                    taken |= here
                    open_rows &= ~here
                    if not open_rows.any():
                        break
        _check_provisioning(claim, columns, rows, chosen < 0, found)
        found.claims.append(claim)
        found.chosen.append(chosen)
    return found


def _candidates(claim: Obj, columns: Columns) -> list[Obj]:
    """Returns the volumes that a claim may have, those reserved for it first, then the smallest."""
    reserved, fitting = [], []
    for volume in columns.storage.volumes_for(claim):
        reference = volume["spec"].get("claimRef")
        if reference:
            named = (reference.get("namespace"), reference.get("name")) == (namespace_of(claim), name_of(claim))
            if named and reference.get("uid") in (None, "", uid_of(claim)):
                reserved.append(volume)
        elif _fits(claim, volume):
            fitting.append(volume)
    return reserved or sorted(fitting, key=lambda one: (_size(one), name_of(one)))


def _fits(claim: Obj, volume: Obj) -> bool:
    spec, offered = claim["spec"], volume["spec"]
    return (
        not is_deleted(volume)
        and (volume.get("status") or {}).get("phase") in (None, "", "Pending", "Available")
        and class_name(volume) == class_name(claim)
        and (offered.get("volumeMode") or "Filesystem") == (spec.get("volumeMode") or "Filesystem")
        and set(spec.get("accessModes") or ()) <= set(offered.get("accessModes") or ())
        and (spec.get("volumeAttributesClassName") or "") == (offered.get("volumeAttributesClassName") or "")
        and _size(volume) >= _requested(claim)
        and (spec.get("selector") is None or from_object(spec["selector"]).matches(labels_of(volume)))
    )


def _check_provisioning(claim: Obj, columns: Columns, rows: Ints, wanted: Mask, found: _Found) -> None:
    """Marks the rows among `wanted` for which no volume can be provisioned."""
    if not wanted.any():
        return
    storage_class = columns.storage.class_for(claim) or {}
    provisioner = storage_class.get("provisioner") or ""
    if provisioner in ("", NO_PROVISIONER):
        found.unmatched |= wanted
        return
    topologies = storage_class.get("allowedTopologies")
    if topologies:
        terms = [
            {
                "matchExpressions": [
                    {"key": one["key"], "operator": "In", "values": one.get("values") or []}
                    for one in term.get("matchLabelExpressions") or ()
                ]
            }
            for term in topologies
        ]
        outside = wanted & ~selector_mask({"nodeSelectorTerms": terms}, columns)[rows]
        found.unmatched |= outside
        wanted = wanted & ~outside
    driver = columns.storage.drivers.get(provisioner)
    if driver is not None and (driver.get("spec") or {}).get("storageCapacity"):
        found.without_space |= wanted & ~_with_capacity(claim, storage_class, columns)[rows]


def _with_capacity(claim: Obj, storage_class: Obj, columns: Columns) -> Mask:
    """Returns the rows for which a CSIStorageCapacity promises room for a claim."""
    mask = np.zeros(columns.capacity, dtype=bool)
    size = _requested(claim)
    for one in columns.storage.capacities.objects():
        limit = one.get("maximumVolumeSize") or one.get("capacity")
        if one.get("storageClassName") != name_of(storage_class) or limit is None or parse(str(limit)).nano < size:
            continue
        topology = one.get("nodeTopology")
        if topology is None:
            continue
        matches = from_object(topology).matches
        for row in np.flatnonzero(columns.alive & ~mask):
            mask[row] = matches(labels_of(columns.nodes[row] or {}))
    return mask


# ---------------------------------------------------------------- what changes in the API


def _reserved(volume: Obj, claim: Obj) -> Obj:
    reference = {
        "kind": "PersistentVolumeClaim",
        "namespace": namespace_of(claim),
        "name": name_of(claim),
        "uid": uid_of(claim),
        "apiVersion": "v1",
        "resourceVersion": metadata(claim).get("resourceVersion"),
    }
    meta = metadata(volume)
    if not volume["spec"].get("claimRef"):
        meta = {**meta, "annotations": {**annotations_of(volume), BOUND_BY: "yes"}}
    return {**volume, "metadata": meta, "spec": {**volume["spec"], "claimRef": reference}}


def _reserve_for(claim: Obj) -> Callable[[Obj], Obj | None]:
    def change(volume: Obj) -> Obj | None:
        reference = volume["spec"].get("claimRef") or {}
        if reference.get("uid") == uid_of(claim):
            return None
        same = (reference.get("namespace"), reference.get("name")) == (namespace_of(claim), name_of(claim))
        if reference and (reference.get("uid") or not same):
            raise Refused(f'volume "{name_of(volume)}" was given to another claim in the meantime')
        return _reserved(volume, claim)

    return change


def _sent(claim: Obj, node: str) -> Obj:
    annotations = {**annotations_of(claim), SELECTED_NODE: node}
    return {**claim, "metadata": {**metadata(claim), "annotations": annotations}}


def _send_to(node: str) -> Callable[[Obj], Obj | None]:
    def change(claim: Obj) -> Obj | None:
        if is_bound(claim) or annotations_of(claim).get(SELECTED_NODE) == node:
            return None
        return _sent(claim, node)

    return change


def _all_bound(columns: Columns, claims: Sequence[str], sent: set[str], node: str) -> Callable[[], bool]:
    def done() -> bool:
        for key in claims:
            claim = columns.storage.claim(key)
            name = key.partition("/")[2]
            if claim is None or is_deleted(claim):
                raise Refused(f'binding volumes: PVC "{name}" was removed in the meantime')
            if not is_bound(claim):
                if key in sent and annotations_of(claim).get(SELECTED_NODE) != node:
                    # The provisioner takes the annotation away when it cannot help on this node.
                    raise Refused(f'binding volumes: provisioning failed for PVC "{name}"')
                return False
            volume = columns.storage.volume(claim["spec"]["volumeName"])
            if volume is None:
                return False
            row = columns.row_of.get(node, -1)
            if row >= 0 and not _reachable(volume, columns)[row]:
                raise Refused(f'binding volumes: pv "{name_of(volume)}" node affinity doesn\'t match node "{node}"')
        return True

    return done
