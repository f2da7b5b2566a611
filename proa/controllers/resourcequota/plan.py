"""What a quota's status should say (pure): the limits of its spec, and what the namespace's objects use of them."""

from __future__ import annotations

from collections.abc import Iterable

from proa.apis.quota import count_name, counts_devices, covers, usage_of
from proa.meta.objects import Obj
from proa.meta.quantity import ZERO, Quantity, add_maps, parse_map

# Resources whose objects count under other names than count/…
_EVALUATED = {
    "pods": ("pods", "cpu", "memory", "requests.", "limits.", "ephemeral-storage", "hugepages-"),
    "services": ("services",),
    "persistentvolumeclaims": ("persistentvolumeclaims", "requests.storage", ".storageclass.storage.k8s.io/"),
}
_PLAIN = ("configmaps", "secrets", "replicationcontrollers", "resourcequotas")


def concerns(hard: Iterable[str], group: str, plural: str) -> bool:
    """Tells whether objects of a resource can count for any of these names."""
    names = tuple(hard)
    if count_name(group, plural) in names:
        return True
    if group:
        return (group, plural) == ("resource.k8s.io", "resourceclaims") and any(map(counts_devices, names))
    if plural in _PLAIN:
        return plural in names
    parts = _EVALUATED.get(plural, ())
    return any(part in name for name in names for part in parts)


def status(quota: Obj, objects: Iterable[tuple[str, str, Obj]]) -> Obj | None:
    """`objects`: (group, plural, object) of the quota's namespace. Returns the status to write, None if it is right."""
    hard = (quota.get("spec") or {}).get("hard") or {}
    used: dict[str, Quantity] = {}
    for group, plural, obj in objects:
        if covers(quota, group, plural, obj):
            used = add_maps(used, usage_of(group, plural, obj))
    shown = {name: used.get(name, ZERO) for name in hard}
    old = quota.get("status") or {}
    if old.get("hard") == hard and _nanos(parse_map(old.get("used"))) == _nanos(shown):
        return None
    return {"hard": hard, "used": {name: str(quantity) for name, quantity in shown.items()}}


def _nanos(quantities: dict[str, Quantity]) -> dict[str, int]:
    return {name: quantity.nano for name, quantity in quantities.items()}
