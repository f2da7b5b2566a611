"""How long a pod may stay on a tainted node (pure). Follows upstream's taint eviction."""

from __future__ import annotations

from collections.abc import Sequence

from proa.controllers.tolerations import tolerates
from proa.meta.objects import Obj


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
