"""What RBAC rules allow, and whether some rules cover others. Pure.

Follows upstream's `rbac/v1` evaluation helpers and `rbac/validation` (PolicyRule cover) by behaviour.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from proa.meta.objects import Obj


@dataclass(frozen=True, slots=True)
class Rule:
    """One PolicyRule, ready for questions."""

    verbs: frozenset[str]
    groups: frozenset[str]
    resources: frozenset[str]
    names: frozenset[str]
    urls: frozenset[str]

    @classmethod
    def of(cls, rule: Obj) -> Rule:
        return cls(*(frozenset(rule.get(key) or ()) for key in _KEYS))

    def allows(self, verb: str, group: str, resource: str, subresource: str, name: str) -> bool:
        """Whether the rule lets someone do this to a resource."""
        return (
            (verb in self.verbs or "*" in self.verbs)
            and (group in self.groups or "*" in self.groups)
            and self._allows_resource(resource, subresource)
            and (not self.names or name in self.names)
        )

    def _allows_resource(self, resource: str, subresource: str) -> bool:
        if "*" in self.resources:
            return True
        if not subresource:
            return resource in self.resources
        return f"{resource}/{subresource}" in self.resources or f"*/{subresource}" in self.resources

    def allows_url(self, verb: str, path: str) -> bool:
        """Whether the rule lets someone do this to a path; a trailing * in a URL stands for anything."""
        if verb not in self.verbs and "*" not in self.verbs:
            return False
        return any(url in ("*", path) or (url.endswith("*") and path.startswith(url.rstrip("*"))) for url in self.urls)


_KEYS = ("verbs", "apiGroups", "resources", "resourceNames", "nonResourceURLs")


def compile_rules(rules: Sequence[Obj] | None) -> tuple[Rule, ...]:
    return tuple(Rule.of(rule) for rule in rules or ())


def uncovered(held: Iterable[Obj], wanted: Iterable[Obj]) -> list[Obj]:
    """Returns what of the wanted rules is not covered by the held ones: single permissions, merged where they agree.

    A permission is one verb on one resource of one group (of one name), or one verb on one URL.
    """
    owned = [Rule.of(rule) for rule in held]
    missing = [one for rule in wanted for one in _split(rule) if not any(_covers(rule, one) for rule in owned)]
    return _merged(missing)


def _split(rule: Obj) -> Iterator[Obj]:
    for group in rule.get("apiGroups") or ():
        for resource in rule.get("resources") or ():
            for verb in rule.get("verbs") or ():
                single: dict[str, Any] = {"apiGroups": [group], "resources": [resource], "verbs": [verb]}
                names = rule.get("resourceNames") or ()
                if not names:
                    yield single
                for name in names:
                    yield {**single, "resourceNames": [name]}
    for url in rule.get("nonResourceURLs") or ():
        for verb in rule.get("verbs") or ():
            yield {"nonResourceURLs": [url], "verbs": [verb]}


def _covers(held: Rule, single: Obj) -> bool:
    (verb,) = single["verbs"]
    if verb not in held.verbs and "*" not in held.verbs:
        return False
    if "nonResourceURLs" in single:
        (url,) = single["nonResourceURLs"]
        return any(
            url in ("*", own) if own == url else own == "*" or (own.endswith("*") and url.startswith(own.rstrip("*")))
            for own in held.urls
        )
    (group,), (resource,) = single["apiGroups"], single["resources"]
    if group not in held.groups and "*" not in held.groups:
        return False
    tail = resource.partition("/")[2]
    if not ("*" in held.resources or resource in held.resources or (tail and f"*/{tail}" in held.resources)):
        return False
    names = single.get("resourceNames")
    return not held.names or bool(names and names[0] in held.names)


def _merged(singles: Sequence[Obj]) -> list[Obj]:
    """Joins permissions that differ in their verb only."""
    found: dict[tuple[tuple[str, tuple[str, ...]], ...], Obj] = {}
    for single in singles:
        key = tuple((name, tuple(value)) for name, value in single.items() if name != "verbs")
        rule = found.setdefault(key, {**single, "verbs": []})
        rule["verbs"] += [verb for verb in single["verbs"] if verb not in rule["verbs"]]
    return list(found.values())


def compact(rules: Iterable[Obj]) -> list[Obj]:
    """Returns the rules without doubles, as a rules review shows them."""
    found: list[Obj] = []
    for rule in rules:
        if rule not in found:
            found.append(rule)
    return found


_SHOWN = {"apiGroups": "APIGroups", "resources": "Resources", "resourceNames": "ResourceNames"}


def describe(rule: Obj) -> str:
    """Returns a rule as messages show it: `{APIGroups:["apps"], Resources:["*"], Verbs:["get" "list"]}`."""
    keys = {**_SHOWN, "nonResourceURLs": "NonResourceURLs", "verbs": "Verbs"}
    shown = []
    for key, title in keys.items():
        if values := rule.get(key):
            listed = " ".join(f'"{value}"' for value in values)
            shown.append(f"{title}:[{listed}]")
    return "{" + ", ".join(shown) + "}"
