"""Zone hints of services with `service.kubernetes.io/topology-mode: Auto` (pure). Follows topology aware routing
(enhancement 2433): each zone gets endpoints in proportion to the CPU of its nodes, its own ones first.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from proa.controllers.conditions import is_true
from proa.meta.objects import Obj, annotations_of, labels_of
from proa.meta.quantity import parse

ENABLED = "Topology Aware Hints has been enabled"
DISABLED = "Topology Aware Hints has been disabled"
_OVERLOAD_MAX = 0.2  # how much more than its share an endpoint may get
_MODES = ("service.kubernetes.io/topology-mode", "service.kubernetes.io/topology-aware-hints")
_ZONE = "topology.kubernetes.io/zone"
_EXCLUDED = ("node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master")
_UNKNOWN_NODES = "Insufficient Node information: allocatable CPU or zone not specified on one or more nodes"


@dataclass(frozen=True, slots=True)
class Hints:
    """`zones`: of each endpoint, empty for none. If it could not be told, why not."""

    zones: Sequence[str]
    refused: str = ""


def is_wanted(service: Obj) -> bool:
    annotations = annotations_of(service)
    mode = next((annotations[name] for name in _MODES if name in annotations), "")
    return mode in ("Auto", "auto")


def node_facts(node: Obj) -> tuple[object, ...]:
    """Returns what shares depend on."""
    status = node.get("status") or {}
    labels = labels_of(node)
    excluded = any(name in labels for name in _EXCLUDED)
    ready = is_true(status.get("conditions"), "Ready")
    return labels.get(_ZONE), excluded, ready, (status.get("allocatable") or {}).get("cpu")


def shares(nodes: Iterable[Obj]) -> dict[str, float]:
    """Returns each zone's share of the CPU of ready nodes; empty if a node does not say what it has, or where it is."""
    totals: dict[str, int] = {}
    for node in nodes:
        zone, excluded, ready, cpu = node_facts(node)
        if excluded or not ready:
            continue
        milli = parse(cpu).milli_value
        if not zone or not milli:
            return {}
        totals[str(zone)] = totals.get(str(zone), 0) + milli
    total = sum(totals.values())
    return {zone: milli / total for zone, milli in totals.items()}


def assign(zones: Sequence[str | None], ready: Sequence[bool], share: Mapping[str, float]) -> Hints:
    """`zones`: where each endpoint is, in a stable order; those that are not ready get no hint."""
    nothing = [""] * len(zones)
    count = sum(ready)
    desired, refused = _desired(count, share)
    if refused:
        return Hints(nothing, refused)
    if any(one and not zone for zone, one in zip(zones, ready, strict=True)):
        return Hints(nothing, "One or more endpoints do not have a zone specified")
    hints = [zone or "" if one else "" for zone, one in zip(zones, ready, strict=True)]
    actual = {zone: hints.count(zone) for zone in {*desired, *filter(None, hints)}}
    while True:
        giving = max(actual, key=lambda zone: (actual[zone] - desired.get(zone, 0.0), zone))
        receiving = min(actual, key=lambda zone: (actual[zone] - desired.get(zone, 0.0), zone))
        surplus, lack = actual[giving] - desired.get(giving, 0.0), desired.get(receiving, 0.0) - actual[receiving]
        # A zone without any endpoint is given one in any case; else as long as it brings both nearer to their shares.
        if not (lack > 0 and (actual[receiving] == 0 or surplus + lack > 1)):
            return Hints(hints)
        hints[len(hints) - 1 - hints[::-1].index(giving)] = receiving
        actual[giving] -= 1
        actual[receiving] += 1


def _desired(count: int, share: Mapping[str, float]) -> tuple[dict[str, float], str]:
    """Returns how many endpoints each zone should have, or why that cannot be."""
    if not share:
        return {}, _UNKNOWN_NODES
    if len(share) < 2:
        return {}, "Nodes only ready in one zone"
    where = f"({count} endpoints, {len(share)} zones)"
    if len(share) > count:
        return {}, f"Insufficient number of endpoints {where}"
    least = {zone: math.ceil(part * count / (1 + _OVERLOAD_MAX)) for zone, part in share.items()}
    if sum(least.values()) > count:
        text = "Unable to allocate minimum required endpoints to each zone without exceeding overload threshold"
        return {}, f"{text} {where}"
    return {zone: max(part * count, float(least[zone])) for zone, part in share.items()}, ""
