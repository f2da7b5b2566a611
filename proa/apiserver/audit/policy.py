"""Which requests are audited, how fully, and at which stages: a Policy of audit.k8s.io/v1, read and asked. Pure.

The first rule that fits decides, as in upstream's `audit/policy`; a request that none fits is not audited.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from proa.apiserver.contracts import Attributes

LEVELS = ("None", "Metadata", "Request", "RequestResponse")
NONE, METADATA, REQUEST, REQUEST_RESPONSE = range(4)
RECEIVED, STARTED, COMPLETE, PANIC = "RequestReceived", "ResponseStarted", "ResponseComplete", "Panic"
STAGES = (RECEIVED, STARTED, COMPLETE, PANIC)
_API_VERSION = "audit.k8s.io/v1"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one request is audited."""

    level: int
    omitted: frozenset[str] = frozenset()
    omit_managed_fields: bool = False


@dataclass(frozen=True, slots=True)
class _Group:
    group: str
    resources: tuple[str, ...]
    names: frozenset[str]

    def fits(self, asked: Attributes) -> bool:
        if asked.group != self.group or (self.names and asked.name not in self.names):
            return False
        return not self.resources or any(_resource_fits(one, asked) for one in self.resources)


@dataclass(frozen=True, slots=True)
class _Rule:
    outcome: Outcome
    users: frozenset[str]
    groups: frozenset[str]
    verbs: frozenset[str]
    resources: tuple[_Group, ...]
    namespaces: frozenset[str]
    urls: tuple[str, ...]

    def fits(self, asked: Attributes) -> bool:
        if self.users and asked.user.name not in self.users:
            return False
        if self.groups and not self.groups.intersection(asked.user.groups):
            return False
        if self.verbs and asked.verb not in self.verbs:
            return False
        if self.namespaces or self.resources:
            if asked.path or (self.namespaces and asked.namespace not in self.namespaces):
                return False
            return not self.resources or any(one.fits(asked) for one in self.resources)
        if self.urls:
            return bool(asked.path) and any(_url_fits(url, asked.path) for url in self.urls)
        return True


class Policy:
    """`by_name`: whether any rule looks at objects' names, so that decisions differ by them."""

    def __init__(self, rules: Iterable[_Rule]) -> None:
        self._rules = tuple(rules)
        self.by_name = any(group.names for rule in self._rules for group in rule.resources)

    def decide(self, asked: Attributes) -> Outcome:
        for rule in self._rules:
            if rule.fits(asked):
                return rule.outcome
        return Outcome(NONE)


def read(policy: Any) -> Policy:
    """Reads a Policy object; raises ValueError that names what is wrong."""
    if not isinstance(policy, Mapping) or policy.get("kind") != "Policy" or policy.get("apiVersion") != _API_VERSION:
        raise ValueError(f"an audit policy is an object of kind Policy, apiVersion {_API_VERSION}")
    given = policy.get("rules") or []
    if not given:
        raise ValueError("rules: an audit policy needs at least one")
    omitted = _stages(policy.get("omitStages"), "omitStages")
    managed = bool(policy.get("omitManagedFields"))
    return Policy([_rule(rule, f"rules[{index}]", omitted, managed) for index, rule in enumerate(given)])


def _rule(rule: Mapping[str, Any], path: str, omitted: frozenset[str], managed: bool) -> _Rule:
    level = rule.get("level")
    if level not in LEVELS:
        raise ValueError(f"{path}.level: {level!r} is none of {', '.join(LEVELS)}")
    urls = tuple(rule.get("nonResourceURLs") or ())
    for index, url in enumerate(urls):
        if url != "*" and (not url.startswith("/") or "*" in url[:-1]):
            raise ValueError(f"{path}.nonResourceURLs[{index}]: {url!r} must begin with '/', '*' only at its end")
    resources = tuple(
        _Group(one.get("group") or "", tuple(one.get("resources") or ()), frozenset(one.get("resourceNames") or ()))
        for one in rule.get("resources") or ()
    )
    for index, group in enumerate(resources):
        if group.names and not group.resources:
            raise ValueError(f"{path}.resources[{index}].resourceNames: needs at least one of resources")
    namespaces = frozenset(rule.get("namespaces") or ())
    if urls and (resources or namespaces):
        raise ValueError(f"{path}.nonResourceURLs: a rule cannot apply to both resources and URLs")
    own = rule.get("omitManagedFields")
    outcome = Outcome(
        LEVELS.index(level),
        omitted | _stages(rule.get("omitStages"), f"{path}.omitStages"),
        managed if own is None else bool(own),
    )
    users, groups, verbs = (frozenset(rule.get(key) or ()) for key in ("users", "userGroups", "verbs"))
    return _Rule(outcome, users, groups, verbs, resources, namespaces, urls)


def _stages(given: Any, path: str) -> frozenset[str]:
    for index, stage in enumerate(given or ()):
        if stage not in STAGES:
            raise ValueError(f"{path}[{index}]: {stage!r} is none of {', '.join(STAGES)}")
    return frozenset(given or ())


def _resource_fits(one: str, asked: Attributes) -> bool:
    resource, subresource = asked.resource, asked.subresource
    if one in ("*", f"{resource}/{subresource}" if subresource else resource):
        return True
    first, _, second = one.partition("/")
    return bool(subresource) and ((first, second) in ((resource, "*"), ("*", subresource)))


def _url_fits(url: str, path: str) -> bool:
    return url in ("*", path) or (url.endswith("*") and path.startswith(url[:-1]))


# Metadata of everything but what is asked all the time to see whether the server lives.
DEFAULT = {
    "apiVersion": _API_VERSION,
    "kind": "Policy",
    "omitStages": [RECEIVED],
    "rules": [
        {"level": "None", "nonResourceURLs": ["/healthz*", "/livez*", "/readyz*", "/metrics"]},
        {"level": "Metadata"},
    ],
}
