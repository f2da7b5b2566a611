"""What the scheduler writes to resource claims: allocations, reservations, and taking them back. Pure."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any

from proa.apis.resource.resource_claim import FINALIZER
from proa.client.resources import RESOURCECLAIMS
from proa.meta.objects import Obj, is_deleted, metadata, name_of, namespace_of
from proa.scheduler.columns import Columns
from proa.scheduler.pod import PodInfo
from proa.scheduler.steps import Change, Refused, Step

TIMESTAMP = ("status", "allocation", "allocationTimestamp")


@dataclass(slots=True)
class Reserved:
    """What was reserved for a pod: allocations by the uids of claims, and what has been written of that."""

    allocations: dict[str, Obj]
    extended: Obj | None = None
    mappings: list[Obj] = field(default_factory=list)
    written: list[Obj] = field(default_factory=list)
    created: Obj | None = None


def reserved_for(claim: Obj) -> list[Obj]:
    return (claim.get("status") or {}).get("reservedFor") or []


def is_reserved_for(claim: Obj, uid: str) -> bool:
    return any(one.get("uid") == uid for one in reserved_for(claim))


def allocation_of(claim: Obj) -> Obj | None:
    return (claim.get("status") or {}).get("allocation")


def protected(claim: Obj) -> Obj | None:
    if is_deleted(claim):
        raise Refused(f"claim {namespace_of(claim)}/{name_of(claim)} got deleted in the meantime")
    finalizers = metadata(claim).get("finalizers") or []
    if FINALIZER in finalizers:
        return None
    return {**claim, "metadata": {**metadata(claim), "finalizers": [*finalizers, FINALIZER]}}


def reserve_for(pod: PodInfo, allocation: Obj | None) -> Callable[[Obj], Obj | None]:
    def change(claim: Obj) -> Obj | None:
        if is_deleted(claim):
            raise Refused(f"claim {namespace_of(claim)}/{name_of(claim)} got deleted in the meantime")
        status = claim.get("status") or {}
        if allocation is not None and status.get("allocation") is not None:
            raise Refused(f"claim {namespace_of(claim)}/{name_of(claim)} got allocated elsewhere in the meantime")
        if allocation is None and is_reserved_for(claim, pod.uid):
            return None
        user = {"resource": "pods", "name": name_of(pod.obj), "uid": pod.uid}
        new = {**status, "reservedFor": [*reserved_for(claim), user]}
        if allocation is not None:
            new["allocation"] = allocation
        return {**claim, "status": new}

    return change


def deallocated(pod: PodInfo) -> Callable[[Obj], Obj | None]:
    def change(claim: Obj) -> Obj | None:
        if allocation_of(claim) is None or any(one.get("uid") != pod.uid for one in reserved_for(claim)):
            return None
        gone = ("allocation", "reservedFor", "devices")
        status = {key: value for key, value in claim["status"].items() if key not in gone}
        return {**claim, "status": status}

    return change


def write(pod: PodInfo, claim: Obj, allocation: Obj | None, reserved: Reserved) -> Generator[Step, Any, None]:
    """Writes the allocation of a claim, if it has none yet, and that it is reserved for the pod."""
    where = (RESOURCECLAIMS, namespace_of(claim), name_of(claim))
    if allocation is not None:
        yield Change(*where, protected)
    written = yield Change(*where, reserve_for(pod, allocation), "status", now_at=TIMESTAMP)
    reserved.written.append(written or claim)


def sends(body: Obj) -> Callable[[Obj], Obj | None]:
    return lambda _: body


def has_conditions(allocation: Obj) -> bool:
    return any(one.get("bindingConditions") for one in allocation["devices"]["results"])


def left(pod: PodInfo) -> Callable[[Obj], Obj | None]:
    """Takes a pod out of those that a claim is reserved for."""

    def change(claim: Obj) -> Obj | None:
        if not is_reserved_for(claim, pod.uid):
            return None
        kept = [one for one in reserved_for(claim) if one.get("uid") != pod.uid]
        status = {key: value for key, value in claim["status"].items() if key != "reservedFor"}
        return {**claim, "status": {**status, "reservedFor": kept} if kept else status}

    return change


def deletion(claim: Obj) -> list[Change]:
    """Returns what removes a claim that only the scheduler uses."""

    def released(current: Obj) -> Obj | None:
        finalizers = metadata(current).get("finalizers") or []
        if FINALIZER not in finalizers:
            return None
        kept = [one for one in finalizers if one != FINALIZER]
        return {**current, "metadata": {**metadata(current), "finalizers": kept}}

    where = (RESOURCECLAIMS, namespace_of(claim), name_of(claim))
    return [Change(*where, released), Change(*where, sends({}), verb="delete")]


def _said_of(claim: Obj) -> dict[tuple[Any, ...], dict[str, Obj]]:
    """Returns the conditions that are true of each device, by type."""
    return {
        (one.get("driver"), one.get("pool"), one.get("device")): {
            condition["type"]: condition
            for condition in one.get("conditions") or ()
            if condition.get("status") == "True"
        }
        for one in (claim.get("status") or {}).get("devices") or ()
    }


def binding_failure(claim: Obj, allocation: Obj) -> str:
    """Returns why the devices of a claim will not become ready, or nothing."""
    said = _said_of(claim)
    for result in (allocation.get("devices") or {}).get("results") or ():
        if not result.get("bindingConditions"):
            continue
        true = said.get((result["driver"], result["pool"], result["device"]), {})
        for kind in result.get("bindingFailureConditions") or ():
            if kind in true:
                reason, message = true[kind].get("reason") or "", true[kind].get("message") or ""
                return f'claim {name_of(claim)} binding failed: reason={reason}, message="{message}"'
    return ""


def conditions_met(columns: Columns, key: str, allocation: Obj) -> Callable[[], bool]:
    """Tells whether the devices of an allocation have all their binding conditions."""

    def done() -> bool:
        claim = columns.devices.claim(key)
        if claim is None or is_deleted(claim):
            raise Refused(f"claim {key} got deleted in the meantime")
        failure = binding_failure(claim, allocation)
        if failure:
            raise Refused(failure)
        said = _said_of(claim)
        return all(
            said.get((one["driver"], one["pool"], one["device"]), {}).keys() >= set(one.get("bindingConditions") or ())
            for one in allocation["devices"]["results"]
        )

    return done
