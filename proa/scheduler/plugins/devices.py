"""DynamicResources: nodes must have devices for the pod's resource claims, which are allocated before binding."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from proa.client.resources import PODS, RESOURCECLAIMS
from proa.meta.objects import Obj, controller_of, is_deleted, metadata, name_of, namespace_of, uid_of
from proa.scheduler.columns import Columns, Ints
from proa.scheduler.devices.changes import (
    Reserved,
    allocation_of,
    binding_failure,
    conditions_met,
    deallocated,
    deletion,
    has_conditions,
    is_reserved_for,
    left,
    reserved_for,
    sends,
    write,
)
from proa.scheduler.devices.extended import claim_of, new_claim, requests_of
from proa.scheduler.devices.state import claim_keys
from proa.scheduler.framework import (
    Change,
    Event,
    Happening,
    Plugin,
    PostFilterError,
    Refused,
    Rejection,
    Steps,
    Tell,
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
class _Needs:
    """What has to be allocated on a node. `extended` is the claim for extended resources, the last of `claims`, if the
    node has to serve some of them with devices; `mappings` says which container uses which of its requests."""

    claims: list[Obj]
    wants: Sequence[Sequence[Wanted]] = ()
    extended: Obj | None = None
    mappings: list[Obj] = field(default_factory=list)
    selected: dict[tuple[tuple[str, ...], DeviceId], bool] = field(default_factory=dict)

    @property
    def has_alternatives(self) -> bool:
        return any(one.request != one.parent for alternatives in self.wants for one in alternatives)


@dataclass(slots=True)
class _Cycle:
    """What one cycle has found out about a pod's claims."""

    claims: list[Obj] = field(default_factory=list)
    to_allocate: list[Obj] = field(default_factory=list)
    extended: tuple[str, ...] = ()  # extended resources that devices may serve
    stale: Obj | None = None  # the claim of an earlier attempt for them
    needs: dict[frozenset[str], _Needs] = field(default_factory=dict)  # by the resources that devices serve
    places: dict[int, frozenset[int]] = field(default_factory=dict)
    unavailable: set[str] = field(default_factory=set)  # uids of allocated claims that keep nodes out
    found: dict[int, list[Chosen]] = field(default_factory=dict)  # by row, where requests have alternatives


