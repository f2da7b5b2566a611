"""How long a pod may stay on a tainted node (pure). Follows upstream's taint eviction."""

from __future__ import annotations

from collections.abc import Sequence

from proa.meta.objects import Obj


def tolerates(toleration: Obj, taint: Obj) -> bool:
    """Tells whether a toleration covers a taint, whatever its duration."""
    if toleration.get("effect") and toleration["effect"] != taint.get("effect"):
        return False
    key = toleration.get("key") or ""
    operator = toleration.get("operator") or "Equal"
    if key and key != taint["key"]:
        return False
    have, want = taint.get("value") or "", toleration.get("value") or ""
    if operator == "Exists":
        return True
    if operator in ("Lt", "Gt"):
        return _is_number(have) and _is_number(want) and (int(have) < int(want)) == (operator == "Lt") and have != want
    return bool(key) and have == want


def _is_number(text: str) -> bool:
    return text.lstrip("-").isdecimal()


def seconds_to_stay(pod: Obj, taints: Sequence[Obj]) -> float | None:
    """Returns how long the pod tolerates all NoExecute taints: 0 not at all, None for ever."""
    tolerations = (pod.get("spec") or {}).get("tolerations") or ()
    shortest: float | None = None
    for taint in taints:
        if taint.get("effect") != "NoExecute":
            continue
        used = [one for one in tolerations if tolerates(one, taint)]
        if not used:
            return 0.0
        # One toleration without an end is enough for its taint, as upstream reads them: the shortest end counts.
        ends = [max(0.0, float(one["tolerationSeconds"])) for one in used if one.get("tolerationSeconds") is not None]
        for end in ends:
            shortest = end if shortest is None else min(shortest, end)
    return shortest
