"""May a service range go (pure)? Not while an address in use lies in no other range. Follows KEP-1880."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from datetime import datetime

from proa.controllers.conditions import condition, find, without_condition
from proa.meta.objects import Obj, is_deleted, metadata, name_of

FINALIZER = "networking.k8s.io/service-cidr-finalizer"
_IN_USE = (
    "There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new ServiceCIDR "
    "that contains them"
)


def ranges(service_cidr: Obj) -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    return [ipaddress.ip_network(one, strict=False) for one in service_cidr["spec"].get("cidrs") or ()]


def must_stay(service_cidr: Obj, all_cidrs: Sequence[Obj], addresses: Iterable[Obj]) -> bool:
    """Tells whether an address in use lies in this range and in no other that remains."""
    own = ranges(service_cidr)
    others = [
        one
        for other in all_cidrs
        if name_of(other) != name_of(service_cidr) and not is_deleted(other)
        for one in ranges(other)
    ]
    for obj in addresses:
        address = ipaddress.ip_address(name_of(obj))
        if any(address in one for one in own) and not any(address in one for one in others):
            return True
    return False


def status(service_cidr: Obj, ready: bool, now: datetime) -> Obj | None:
    """Returns the status to write, None if it is right."""
    if ready:
        made = condition("Ready", "True", "", "Kubernetes Service CIDR is ready", now)
        made["reason"] = ""
    else:
        made = condition("Ready", "False", "Terminating", _IN_USE, now)
    old = service_cidr.get("status") or {}
    current = find(old.get("conditions"), "Ready")
    if current is not None and current.get("status") == made["status"]:
        made["lastTransitionTime"] = current.get("lastTransitionTime")
    listed = [*without_condition(old.get("conditions"), "Ready"), made]
    return None if listed == old.get("conditions") else {**old, "conditions": listed}


def finalizers(service_cidr: Obj, keep: bool) -> list[str] | None:
    """Returns the finalizers as they should be, None if they are."""
    held = metadata(service_cidr).get("finalizers") or []
    if keep == (FINALIZER in held):
        return None
    return [*held, FINALIZER] if keep else [one for one in held if one != FINALIZER]