class DynamicResources(Plugin):
    name = "DynamicResources"
    wakes = (
        Happening.DEVICE
        | Happening.NODE_ADD
        | Happening.NODE_LABEL
        | Happening.NODE_ALLOCATABLE
        | Happening.POD_UPDATE
        | Happening.POD_DELETE
    )

    def __init__(self, binding_seconds_max: float = BINDING_SECONDS_MAX) -> None:
        self._binding_seconds_max = binding_seconds_max
        self._reserved: dict[str, Reserved] = {}  # by pod
        self._given_up: set[str] = set()  # uids of claims whose devices did not become ready

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
        extended = _extended(pod, columns)
        if not extended and not (pod.obj.get("spec") or {}).get("resourceClaims"):
            return ""
        from proa.scheduler.devices.allocator import Hopeless, wants_of

        problem, claims = self._claims(pod, columns)
        if problem:
            return problem
        cycle = _Cycle(claims, extended=extended)
        if extended:
            cycle.stale = claim_of(pod.obj, columns.devices.claims.objects(pod.namespace))
        for claim in claims:
            if allocation_of(claim) is None:
                if columns.devices.is_pending(claim):
                    return f"resource claim {namespace_of(claim)}/{name_of(claim)} is in the process of being allocated"
                cycle.to_allocate.append(claim)
            elif not is_reserved_for(claim, pod.uid) and len(reserved_for(claim)) >= RESERVED_FOR_MAX:
                return "resourceclaim in use"
        try:
            cycle.needs[frozenset()] = _Needs(cycle.to_allocate, wants_of(cycle.to_allocate, columns.devices))
        except Hopeless as error:
            return str(error)
        pod.cache[self.name] = cycle
        return ""

    # ------------------------------------------------------------ nodes

    def filter(self, pod: PodInfo, columns: Columns, rows: Ints) -> list[Rejection]:
        cycle: _Cycle | None = pod.cache.get(self.name)
        if cycle is None:
            return []
        if cycle.stale is not None:
            text = "cannot schedule extended resource claim"
            return [Rejection(np.ones(len(rows), dtype=bool), text, resolvable=False)]
        rejections = []
        away = np.zeros(len(rows), dtype=bool)
        for claim in cycle.claims:
            selector = (allocation_of(claim) or {}).get("nodeSelector")
            if allocation_of(claim) is not None and self._is_lost(claim):
                cycle.unavailable.add(uid_of(claim))
                away[:] = True
            elif selector is not None:
                outside = ~selector_mask(selector, columns)[rows]
                if outside.any():
                    cycle.unavailable.add(uid_of(claim))
                away |= outside
        if away.any():
            rejections.append(Rejection(away, "resourceclaim not available on the node", resolvable=False))
        if cycle.to_allocate or cycle.extended:
            rejections += self._without_devices(pod, cycle, columns, rows, away)
        return rejections

    def _is_lost(self, claim: Obj) -> bool:
        """Tells whether the devices of a claim will not become ready."""
        return uid_of(claim) in self._given_up or bool(binding_failure(claim, allocation_of(claim) or {}))

    def _needs(self, pod: PodInfo, cycle: _Cycle, columns: Columns, row: int) -> _Needs:
        """Returns what is to be allocated on a node; raises Hopeless."""
        served = frozenset(name for name in cycle.extended if not columns.allocatable[row, columns.resource(name)])
        needs = cycle.needs.get(served)
        if needs is None:
            from proa.scheduler.devices.allocator import wants_of

            requests, mappings = requests_of(pod.obj, served, columns.devices.served_by)
            made = new_claim(pod.obj, requests)
            # Until it has one of its own.
            made["metadata"] |= {"name": "<extended-resources>", "uid": f"extended-resources-of-{pod.uid}"}
            claims = [*cycle.to_allocate, made]
            needs = cycle.needs[served] = _Needs(claims, wants_of(claims, columns.devices), made, mappings)
        return needs

    def _without_devices(
        self, pod: PodInfo, cycle: _Cycle, columns: Columns, rows: Ints, away: Ints
    ) -> list[Rejection]:
        from proa.scheduler.devices.allocator import Hopeless

        texts: dict[str, list[int]] = {}
        # Nodes without devices of their own all see the same shared ones.
        for position, row in enumerate(rows):
            if away[position]:
                continue
            try:
                needs = self._needs(pod, cycle, columns, int(row))
                found = self._search(cycle, needs, columns, int(row))
            except Hopeless as error:
                texts.setdefault(str(error), []).append(position)
                continue
            if found is None:
                texts.setdefault("cannot allocate all claims", []).append(position)
            elif needs.has_alternatives:
                cycle.found[int(row)] = found
        rejections = []
        for text, positions in texts.items():
            mask = np.zeros(len(rows), dtype=bool)
            mask[positions] = True
            rejections.append(Rejection(mask, text, resolvable=False))
        return rejections

    def _search(self, cycle: _Cycle, needs: _Needs, columns: Columns, row: int) -> list[Chosen] | None:
        from proa.scheduler.devices.allocator import Search

        if not needs.wants:
            return []
        devices = self._devices_on(cycle, columns, row)
        if not devices:
            return None
        return Search(columns.devices, needs.claims, devices, needs.wants, needs.selected).run()

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
            users = reserved_for(claim)
            if not users or (len(users) == 1 and users[0].get("uid") == pod.uid):
                change = Change(RESOURCECLAIMS, namespace_of(claim), name_of(claim), deallocated(pod), "status")
                self._given_up.discard(uid_of(claim))
                return "deallocation of ResourceClaim completed", (change,)
        if cycle.stale is not None:
            return "deletion of ResourceClaim completed", deletion(cycle.stale)
        return "still not schedulable", ()

    def score(self, pod: PodInfo, columns: Columns, rows: Ints) -> Ints | None:
        """Prefers nodes on which requests get what they list first."""
        cycle: _Cycle | None = pod.cache.get(self.name)
        if cycle is None or not cycle.found:
            return None
        worth = {
            (one.claim, one.request): ALTERNATIVES_MAX - place
            for alternatives in cycle.needs[frozenset()].wants
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
        if cycle is None or not (cycle.to_allocate or cycle.extended):
            return ""
        from proa.scheduler.devices.allocator import Hopeless, allocations

        row = columns.row_of[node]
        try:
            needs = self._needs(pod, cycle, columns, row)
            found = self._search(cycle, needs, columns, row)
        except Hopeless as error:
            raise Refused(str(error)) from None
        if found is None:
            raise Refused("claim allocation not found for node")
        made = allocations(needs.claims, found, columns.devices, node)
        reserved = Reserved({uid_of(claim): one for claim, one in zip(needs.claims, made, strict=True)})
        reserved.extended, reserved.mappings = needs.extended, needs.mappings
        for claim, allocation in zip(needs.claims, made, strict=True):
            columns.devices.assume(claim, allocation)
        self._reserved[pod.key] = reserved
        return ""

    def unreserve(self, pod: PodInfo, node: str, columns: Columns) -> Steps | None:
        reserved = self._reserved.pop(pod.key, None)
        if reserved is None:
            return None
        for uid in reserved.allocations:
            columns.devices.forget(uid)
        steps: list[Change] = []
        for claim in reserved.written:
            where = (RESOURCECLAIMS, namespace_of(claim), name_of(claim))
            steps += [Change(*where, left(pod), "status")]
        if reserved.created is not None:
            steps += deletion(reserved.created)
        return steps

    def pre_bind(self, pod: PodInfo, node: str, columns: Columns) -> Steps:
        reserved = self._reserved.get(pod.key)
        _, claims = self._claims(pod, columns)
        claims = [one for one in claims if not (is_reserved_for(one, pod.uid) and uid_of(one) not in _of(reserved))]
        if not claims and (reserved is None or reserved.extended is None):
            return ()
        if reserved is None:
            reserved = self._reserved[pod.key] = Reserved({})
        return self._bind_claims(pod, node, columns, claims, reserved)

    def _bind_claims(
        self, pod: PodInfo, node: str, columns: Columns, claims: list[Obj], reserved: Reserved
    ) -> Generator[Change | Until | Tell, Any, None]:
        """Writes allocations and reservations, then waits for devices that have to be made ready."""
        waiting: list[tuple[Obj, Obj]] = []
        for claim in claims:
            allocation = reserved.allocations.get(uid_of(claim))
            yield from write(pod, claim, allocation, reserved)
            waiting += [(claim, allocation)] if allocation is not None and has_conditions(allocation) else []
        if reserved.extended is not None:
            temporary = uid_of(reserved.extended)
            body = new_claim(pod.obj, reserved.extended["spec"]["devices"]["requests"])
            made: Obj = yield Change(RESOURCECLAIMS, pod.namespace, "", sends(body), verb="create")
            reserved.created = made
            columns.devices.rename(temporary, uid_of(made))
            allocation = reserved.allocations[uid_of(made)] = reserved.allocations.pop(temporary)
            yield from write(pod, made, allocation, reserved)
            said = {"resourceClaimName": name_of(made), "requestMappings": reserved.mappings}
            status = {"status": {"extendedResourceClaimStatus": said}}
            yield Change(PODS, pod.namespace, name_of(pod.obj), sends(status), "status", "patch")
            waiting += [(made, allocation)] if has_conditions(allocation) else []
        if waiting:
            yield Tell("BindingConditionsPending", f"waiting for binding conditions for device on node {node}")
        for claim, allocation in waiting:
            key = f"{namespace_of(claim)}/{name_of(claim)}"
            late = "device binding timeout"
            try:
                yield Until(conditions_met(columns, key, allocation), self._binding_seconds_max, late)
            except Refused:
                self._given_up.add(uid_of(claim))
                raise

    def post_bind(self, pod: PodInfo, node: str) -> None:
        self._reserved.pop(pod.key, None)

    def helps(self, pod: PodInfo, event: Event, columns: Columns) -> bool:
        claim = event.obj
        if claim is None or claim.get("kind") != "ResourceClaim":
            return True
        if (controller_of(claim) or {}).get("uid") == pod.uid:
            return True
        # A claim that was freed may help anybody, any other change only the pods that use the claim.
        if allocation_of(claim) is None or is_deleted(claim):
            return True
        key = f"{namespace_of(claim)}/{name_of(claim)}"
        return any(one == key for _, one, _ in claim_keys(pod.obj))


def _extended(pod: PodInfo, columns: Columns) -> tuple[str, ...]:
    """Returns the resources that a pod requests and a device class serves."""
    if not any("/" in name for name in pod.requests):
        return ()
    return tuple(name for name in pod.requests if name in columns.devices.served_by)


def _of(reserved: Reserved | None) -> Mapping[str, Obj]:
    return reserved.allocations if reserved is not None else {}
