"""May a pod run on a node (pure): node selector, required node affinity and taints, for controllers that must know.

The scheduler decides for itself; DaemonSets need the same answer beforehand.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from proa.controllers.tolerations import tolerates
from proa.meta.objects import Obj, labels_of, name_of


def fits_selector(pod: Obj, node: Obj) -> bool:
    """Tells whether node selector and required node affinity admit the node."""
    spec = pod.get("spec") or {}
    labels = labels_of(node)
    if not (spec.get("nodeSelector") or {}).items() <= labels.items():
        return False
    affinity = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    if required is None:
        return True
    return any(_fits_term(term, labels, name_of(node)) for term in required.get("nodeSelectorTerms") or ())


def _fits_term(term: Obj, labels: Mapping[str, str], name: str) -> bool:
    expressions, fields = term.get("matchExpressions") or (), term.get("matchFields") or ()
    if not expressions and not fields:
        return False
    by_label = all(_fits(one, labels.get(one["key"])) for one in expressions)
    return by_label and all(one["key"] == "metadata.name" and _fits(one, name) for one in fields)


def _fits(requirement: Obj, value: str | None) -> bool:
    operator, values = requirement.get("operator"), list(requirement.get("values") or [])
    if operator == "In":
        return value is not None and value in values
    if operator == "NotIn":
        return value is None or value not in values
    if operator == "Exists":
        return value is not None
    if operator == "DoesNotExist":
        return value is None
    if operator in ("Gt", "Lt") and value is not None and len(values) == 1:
        try:
            return int(value) > int(values[0]) if operator == "Gt" else int(value) < int(values[0])
        except ValueError:
            return False
    return False


def untolerated(tolerations: Sequence[Obj], taints: Iterable[Obj], effects: Sequence[str]) -> bool:
    """Tells whether a taint with one of these effects is tolerated by none."""
    return any(
        taint.get("effect") in effects and not any(tolerates(one, taint) for one in tolerations) for taint in taints
    )
