"""Which devices of a node a pod's claims get: a search with backtracking, as upstream's structured allocator.

Requests are served in order, devices tried in the order of their slices; constraints, shared counters and consumable
capacity prune the search. Pure.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from proa.meta.cel import CelError, CompileError
from proa.meta.objects import Obj, metadata, name_of, uid_of
from proa.meta.quantity import parse
from proa.scheduler.devices.capacity import consumed, room_for
from proa.scheduler.devices.selectors import attribute_value, compiled, variables
from proa.scheduler.devices.state import Device, DeviceId, Devices, Usage

DEVICES_MAX = 32  # of one claim
STEPS_MAX = 20_000  # of one search; upstream gives up after ten seconds


class Hopeless(Exception):
    """The claims cannot be allocated, whatever the node; the text says why."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """One request of a claim, or one alternative of it."""

    claim: int
    request: str  # name, or name/subname
    parent: str
    count: int  # 0: all
    selectors: tuple[str, ...]
    tolerations: tuple[Obj, ...]
    admin: bool
    capacity: Mapping[str, str]
    class_name: str


@dataclass(frozen=True, slots=True)
class Chosen:
    """A device given to a request; `consumed` is set for shared ones."""

    wanted: Wanted
    device: Device
    consumed: Mapping[str, int] | None = None


@dataclass(slots=True)
class Search:
    """A search for one pod's claims on one node."""

    state: Devices
    claims: Sequence[Obj]
    devices: Sequence[Device]
    wants: Sequence[Sequence[Wanted]]  # one entry a request, with its alternatives
    selected: dict[tuple[tuple[str, ...], DeviceId], bool]  # what selectors said, kept over nodes
    chosen: list[Chosen] = field(default_factory=list)
    _taken: set[DeviceId] = field(default_factory=set)
    _shared: dict[DeviceId, dict[str, int]] = field(default_factory=dict)
    _steps: int = 0
    _usage: Usage = field(default_factory=Usage)

    def run(self) -> list[Chosen] | None:
        """Returns the devices of all claims, or None; raises Hopeless for selectors that fail."""
        self._usage = self.state.usage
        return list(self.chosen) if self._serve(0) else None

    # ------------------------------------------------------------ requests

    def _serve(self, index: int) -> bool:
        if index == len(self.wants):
            return True
        return any(self._serve_one(index, wanted) for wanted in self.wants[index])

    def _serve_one(self, index: int, wanted: Wanted) -> bool:
        matching = [one for one in self.devices if self._suits(wanted, one)]
        if wanted.count == 0:
            return self._serve_all(index, wanted, matching)
        if len([one for one in self.chosen if one.wanted.claim == wanted.claim]) + wanted.count > DEVICES_MAX:
            return False
        return self._serve_some(index, wanted, matching, 0, wanted.count)

    def _serve_all(self, index: int, wanted: Wanted, matching: Sequence[Device]) -> bool:
        mark = len(self.chosen)
        complete = all(one.pool.is_complete for one in self.devices)
        if complete and matching and len(matching) <= DEVICES_MAX:
            if all(self._take(wanted, device) for device in matching) and self._serve(index + 1):
                return True
            while len(self.chosen) > mark:
                self._give_back()
        return False

    def _serve_some(self, index: int, wanted: Wanted, matching: Sequence[Device], start: int, missing: int) -> bool:
        if not missing:
            return self._serve(index + 1)
        for position in range(start, len(matching)):
            device = matching[position]
            self._steps += 1
            if self._steps > STEPS_MAX:
                return False
            if not device.pool.is_complete or not self._take(wanted, device):
                continue
            if self._serve_some(index, wanted, matching, position + 1, missing - 1):
                return True
            self._give_back()
        return False

    # ------------------------------------------------------------ one device

    def _suits(self, wanted: Wanted, device: Device) -> bool:
        if not wanted.admin and any(
            taint.get("effect") in ("NoSchedule", "NoExecute") and not _tolerated(taint, wanted.tolerations)
            for taint in device.obj.get("taints") or ()
        ):
            return False
        key = (wanted.selectors, device.id)
        known = self.selected.get(key)
        if known is None:
            known = self.selected[key] = _selects(wanted, device, self.claims[wanted.claim])
        return known

    def _take(self, wanted: Wanted, device: Device) -> bool:
        if not self._constraints_allow(wanted, device):
            return False
        if wanted.admin:
            self.chosen.append(Chosen(wanted, device))
            return True
        if device.id in self._usage.devices or device.id in self._taken:
            return False
        amounts: Mapping[str, int] | None = None
        if device.obj.get("allowMultipleAllocations"):
            amounts = consumed(device.obj, wanted.capacity)
            before = _sum(self._usage.shared.get(device.id), self._shared.get(device.id))
            if amounts is None or not room_for(device.obj, before, amounts):
                return False
            first = device.id not in self._usage.shared and device.id not in self._shared
            if first and not self._counters_allow(device):
                return False
            if any(one.wanted is wanted and one.device.id == device.id for one in self.chosen):
                return False
            self._shared[device.id] = _sum(self._shared.get(device.id), amounts)
        else:
            if wanted.capacity and not room_for(device.obj, {}, _plain(wanted.capacity)):
                return False
            if not self._counters_allow(device):
                return False
            self._taken.add(device.id)
        self.chosen.append(Chosen(wanted, device, amounts))
        return True

    def _give_back(self) -> None:
        last = self.chosen.pop()
        which = last.device.id
        if last.wanted.admin:
            return
        if last.consumed is None:
            self._taken.discard(which)
            return
        left = [one.consumed for one in self.chosen if one.device.id == which and one.consumed is not None]
        if left:
            self._shared[which] = _sum(*left)
        else:
            del self._shared[which]

    def _counters_allow(self, device: Device) -> bool:
        """Tells whether the shared counters of the pool hold what the device consumes (partitionable devices)."""
        needs = device.obj.get("consumesCounters")
        if not needs:
            return True
        left = {name: dict(amounts) for name, amounts in device.pool.counters.items()}
        for other in self._of_pool(device):
            for part in other.get("consumesCounters") or ():
                for name, counter in (part.get("counters") or {}).items():
                    if name in left.get(part["counterSet"], {}):
                        left[part["counterSet"]][name] -= parse(str(counter["value"])).nano
        return all(
            left.get(part["counterSet"], {}).get(name, -1) >= parse(str(counter["value"])).nano
            for part in needs
            for name, counter in (part.get("counters") or {}).items()
        )

    def _of_pool(self, device: Device) -> Iterator[Obj]:
        """Yields the allocated devices of a device's pool."""
        taken = self._usage.devices | self._usage.shared.keys() | self._taken | self._shared.keys()
        for one in device.pool.slices:
            for obj in one["spec"].get("devices") or ():
                if (device.pool.driver, device.pool.name, obj["name"]) in taken:
                    yield obj

    def _constraints_allow(self, wanted: Wanted, device: Device) -> bool:
        spec = self.claims[wanted.claim]["spec"].get("devices") or {}
        for constraint in spec.get("constraints") or ():
            named = constraint.get("requests")
            if named and wanted.request not in named and wanted.parent not in named:
                continue
            key = constraint.get("matchAttribute") or constraint.get("distinctAttribute") or ""
            value = _attribute(device, key)
            if value is None:
                return False
            others = [
                _attribute(one.device, key)
                for one in self.chosen
                if one.wanted.claim == wanted.claim
                and (not named or one.wanted.request in named or one.wanted.parent in named)
            ]
            if constraint.get("matchAttribute"):
                if any(type(one) is not type(value) or one != value for one in others):
                    return False
            elif any(type(one) is type(value) and one == value for one in others):
                return False
        return True


