"""Consumable capacity: how much of a shared device a request takes, by the device's request policy. Pure.

Amounts are nano-units, so that all quantities are integers.
"""

from __future__ import annotations

from collections.abc import Mapping

from proa.meta.objects import Obj
from proa.meta.quantity import parse


def _nano(text: object) -> int:
    return parse(str(text)).nano


def consumed(device: Obj, requested: Mapping[str, str]) -> dict[str, int] | None:
    """Returns what a request takes of each capacity; None if the policy does not admit it."""
    amounts: dict[str, int] = {}
    capacities = device.get("capacity") or {}
    if any(name not in capacities for name in requested):
        return None
    for name, capacity in capacities.items():
        policy = capacity.get("requestPolicy")
        wanted = _nano(requested[name]) if name in requested else None
        if policy is None:
            # Without a policy, what is not asked for is taken as a whole.
            amounts[name] = wanted if wanted is not None else _nano(capacity["value"])
            continue
        if wanted is None:
            wanted = _nano(policy["default"]) if policy.get("default") is not None else _nano(capacity["value"])
        fitted = _by_policy(policy, wanted)
        if fitted is None:
            return None
        amounts[name] = fitted
    return amounts


def _by_policy(policy: Obj, wanted: int) -> int | None:
    valid = policy.get("validValues")
    if valid:
        return min((one for one in map(_nano, valid) if one >= wanted), default=None)
    limits = policy.get("validRange")
    if limits is None:
        return wanted
    least = _nano(limits["min"])
    fitted = max(wanted, least)
    if limits.get("step") is not None:
        step = _nano(limits["step"])
        fitted = least + -(-(fitted - least) // step) * step
    if limits.get("max") is not None and fitted > _nano(limits["max"]):
        return None
    return fitted


def room_for(device: Obj, used: Mapping[str, int], amounts: Mapping[str, int]) -> bool:
    """Tells whether a device has that much left of each capacity."""
    capacities = device.get("capacity") or {}
    return all(
        name in capacities and used.get(name, 0) + amount <= _nano(capacities[name]["value"])
        for name, amount in amounts.items()
    )
