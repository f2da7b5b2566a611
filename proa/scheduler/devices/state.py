"""What the scheduler knows about devices: slices by node, claims, and what is allocated, assumed allocations included.

Everything is worked out when it is first needed and kept until an event says that it changed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from proa.meta.objects import Obj, key_of, name_of, uid_of
from proa.meta.quantity import parse
from proa.scheduler.devices.extended import classes_by_resource
from proa.scheduler.storage import Lister, Nothing

DeviceId = tuple[str, str, str]  # driver, pool, name
_NOTHING = Nothing()


@dataclass(frozen=True, slots=True)
class Device:
    """A device of a slice; `selector` limits the nodes it is for (None: `node` alone, or all if that is empty)."""

    id: DeviceId
    obj: Obj
    node: str
    selector: Obj | None
    pool: Pool


@dataclass(eq=False, slots=True)
class Pool:
    """The slices of the newest generation of one pool."""

    driver: str
    name: str
    generation: int
    expected: int
    slices: list[Obj] = field(default_factory=list)
    counters: dict[str, dict[str, int]] = field(default_factory=dict)  # counter set -> counter -> nano-units

    @property
    def is_complete(self) -> bool:
        return len(self.slices) == self.expected


@dataclass(slots=True)
class Usage:
    """What is allocated: whole devices, and how much of shared ones, in nano-units by capacity's name."""

    devices: set[DeviceId] = field(default_factory=set)
    shared: dict[DeviceId, dict[str, int]] = field(default_factory=dict)

    def take(self, allocation: Obj) -> None:
        for result in (allocation.get("devices") or {}).get("results") or ():
            if result.get("adminAccess"):
                continue
            which = (result["driver"], result["pool"], result["device"])
            if result.get("shareID") is None:
                self.devices.add(which)
                continue
            used = self.shared.setdefault(which, {})
            for name, amount in (result.get("consumedCapacity") or {}).items():
                used[name] = used.get(name, 0) + parse(str(amount)).nano


@dataclass(slots=True)
class Inventory:
    """All devices: those of one node, and those for several."""

    by_node: dict[str, list[Device]] = field(default_factory=dict)
    shared: list[Device] = field(default_factory=list)

    def for_node(self, name: str) -> Iterator[Device]:
        yield from self.by_node.get(name, ())
        yield from self.shared


@dataclass(slots=True)
class Devices:
    """Claims, classes and slices."""

    claims: Lister = _NOTHING
    classes: Lister = _NOTHING
    slices: Lister = _NOTHING
    # uid of a claim -> its allocation, not yet in the API
    _pending: dict[str, Obj] = field(default_factory=dict, init=False)
    _inventory: Inventory | None = field(default=None, init=False)
    _usage: Usage | None = field(default=None, init=False)
    _served_by: dict[str, str] | None = field(default=None, init=False)

    @property
    def served_by(self) -> Mapping[str, str]:
        """Which device class serves which extended resource."""
        if self._served_by is None:
            self._served_by = classes_by_resource(self.classes.objects())
        return self._served_by

    def changed(self, obj: Obj) -> None:
        """A slice, class or claim changed."""
        self._usage = None
        if obj.get("kind", "ResourceSlice") == "ResourceSlice":
            self._inventory = None
        if obj.get("kind") == "DeviceClass":
            self._served_by = None
        if (obj.get("status") or {}).get("allocation") is not None:
            self._pending.pop(uid_of(obj), None)

    def claim(self, key: str) -> Obj | None:
        namespace, _, name = key.partition("/")
        return self.claims.get(name, namespace)

    def is_pending(self, claim: Obj) -> bool:
        """Tells whether an allocation of the claim is on its way."""
        return uid_of(claim) in self._pending

    def assume(self, claim: Obj, allocation: Obj) -> None:
        self._pending[uid_of(claim)] = allocation
        self._usage = None

    def forget(self, uid: str) -> None:
        if self._pending.pop(uid, None) is not None:
            self._usage = None

    def rename(self, old: str, new: str) -> None:
        """A claim for which an allocation was assumed has got its uid now."""
        if old in self._pending:
            self._pending[new] = self._pending.pop(old)

    @property
    def usage(self) -> Usage:
        if self._usage is None:
            self._usage = Usage()
            for claim in self.claims.objects():
                allocation = (claim.get("status") or {}).get("allocation")
                if allocation is not None and uid_of(claim) not in self._pending:
                    self._usage.take(allocation)
            for allocation in self._pending.values():
                self._usage.take(allocation)
        return self._usage

    @property
    def inventory(self) -> Inventory:
        if self._inventory is None:
            self._inventory = _take_stock(self.slices.objects())
        return self._inventory


def _take_stock(slices: list[Obj]) -> Inventory:
    pools: dict[tuple[str, str], Pool] = {}
    for one in sorted(slices, key=name_of):
        spec = one["spec"]
        pool = spec["pool"]
        key = spec["driver"], pool["name"]
        generation = pool.get("generation") or 0
        known = pools.get(key)
        if known is None or generation > known.generation:
            known = pools[key] = Pool(*key, generation, pool.get("resourceSliceCount") or 0)
        if generation == known.generation:
            known.slices.append(one)
    inventory = Inventory()
    for found in pools.values():
        for one in found.slices:
            for group in one["spec"].get("sharedCounters") or ():
                amounts = {name: parse(str(of["value"])).nano for name, of in (group.get("counters") or {}).items()}
                found.counters[group["name"]] = amounts
        for one in found.slices:
            _add_devices(inventory, one["spec"], found)
    return inventory


def _add_devices(inventory: Inventory, spec: Obj, pool: Pool) -> None:
    for obj in spec.get("devices") or ():
        place = obj if spec.get("perDeviceNodeSelection") else spec
        node = place.get("nodeName") or ""
        device = Device((pool.driver, pool.name, obj["name"]), obj, node, place.get("nodeSelector"), pool)
        if node:
            inventory.by_node.setdefault(node, []).append(device)
        elif place.get("nodeSelector") or place.get("allNodes"):
            inventory.shared.append(device)


def claim_keys(pod: Obj) -> Iterator[tuple[str, str | None, bool]]:
    """Yields (name in the pod, key of the claim or None if it is not made yet, whether the pod must own it)."""
    statuses = (pod.get("status") or {}).get("resourceClaimStatuses") or ()
    made = {one["name"]: one.get("resourceClaimName") for one in statuses}
    namespace = key_of(pod).partition("/")[0]
    for one in (pod.get("spec") or {}).get("resourceClaims") or ():
        if one.get("resourceClaimName"):
            yield one["name"], f"{namespace}/{one['resourceClaimName']}", False
        elif one["name"] not in made:
            yield one["name"], None, True
        elif made[one["name"]]:  # an empty name: the claim is not needed
            yield one["name"], f"{namespace}/{made[one['name']]}", True