def _attribute(device: Device, name: str) -> Any:
    attributes = device.obj.get("attributes") or {}
    found = attributes.get(name)
    if found is None:
        domain, _, short = name.partition("/")
        found = attributes.get(short) if domain == device.id[0] else None
    return None if found is None else attribute_value(found)


def _plain(capacity: Mapping[str, str]) -> dict[str, int]:
    return {name: parse(str(amount)).nano for name, amount in capacity.items()}


def _sum(*parts: Mapping[str, int] | None) -> dict[str, int]:
    total: dict[str, int] = {}
    for part in parts:
        for name, amount in (part or {}).items():
            total[name] = total.get(name, 0) + amount
    return total


def _tolerated(taint: Obj, tolerations: Sequence[Obj]) -> bool:
    for one in tolerations:
        if one.get("effect") and one["effect"] != taint.get("effect"):
            continue
        if one.get("key") and one["key"] != taint.get("key"):
            continue
        if one.get("operator") == "Exists" or (one.get("value") or "") == (taint.get("value") or ""):
            return True
    return False


def _selects(wanted: Wanted, device: Device, claim: Obj) -> bool:
    given = variables(device.obj, device.id[0])
    for number, expression in enumerate(wanted.selectors):
        try:
            if compiled(expression).run(given) is not True:
                return False
        except CompileError as error:
            raise Hopeless(f"claim {name_of(claim)}: selector #{number}: CEL compile error: {error}") from None
        except CelError as error:
            raise Hopeless(f"claim {name_of(claim)}: selector #{number}: CEL runtime error: {error}") from None
    return True


