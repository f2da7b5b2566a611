"""DynamicResources: nodes must have devices for the pod's resource claims, which are allocated before binding."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from proa.apis.resource.resource_claim import FINALIZER
from proa.client.resources import RESOURCECLAIMS
from proa.meta.objects import Obj, is_deleted, metadata, name_of, namespace_of, uid_of
from proa.scheduler.columns import Columns, Ints
from proa.scheduler.devices.state import claim_keys
from proa.scheduler.framework import (
    Change,
    Event,
    Happening,
    Plugin,
    PostFilterError,
    Refused,
    Rejection,
    Until,
    normalized,
)
from proa.scheduler.plugins.nodes import selector_mask
from proa.scheduler.pod import PodInfo

if TYPE_CHECKING:
    from proa.scheduler.devices.allocator import Chosen, Wanted
    from proa.scheduler.devices.state import Device, DeviceId

RESERVED_FOR_MAX = 256
BINDING_SECONDS_MAX = 600.0
ALTERNATIVES_MAX = 8  # of one request


@dataclass(slots=True)
class _Cycle:
    """What one cycle has found out about a pod's claims."""

    claims: list[Obj] = field(default_factory=list)
    to_allocate: list[Obj] = field(default_factory=list)
    wants: Sequence[Sequence[Wanted]] = ()
    selected: dict[tuple[tuple[str, ...], DeviceId], bool] = field(default_factory=dict)
    places: dict[int, frozenset[int]] = field(default_factory=dict)
    unavailable: set[str] = field(default_factory=set)  # uids of allocated claims that keep nodes out
    found: dict[int, list[Chosen]] = field(default_factory=dict)  # by row, where requests have alternatives


def _reserved_for(claim: Obj) -> list[Obj]:
    return (claim.get("status") or {}).get("reservedFor") or []


def _is_reserved_for(claim: Obj, uid: str) -> bool:
    return any(one.get("uid") == uid for one in _reserved_for(claim))


def _allocation(claim: Obj) -> Obj | None:
    return (claim.get("status") or {}).get("allocation")


