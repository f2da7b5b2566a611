"""The rules of an aggregated cluster role (pure): those of all roles that its selectors match, each once, by name."""

from __future__ import annotations

from collections.abc import Iterable

from proa.meta.objects import Obj, labels_of, name_of
from proa.meta.selectors import from_object


def rules(role: Obj, roles: Iterable[Obj]) -> list[Obj] | None:
    """Returns the rules that the role should have, None if it is not an aggregated one."""
    aggregation = role.get("aggregationRule")
    if not aggregation:
        return None
    found: list[Obj] = []
    ordered = sorted((one for one in roles if name_of(one) != name_of(role)), key=name_of)
    for listed in aggregation.get("clusterRoleSelectors") or ():
        selector = from_object(listed)
        for one in ordered:
            if selector.matches(labels_of(one)):
                found += [rule for rule in one.get("rules") or () if rule not in found]
    return found
