"""The rules of a ClusterRole that is put together from others by its aggregationRule."""

from __future__ import annotations

from collections.abc import Iterable

from proa.apis.shape import children
from proa.meta.objects import Obj, labels_of, name_of
from proa.meta.selectors import from_object


def aggregated_rules(role: Obj, every_role: Iterable[Obj]) -> list[Obj]:
    """Returns the rules of all roles that the selectors match: by name, without doubles, the role itself left out."""
    selectors = [from_object(one) for one in children(role.get("aggregationRule"), "clusterRoleSelectors")]
    others = sorted((one for one in every_role if name_of(one) != name_of(role)), key=name_of)
    rules: list[Obj] = []
    for selector in selectors:
        for other in others:
            if selector.matches(labels_of(other)):
                rules += [rule for rule in other.get("rules") or () if rule not in rules]
    return rules