class DynamicResources(Plugin):
    name = "DynamicResources"
    wakes = Happening.DEVICE | Happening.NODE_ADD | Happening.NODE_LABEL | Happening.POD_UPDATE | Happening.POD_DELETE

    def __init__(self) -> None:
        self._reserved: dict[str, list[tuple[Obj, Obj]]] = {}  # pod -> claims with the allocations made for them

    # ------------------------------------------------------------ before nodes are looked at

    def pre_enqueue(self, pod: PodInfo, columns: Columns) -> str:
        if not (pod.obj.get("spec") or {}).get("resourceClaims"):
            return ""
        problem, _ = self._claims(pod, columns)
        return problem

    def _claims(self, pod: PodInfo, columns: Columns) -> tuple[str, list[Obj]]:
        """Returns (what is wrong, the pod's claims)."""
        claims = []
        for _, key, owned in claim_keys(pod.obj):
            if key is None:
                return f'pod "{pod.key}": ResourceClaim not created yet', []
            claim = columns.devices.claim(key)
            name = key.partition("/")[2]
            if claim is None:
                return f'resourceclaim.resource.k8s.io "{name}" not found', []
            if is_deleted(claim):
                return f'resourceclaim "{name}" is being deleted', []
            if owned and not any(one.get("uid") == pod.uid for one in metadata(claim).get("ownerReferences") or ()):
                return f"ResourceClaim {key} was not created for pod {pod.key} (pod is not owner)", []
            claims.append(claim)
        return "", claims

    def pre_filter(self, pod: PodInfo, columns: Columns) -> str:
        pod.cache[self.name] = None
        if not (pod.obj.get("spec") or {}).get("resourceClaims"):
            return ""
        from proa.scheduler.devices.allocator import Hopeless, wants_of

        problem, claims = self._claims(pod, columns)
        if problem:
            return problem
        cycle = _Cycle(claims)
        for claim in claims:
            if _allocation(claim) is None:
                if columns.devices.is_pending(claim):
                    return f"resource claim {name_of(claim)} is in the process of being allocated"
                cycle.to_allocate.append(claim)
            elif not _is_reserved_for(claim, pod.uid) and len(_reserved_for(claim)) >= RESERVED_FOR_MAX:
                return "resourceclaim in use"
        try:
            cycle.wants = wants_of(cycle.to_allocate, columns.devices)
        except Hopeless as error:
            return str(error)
        pod.cache[self.name] = cycle
        return ""

    # ------------------------------------------------------------ nodes

    def filter(self, pod: PodInfo, columns: Columns, rows: Ints) -> list[Rejection]:
        cycle: _Cycle | None = pod.cache.get(self.name)
        if cycle is None:
            return []
        rejections = []
        away = np.zeros(len(rows), dtype=bool)
        for claim in cycle.claims:
            selector = (_allocation(claim) or {}).get("nodeSelector")
            if selector is not None:
                outside = ~selector_mask(selector, columns)[rows]
                if outside.any():
                    cycle.unavailable.add(uid_of(claim))
                away |= outside
        if away.any():
            rejections.append(Rejection(away, "resourceclaim not available on the node", resolvable=False))
        if cycle.to_allocate:
            rejections += self._without_devices(cycle, columns, rows, away)
        return rejections

    def _without_devices(self, cycle: _Cycle, columns: Columns, rows: Ints, away: Ints) -> list[Rejection]:
        from proa.scheduler.devices.allocator import Hopeless

        texts: dict[str, list[int]] = {}
        has_alternatives = any(one.request != one.parent for alternatives in cycle.wants for one in alternatives)
        # Nodes without devices of their own all see the same shared ones.
        for position, row in enumerate(rows):
            if away[position]:
                continue
            try:
                found = self._search(cycle, columns, int(row))
            except Hopeless as error:
                texts.setdefault(str(error), []).append(position)
                continue
            if found is None:
                texts.setdefault("cannot allocate all claims", []).append(position)
            elif has_alternatives:
                cycle.found[int(row)] = found
        rejections = []
        for text, positions in texts.items():
            mask = np.zeros(len(rows), dtype=bool)
            mask[positions] = True
            rejections.append(Rejection(mask, text, resolvable=False))
        return rejections

    def _search(self, cycle: _Cycle, columns: Columns, row: int) -> list[Chosen] | None:
        from proa.scheduler.devices.allocator import Search

        devices = self._devices_on(cycle, columns, row)
        if not devices and cycle.wants:
            return None
        return Search(columns.devices, cycle.to_allocate, devices, cycle.wants, cycle.selected).run()

    @staticmethod
    def _devices_on(cycle: _Cycle, columns: Columns, row: int) -> list[Device]:
        inventory = columns.devices.inventory
        found = list(inventory.by_node.get(columns.names[row], ()))
        for device in inventory.shared:
            if device.selector is not None:
                inside = cycle.places.get(id(device))
                if inside is None:
                    mask = selector_mask(device.selector, columns)
                    inside = cycle.places[id(device)] = frozenset(map(int, np.flatnonzero(mask)))
                if row not in inside:
                    continue
            found.append(device)
        return found

    def post_filter(self, pod: PodInfo, columns: Columns) -> tuple[str, Sequence[Change]]:
        """Deallocates one claim that keeps the pod from fitting and that nobody else uses."""
        if self.name not in pod.cache:
            # A plugin before this one refused all nodes; these are upstream's words for that.
            raise PostFilterError("not found")
        cycle: _Cycle | None = pod.cache[self.name]
        if cycle is None:
            return "no new claims to deallocate", ()
        for claim in cycle.claims:
            if uid_of(claim) not in cycle.unavailable:
                continue
            users = _reserved_for(claim)
            if not users or (len(users) == 1 and users[0].get("uid") == pod.uid):
                change = Change(RESOURCECLAIMS, namespace_of(claim), name_of(claim), _deallocated(pod), "status")
                return "deallocation of ResourceClaim completed", (change,)
        return "still not schedulable", ()

    def score(self, pod: PodInfo, columns: Columns, rows: Ints) -> Ints | None:
        """Prefers nodes on which requests get what they list first."""
        cycle: _Cycle | None = pod.cache.get(self.name)
        if cycle is None or not cycle.found:
            return None
        worth = {
            (one.claim, one.request): ALTERNATIVES_MAX - place
            for alternatives in cycle.wants
            for place, one in enumerate(alternatives)
            if one.request != one.parent
        }
        scores = [
            sum(worth.get(which, 0) for which in {(one.wanted.claim, one.wanted.request) for one in cycle.found[row]})
            for row in map(int, rows)
        ]
        return normalized(np.array(scores, dtype=np.int64))

    # ------------------------------------------------------------ the chosen node

    def reserve(self, pod: PodInfo, node: str, columns: Columns) -> str:
        cycle: _Cycle | None = pod.cache.get(self.name)
        if cycle is None or not cycle.to_allocate:
            return ""
        from proa.scheduler.devices.allocator import Hopeless, allocations

        try:
            found = self._search(cycle, columns, columns.row_of[node])
        except Hopeless as error:
            raise Refused(str(error)) from None
        if found is None:
            raise Refused("claim allocation not found for node")
        made = allocations(cycle.to_allocate, found, columns.devices, node)
        pairs = list(zip(cycle.to_allocate, made, strict=True))
        for claim, allocation in pairs:
            columns.devices.assume(claim, allocation)
        self._reserved[pod.key] = pairs
        return ""

    def unreserve(self, pod: PodInfo, node: str, columns: Columns) -> None:
        for claim, _ in self._reserved.pop(pod.key, ()):
            columns.devices.forget(claim)

    def pre_bind(self, pod: PodInfo, node: str, columns: Columns) -> Sequence[Change | Until]:
        if not (pod.obj.get("spec") or {}).get("resourceClaims"):
            return ()
        made = {uid_of(claim): allocation for claim, allocation in self._reserved.get(pod.key, ())}
        _, claims = self._claims(pod, columns)
        steps: list[Change | Until] = []
        waiting: list[Obj] = []
        for claim in claims:
            allocation = made.get(uid_of(claim))
            if _is_reserved_for(claim, pod.uid) and allocation is None:
                continue
            where = (RESOURCECLAIMS, namespace_of(claim), name_of(claim))
            if allocation is not None:
                steps.append(Change(*where, _protected))
                if any(one.get("bindingConditions") for one in allocation["devices"]["results"]):
                    waiting.append(claim)
            steps.append(Change(*where, _reserved(pod, allocation), "status"))
        steps += [
            Until(
                _conditions_met(columns, f"{namespace_of(one)}/{name_of(one)}", made[uid_of(one)]),
                BINDING_SECONDS_MAX,
                f"device binding timeout: claim {name_of(one)}",
            )
            for one in waiting
        ]
        return steps

    def post_bind(self, pod: PodInfo, node: str) -> None:
        self._reserved.pop(pod.key, None)

    def helps(self, pod: PodInfo, event: Event, columns: Columns) -> bool:
        claim = event.obj
        if claim is None or claim.get("kind") != "ResourceClaim":
            return True
        # A claim that was freed may help anybody, any other change only the pods that use the claim.
        if _allocation(claim) is None or is_deleted(claim):
            return True
        key = f"{namespace_of(claim)}/{name_of(claim)}"
        return any(one == key for _, one, _ in claim_keys(pod.obj))


