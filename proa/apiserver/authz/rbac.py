"""The RBAC authorizer: roles and bindings as they are now.

Follows upstream's RBAC authorizer; the reasons it gives name the binding, the role and the subject.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from proa.apis.rbac.evaluate import Rule, compile_rules
from proa.apiserver.contracts import Attributes, Decision
from proa.apiserver.live import Live
from proa.client.interface import UserInfo
from proa.client.resources import CLUSTERROLEBINDINGS, CLUSTERROLES, ROLEBINDINGS, ROLES
from proa.meta.objects import Obj, name_of, namespace_of

_RESOURCES = (CLUSTERROLEBINDINGS, CLUSTERROLES, ROLEBINDINGS, ROLES)
_DECISIONS_MAX = 8192
_SERVICE_ACCOUNT = "system:serviceaccount:"
NO_OPINION = Decision(False)


class _Grant(NamedTuple):
    """A subject's share in a binding."""

    binding: Obj
    subject: str  # as reasons show it


class RbacAuthorizer:
    """Decisions are kept until a role or binding changes."""

    def __init__(self, live: Live) -> None:
        self._live = live
        self._counters: tuple[Callable[[], int], ...] = ()
        self._seen: list[int] = []
        self._cluster: dict[str, list[_Grant]] = {}
        self._namespaced: dict[str, dict[str, list[_Grant]]] = {}
        self._rules: dict[tuple[str, str, str], tuple[Rule, ...]] = {}
        self._decisions: dict[tuple[object, ...], Decision] = {}

    def authorize(self, attributes: Attributes) -> Decision:
        self._refresh()
        one = attributes
        key = (
            one.user.name,
            one.user.groups,
            one.verb,
            one.group,
            one.resource,
            one.subresource,
            one.namespace,
            one.name,
            one.path,
        )
        decision = self._decisions.get(key)
        if decision is None:
            decision = self._decide(one)
            if len(self._decisions) >= _DECISIONS_MAX:
                self._decisions.clear()
            self._decisions[key] = decision
        return decision

    def _decide(self, one: Attributes) -> Decision:
        for namespace, grant in self._grants(one.user, one.namespace):
            for rule in self._compiled(grant.binding):
                if one.is_resource:
                    allowed = rule.allows(one.verb, one.group, one.resource, one.subresource, one.name)
                else:
                    allowed = not namespace and rule.allows_url(one.verb, one.path)
                if allowed:
                    return Decision(True, _reason(grant))
        return NO_OPINION

    def rules_for(self, user: UserInfo, namespace: str) -> Iterator[Obj]:
        """Yields the PolicyRules that a user has: cluster-wide, then in the namespace."""
        self._refresh()
        for scope, grant in self._grants(user, namespace):
            for rule in (self.role_of(grant.binding) or {}).get("rules") or ():
                if not scope or not rule.get("nonResourceURLs"):
                    yield rule

    def role_of(self, binding: Obj) -> Obj | None:
        """Returns the role that a binding refers to, or None if there is none."""
        reference = binding.get("roleRef") or {}
        if reference.get("kind") == "ClusterRole":
            return self._live.get(CLUSTERROLES, reference.get("name", ""))
        return self._live.get(ROLES, reference.get("name", ""), namespace_of(binding))

    def _grants(self, user: UserInfo, namespace: str) -> Iterator[tuple[str, _Grant]]:
        """Yields a user's grants: ("", grant) for the whole cluster, then (namespace, grant)."""
        subjects = [f"User {user.name}", *(f"Group {group}" for group in user.groups)]
        for subject in subjects:
            for grant in self._cluster.get(subject, ()):
                yield "", grant
        if namespace and (within := self._namespaced.get(namespace)):
            for subject in subjects:
                for grant in within.get(subject, ()):
                    yield namespace, grant

    def _compiled(self, binding: Obj) -> tuple[Rule, ...]:
        reference = binding.get("roleRef") or {}
        kind, name = reference.get("kind", ""), reference.get("name", "")
        key = kind, namespace_of(binding) if kind == "Role" else "", name
        rules = self._rules.get(key)
        if rules is None:
            role = self.role_of(binding)
            rules = self._rules[key] = compile_rules(role.get("rules")) if role else ()
        return rules

    def _refresh(self) -> None:
        live = self._live
        if not self._counters:
            self._counters = tuple(live.counter(resource) for resource in _RESOURCES)
        seen = [count() for count in self._counters]
        if seen == self._seen:
            return
        old, self._seen = self._seen, seen
        self._decisions.clear()
        self._rules.clear()
        if not old or old[0] != seen[0]:
            self._cluster = _index(live.list(CLUSTERROLEBINDINGS))
        if not old or old[2] != seen[2]:
            by_namespace: defaultdict[str, list[Obj]] = defaultdict(list)
            for binding in live.list(ROLEBINDINGS):
                by_namespace[namespace_of(binding)].append(binding)
            self._namespaced = {namespace: _index(bindings) for namespace, bindings in by_namespace.items()}


def _index(bindings: Sequence[Obj]) -> dict[str, list[_Grant]]:
    found: defaultdict[str, list[_Grant]] = defaultdict(list)
    for binding in bindings:
        for subject in binding.get("subjects") or ():
            key, shown = _subject(subject, namespace_of(binding))
            found[key].append(_Grant(binding, shown))
    return dict(found)


def _subject(subject: Obj, namespace: str) -> tuple[str, str]:
    """Returns a subject's key and how reasons show it. A service account is a user with a long name."""
    kind, name = subject.get("kind", ""), subject.get("name", "")
    if kind == "ServiceAccount":
        account = f"{subject.get('namespace') or namespace}"
        return f"User {_SERVICE_ACCOUNT}{account}:{name}", f'ServiceAccount "{name}/{account}"'
    return f"{kind} {name}", f'{kind} "{name}"'


def _reason(grant: _Grant) -> str:
    binding, reference = grant.binding, grant.binding.get("roleRef") or {}
    namespace = namespace_of(binding)
    shown = f'RoleBinding "{name_of(binding)}/{namespace}"' if namespace else f'ClusterRoleBinding "{name_of(binding)}"'
    return f'RBAC: allowed by {shown} of {reference.get("kind")} "{reference.get("name")}" to {grant.subject}'
