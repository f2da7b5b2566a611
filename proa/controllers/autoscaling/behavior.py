"""How fast an autoscaler may change (pure): stabilization windows and policies of `spec.behavior`, as upstream's."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from proa.meta.objects import Obj

_DOWN_WINDOW_SECONDS = 300
_UP_POLICIES: Sequence[Obj] = (
    {"type": "Pods", "value": 4, "periodSeconds": 15},
    {"type": "Percent", "value": 100, "periodSeconds": 15},
)
_DOWN_POLICIES: Sequence[Obj] = ({"type": "Percent", "value": 100, "periodSeconds": 15},)


@dataclass(slots=True)
class Memory:
    """What an autoscaler did and thought lately: (monotonic seconds, replicas) of recommendations, and of changes."""

    recommendations: list[tuple[float, int]] = field(default_factory=list)
    changes: list[tuple[float, int]] = field(default_factory=list)  # by how much, negative when smaller


@dataclass(frozen=True, slots=True)
class Decision:
    """`replicas` to have now; `stabilized` names the condition's reason if a window held it back; `limited` why the
    wish was cut (empty: it was not)."""

    replicas: int
    stabilized: str = ""
    limited: str = ""
    message: str = ""


def begin(memory: Memory, current: int, now: float) -> None:
    """Takes the size that an autoscaler finds for its first recommendation, so that it does not shrink in a rush."""
    if not memory.recommendations:
        memory.recommendations.append((now, current))


def decide(spec: Obj, current: int, wish: int, memory: Memory, now: float) -> Decision:
    """Returns how many replicas to have; notes the wish in `memory`."""
    if spec.get("behavior") is None:
        return _decide_plainly(spec, current, wish, memory, now)
    behavior = spec["behavior"]
    up, down = behavior.get("scaleUp") or {}, behavior.get("scaleDown") or {}
    low = 1 if spec.get("minReplicas") is None else int(spec["minReplicas"])
    high = int(spec["maxReplicas"])
    wanted, stabilized = _stabilize(up, down, current, wish, memory, now)
    if wanted > current:
        most = _limit_up(up, current, memory, now)
        if wanted > min(most, high):
            return _cut_up(most, high, stabilized)
    elif wanted < current:
        least = _limit_down(down, current, memory, now)
        if wanted < max(least, low):
            return _cut_down(least, low, stabilized)
    if wanted < low:
        return _cut_down(low, low, stabilized)
    if wanted > high:
        return _cut_up(high, high, stabilized)
    return Decision(wanted, stabilized)


def _decide_plainly(spec: Obj, current: int, wish: int, memory: Memory, now: float) -> Decision:
    """Without a behavior: shrinks after a window, at most doubles at once (or grows to four)."""
    low = 1 if spec.get("minReplicas") is None else int(spec["minReplicas"])
    high = int(spec["maxReplicas"])
    recent = [one for one in memory.recommendations if one[0] > now - _DOWN_WINDOW_SECONDS]
    wanted = max([wish, *(count for _, count in recent)])
    memory.recommendations = [*recent, (now, wish)]
    stabilized = "ScaleDownStabilized" if wanted != wish else ""
    if wanted < low:
        return _cut_down(low, low, stabilized)
    most = max(2 * current, 4)
    if wanted > min(most, high):
        return _cut_up(most, high, stabilized)
    return Decision(wanted, stabilized)


def _cut_up(most: int, high: int, stabilized: str) -> Decision:
    if most < high:
        text = "the desired replica count is increasing faster than the maximum scale rate"
        return Decision(most, stabilized, "ScaleUpLimit", text)
    text = "the desired replica count is more than the maximum replica count"
    return Decision(high, stabilized, "TooManyReplicas", text)


def _cut_down(least: int, low: int, stabilized: str) -> Decision:
    if least > low:
        text = "the desired replica count is decreasing faster than the maximum scale rate"
        return Decision(least, stabilized, "ScaleDownLimit", text)
    text = "the desired replica count is less than the minimum replica count"
    return Decision(low, stabilized, "TooFewReplicas", text)


def _window(rules: Obj, default: int) -> int:
    value = rules.get("stabilizationWindowSeconds")
    return default if value is None else int(value)


def _stabilize(up: Obj, down: Obj, current: int, wish: int, memory: Memory, now: float) -> tuple[int, str]:
    """Returns the calmest recent recommendation between the lowest for growing and the highest for shrinking."""
    up_seconds, down_seconds = _window(up, 0), _window(down, _DOWN_WINDOW_SECONDS)
    oldest = now - max(up_seconds, down_seconds)
    memory.recommendations = [one for one in memory.recommendations if one[0] > oldest]
    floor = min([wish, *(count for at, count in memory.recommendations if at > now - up_seconds)])
    ceiling = max([wish, *(count for at, count in memory.recommendations if at > now - down_seconds)])
    memory.recommendations.append((now, wish))
    settled = min(max(current, floor), ceiling)
    if settled == wish:
        return settled, ""
    return settled, "ScaleUpStabilized" if wish >= current else "ScaleDownStabilized"


def _net(memory: Memory, since: float) -> int:
    return sum(change for at, change in memory.changes if at > since)


def _limit_up(rules: Obj, current: int, memory: Memory, now: float) -> int:
    select = rules.get("selectPolicy") or "Max"
    if select == "Disabled":
        return current
    limits = []
    for policy in rules.get("policies") or _UP_POLICIES:
        since = now - policy["periodSeconds"]
        start = current - _net(memory, since)
        grown = start + policy["value"] if policy["type"] == "Pods" else start * (1 + policy["value"] / 100)
        limits.append(math.ceil(float(grown)))
    return max(current, max(limits) if select == "Max" else min(limits))


def _limit_down(rules: Obj, current: int, memory: Memory, now: float) -> int:
    select = rules.get("selectPolicy") or "Max"
    if select == "Disabled":
        return current
    limits = []
    for policy in rules.get("policies") or _DOWN_POLICIES:
        since = now - policy["periodSeconds"]
        start = current - _net(memory, since)
        if policy["type"] == "Pods":
            limits.append(start - int(policy["value"]))
        else:
            limits.append(int(start * (1 - policy["value"] / 100)))
    return min(current, min(limits) if select == "Max" else max(limits))


def note_change(spec: Obj, memory: Memory, before: int, after: int, now: float) -> None:
    """Remembers a change for as long as a policy looks back."""
    behavior = spec.get("behavior")
    if behavior is None:
        return
    listed = [
        *((behavior.get("scaleUp") or {}).get("policies") or _UP_POLICIES),
        *((behavior.get("scaleDown") or {}).get("policies") or _DOWN_POLICIES),
    ]
    longest = max(policy["periodSeconds"] for policy in listed)
    memory.changes = [one for one in memory.changes if one[0] >= now - longest]
    memory.changes.append((now, after - before))