def _protected(claim: Obj) -> Obj | None:
    if is_deleted(claim):
        raise Refused(f"claim {namespace_of(claim)}/{name_of(claim)} got deleted in the meantime")
    finalizers = metadata(claim).get("finalizers") or []
    if FINALIZER in finalizers:
        return None
    return {**claim, "metadata": {**metadata(claim), "finalizers": [*finalizers, FINALIZER]}}


def _reserved(pod: PodInfo, allocation: Obj | None) -> Callable[[Obj], Obj | None]:
    def change(claim: Obj) -> Obj | None:
        if is_deleted(claim):
            raise Refused(f"claim {namespace_of(claim)}/{name_of(claim)} got deleted in the meantime")
        status = claim.get("status") or {}
        if allocation is not None and status.get("allocation") is not None:
            raise Refused(f"claim {namespace_of(claim)}/{name_of(claim)} got allocated elsewhere in the meantime")
        if allocation is None and _is_reserved_for(claim, pod.uid):
            return None
        user = {"resource": "pods", "name": name_of(pod.obj), "uid": pod.uid}
        new = {**status, "reservedFor": [*_reserved_for(claim), user]}
        if allocation is not None:
            new["allocation"] = allocation
        return {**claim, "status": new}

    return change


def _deallocated(pod: PodInfo) -> Callable[[Obj], Obj | None]:
    def change(claim: Obj) -> Obj | None:
        if _allocation(claim) is None or any(one.get("uid") != pod.uid for one in _reserved_for(claim)):
            return None
        status = {key: value for key, value in claim["status"].items() if key not in ("allocation", "reservedFor")}
        return {**claim, "status": status}

    return change


def _conditions_met(columns: Columns, key: str, allocation: Obj) -> Callable[[], bool]:
    """Tells whether the devices of an allocation have all their binding conditions."""

    def done() -> bool:
        claim = columns.devices.claim(key)
        if claim is None or is_deleted(claim):
            raise Refused(f"claim {key} got deleted in the meantime")
        said = {
            (one.get("driver"), one.get("pool"), one.get("device")): {
                condition["type"] for condition in one.get("conditions") or () if condition.get("status") == "True"
            }
            for one in (claim.get("status") or {}).get("devices") or ()
        }
        met = True
        for result in allocation["devices"]["results"]:
            true = said.get((result["driver"], result["pool"], result["device"]), set())
            if true & set(result.get("bindingFailureConditions") or ()):
                raise Refused(f"claim {key} binding failed")
            met = met and true >= set(result.get("bindingConditions") or ())
        return met

    return done
