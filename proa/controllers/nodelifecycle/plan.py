"""What a node's reports, or their absence, mean (pure): conditions, taints, zones. As upstream's node lifecycle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from proa.controllers.conditions import find
from proa.meta.objects import Obj, labels_of, metadata
from proa.util.clock import rfc3339

NOT_READY = "node.kubernetes.io/not-ready"
UNREACHABLE = "node.kubernetes.io/unreachable"
UNSCHEDULABLE = "node.kubernetes.io/unschedulable"
REPORTED = ("Ready", "MemoryPressure", "DiskPressure", "PIDPressure")

# (condition, its status) -> the taint that keeps new pods away
_TAINT_BY_CONDITION: Mapping[tuple[str, str], str] = {
    ("Ready", "False"): NOT_READY,
    ("Ready", "Unknown"): UNREACHABLE,
    ("MemoryPressure", "True"): "node.kubernetes.io/memory-pressure",
    ("DiskPressure", "True"): "node.kubernetes.io/disk-pressure",
    ("PIDPressure", "True"): "node.kubernetes.io/pid-pressure",
    ("NetworkUnavailable", "True"): "node.kubernetes.io/network-unavailable",
}
_NO_SCHEDULE_KEYS = frozenset({*_TAINT_BY_CONDITION.values(), UNSCHEDULABLE})


def conditions(node: Obj) -> Sequence[Obj]:
    return (node.get("status") or {}).get("conditions") or ()


def ready_status(node: Obj) -> str:
    """Returns True, False or Unknown; Unknown for a node that has never reported."""
    found = find(conditions(node), "Ready")
    return (found or {}).get("status") or "Unknown"


def silenced(node: Obj, now: datetime) -> list[Obj] | None:
    """Returns the conditions of a node that has stopped reporting, None if they say so already."""
    result = list(conditions(node))
    stamp = rfc3339(now)
    for type in REPORTED:
        old = find(result, type)
        if old is None:
            result.append(
                {
                    "type": type,
                    "status": "Unknown",
                    "reason": "NodeStatusNeverUpdated",
                    "message": "Kubelet never posted node status.",
                    "lastHeartbeatTime": metadata(node).get("creationTimestamp"),
                    "lastTransitionTime": stamp,
                }
            )
        elif old.get("status") != "Unknown":
            result[result.index(old)] = {
                **old,
                "status": "Unknown",
                "reason": "NodeStatusUnknown",
                "message": "Kubelet stopped posting node status.",
                "lastTransitionTime": stamp,
            }
    return None if result == list(conditions(node)) else result


def taints(node: Obj, now: datetime, *, evict: bool, spare: bool = False) -> list[Obj] | None:
    """Returns the node's taints as they should be, None if they are.

    `evict`: put (or keep) the NoExecute taint of a node that is not ready; without it an existing one goes only when
    the node is ready again or the other one takes its place. `spare`: it goes in any case.
    """
    old = (node.get("spec") or {}).get("taints") or []
    wanted = {_TAINT_BY_CONDITION.get((one.get("type") or "", one.get("status") or "")) for one in conditions(node)}
    if (node.get("spec") or {}).get("unschedulable"):
        wanted.add(UNSCHEDULABLE)
    keep_away = {key for key in wanted if key}
    kept = [
        one
        for one in old
        if not (one.get("effect") == "NoSchedule" and one["key"] in _NO_SCHEDULE_KEYS and one["key"] not in keep_away)
    ]
    present = {one["key"] for one in kept if one.get("effect") == "NoSchedule"}
    kept += [{"key": key, "effect": "NoSchedule"} for key in sorted(keep_away - present)]
    kept = _with_eviction(node, kept, now, evict and not spare, spare)
    return None if kept == old else kept


def _with_eviction(node: Obj, listed: list[Obj], now: datetime, evict: bool, spare: bool) -> list[Obj]:
    status = ready_status(node)
    key = None if spare else {"False": NOT_READY, "Unknown": UNREACHABLE}.get(status)
    held = [one["key"] for one in listed if one.get("effect") == "NoExecute" and one["key"] in (NOT_READY, UNREACHABLE)]
    if key is not None and held == [key]:
        return listed
    others = [one for one in listed if not (one.get("effect") == "NoExecute" and one["key"] in held)]
    if key is not None and (evict or held):
        others.append({"key": key, "effect": "NoExecute", "timeAdded": rfc3339(now)})
    return others


def evicting(node: Obj) -> bool:
    """Tells whether the node has the NoExecute taint that its state asks for."""
    key = {"False": NOT_READY, "Unknown": UNREACHABLE}.get(ready_status(node))
    return any(
        one["key"] == key and one.get("effect") == "NoExecute" for one in (node.get("spec") or {}).get("taints") or ()
    )


# ---------------------------------------------------------------- zones


class Disruption(Enum):
    """How much of a zone is lost: nothing special, more than half, all of it."""

    NORMAL = "Normal"
    PARTIAL = "PartialDisruption"
    FULL = "FullDisruption"


@dataclass(frozen=True, slots=True)
class Zone:
    disruption: Disruption
    size: int


def zone_of(node: Obj) -> str:
    labels = labels_of(node)
    return f"{labels.get('topology.kubernetes.io/region', '')}:{labels.get('topology.kubernetes.io/zone', '')}"


def judged(ready: int, lost: int, unhealthy_share: float) -> Zone:
    """Returns what a zone of so many nodes, ready and not, is to be called."""
    if not ready and lost:
        state = Disruption.FULL
    elif lost > 2 and lost / (ready + lost) >= unhealthy_share:
        state = Disruption.PARTIAL
    else:
        state = Disruption.NORMAL
    return Zone(state, ready + lost)


class Census:
    """Nodes by zone, counted as they change: nobody looks at thousands of nodes because one has fallen silent."""

    def __init__(self, unhealthy_share: float = 0.55) -> None:
        self._unhealthy_share = unhealthy_share
        self._counts: dict[str, list[int]] = {}  # zone -> nodes that are ready, and that are not

    def move(self, old: Obj | None, new: Obj | None) -> None:
        """Takes a node from where it was counted to where it belongs now; None: it was, or is, nowhere."""
        for node, step in ((old, -1), (new, 1)):
            if node is None:
                continue
            count = self._counts.setdefault(zone_of(node), [0, 0])
            count[0 if ready_status(node) == "True" else 1] += step
            if count == [0, 0]:
                del self._counts[zone_of(node)]

    def zone(self, name: str) -> Zone:
        ready, lost = self._counts.get(name, (0, 0))
        return judged(ready, lost, self._unhealthy_share)

    def all_lost(self) -> bool:
        """Tells whether there are nodes and none of them is ready."""
        return bool(self._counts) and not any(ready for ready, _ in self._counts.values())


@dataclass(frozen=True, slots=True)
class Rates:
    """How many nodes per second may be given up: `usual`, and `secondary` in a zone of more than `large` nodes that is
    partly lost."""

    usual: float = 0.1
    secondary: float = 0.01
    large: int = 50


def evictions_per_second(zone: Zone, all_lost: bool, rates: Rates) -> float:
    """Returns how fast nodes of a zone may be tainted for eviction: slower when much is lost, not at all when all is.

    When every zone is lost it is rather the control plane that is cut off.
    """
    if all_lost:
        return 0.0
    if zone.disruption is Disruption.PARTIAL:
        return rates.secondary if zone.size > rates.large else 0.0
    return rates.usual