def wants_of(claims: Sequence[Obj], state: Devices) -> list[list[Wanted]]:
    """Returns what the claims ask for; raises Hopeless for a class that does not exist."""
    found = []
    for index, claim in enumerate(claims):
        for request in (claim["spec"].get("devices") or {}).get("requests") or ():
            name = request["name"]
            exactly = request.get("exactly")
            if exactly is not None:
                found.append([_wanted(index, name, name, exactly, state)])
            else:
                choices = request.get("firstAvailable") or ()
                found.append([_wanted(index, f"{name}/{one['name']}", name, one, state) for one in choices])
    return found


def _wanted(index: int, name: str, parent: str, request: Obj, state: Devices) -> Wanted:
    class_name = request.get("deviceClassName") or ""
    device_class = state.classes.get(class_name)
    if device_class is None:
        raise Hopeless(f"request {name}: device class {class_name} does not exist")
    selectors = [*(device_class["spec"].get("selectors") or ()), *(request.get("selectors") or ())]
    return Wanted(
        claim=index,
        request=name,
        parent=parent,
        count=0 if request.get("allocationMode") == "All" else request.get("count") or 1,
        selectors=tuple((one.get("cel") or {}).get("expression") or "true" for one in selectors),
        tolerations=tuple(request.get("tolerations") or ()),
        admin=bool(request.get("adminAccess")),
        capacity=(request.get("capacity") or {}).get("requests") or {},
        class_name=class_name,
    )


# ---------------------------------------------------------------- results


def allocations(claims: Sequence[Obj], chosen: Sequence[Chosen], state: Devices, node: str) -> list[Obj]:
    """Returns the `status.allocation` of each claim, as upstream writes it."""
    results = []
    for index, claim in enumerate(claims):
        own = [one for one in chosen if one.wanted.claim == index]
        devices: Obj = {"results": [_result(one, claim, number) for number, one in enumerate(own)]}
        config = _config(claim, own, state)
        if config:
            devices["config"] = config
        allocation: Obj = {"devices": devices}
        selector = _node_selector(own, node)
        if selector is not None:
            allocation["nodeSelector"] = selector
        results.append(allocation)
    return results


def _result(one: Chosen, claim: Obj, number: int) -> Obj:
    driver, pool, name = one.device.id
    result: Obj = {"request": one.wanted.request, "driver": driver, "pool": pool, "device": name}
    if one.wanted.admin:
        result["adminAccess"] = True
    if one.wanted.tolerations:
        result["tolerations"] = list(one.wanted.tolerations)
    for key in ("bindingConditions", "bindingFailureConditions"):
        if one.device.obj.get(key):
            result[key] = one.device.obj[key]
    if one.consumed is not None:
        result["shareID"] = _share_id(claim, name, number)
        result["consumedCapacity"] = {key: _amount(nano) for key, nano in one.consumed.items()}
    return result


def _share_id(claim: Obj, device: str, number: int) -> str:
    """Returns a UUID that is the same for the same share."""
    text = f"{uid_of(claim)}/{metadata(claim).get('resourceVersion')}/{device}/{number}"
    digest = hashlib.sha256(text.encode()).hexdigest()
    return f"{digest[:8]}-{digest[8:12]}-4{digest[13:16]}-a{digest[17:20]}-{digest[20:32]}"


def _amount(nano: int) -> str:
    whole, rest = divmod(nano, 10**9)
    if rest:
        return f"{nano // 10**6}m"
    for power, suffix in ((4, "Ti"), (3, "Gi"), (2, "Mi"), (1, "Ki")):
        if whole and whole % 1024**power == 0:
            return f"{whole // 1024**power}{suffix}"
    return str(whole)


def _config(claim: Obj, own: Sequence[Chosen], state: Devices) -> list[Obj]:
    found: list[Obj] = []
    seen: set[str] = set()
    for one in own:
        if one.wanted.request in seen:
            continue
        seen.add(one.wanted.request)
        device_class = state.classes.get(one.wanted.class_name) or {"spec": {}}
        given = device_class["spec"].get("config") or ()
        found += [{"source": "FromClass", "requests": [one.wanted.request], **config} for config in given]
    for config in (claim["spec"].get("devices") or {}).get("config") or ():
        named = config.get("requests") or []
        if not named or any(one.wanted.request in named or one.wanted.parent in named for one in own):
            found.append({"source": "FromClaim", **config})
    return found


def _node_selector(own: Sequence[Chosen], node: str) -> Obj | None:
    if any(one.device.node for one in own):
        field_term = {"key": "metadata.name", "operator": "In", "values": [node]}
        return {"nodeSelectorTerms": [{"matchFields": [field_term]}]}
    merged: Obj = {}
    for one in own:
        for term in (one.device.selector or {}).get("nodeSelectorTerms") or ():
            for key in ("matchExpressions", "matchFields"):
                for requirement in term.get(key) or ():
                    if requirement not in merged.setdefault(key, []):
                        merged[key].append(requirement)
    return {"nodeSelectorTerms": [merged]} if merged else None
