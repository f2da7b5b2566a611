"""Which webhooks and policies a request concerns: rules, names, selectors, equivalent versions. Pure.

`Criteria` are compiled once. What depends on resource, subresource and operation only is decided once for each of these
and kept (`Index`), so that a request that nothing concerns costs one look-up; names and selectors are left to `Aim`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from proa.apis.registry import ResourceDef
from proa.apiserver.contracts import AdmissionRequest
from proa.apiserver.resources import Resources
from proa.meta.gvk import GVR
from proa.meta.objects import Obj, labels_of
from proa.meta.selectors import LabelSelector, from_object

# What neither webhooks nor policies see: one that refuses everything could not be removed any more.
_EXEMPT = frozenset(
    (
        "mutatingadmissionpolicies",
        "mutatingadmissionpolicybindings",
        "mutatingwebhookconfigurations",
        "validatingadmissionpolicies",
        "validatingadmissionpolicybindings",
        "validatingwebhookconfigurations",
    )
)
# What policies do not see either: requests that store nothing.
_REVIEWS = {
    "authentication.k8s.io": ("selfsubjectreviews", "tokenreviews"),
    "authorization.k8s.io": (
        "localsubjectaccessreviews",
        "selfsubjectaccessreviews",
        "selfsubjectrulesreviews",
        "subjectaccessreviews",
    ),
}


def is_exempt(resource: ResourceDef) -> bool:
    """Whether a resource is hidden from all webhooks and policies."""
    return resource.group == "admissionregistration.k8s.io" and resource.plural in _EXEMPT


def is_exempt_from_policies(resource: ResourceDef) -> bool:
    return is_exempt(resource) or resource.plural in _REVIEWS.get(resource.group, ())


@dataclass(frozen=True, slots=True)
class Aim:
    """That a hook wants a request, as `resource`; `names` are those of the objects that it is about, none: all."""

    resource: ResourceDef
    names: frozenset[str] = frozenset()

    def covers(self, name: str) -> bool:
        return not self.names or name in self.names


class Rule:
    """One of a webhook's rules or of a policy's resource rules."""

    __slots__ = ("_groups", "_operations", "_resources", "_scope", "_versions", "names")

    def __init__(self, given: Obj) -> None:
        self._operations = frozenset(given.get("operations") or ())
        self._groups = frozenset(given.get("apiGroups") or ())
        self._versions = frozenset(given.get("apiVersions") or ())
        self._resources = [one.partition("/") for one in given.get("resources") or ()]
        self._scope = given.get("scope") or "*"
        self.names = frozenset(given.get("resourceNames") or ())

    def matches(self, resource: ResourceDef, subresource: str, operation: str) -> bool:
        if self._scope != "*" and (self._scope == "Namespaced") != resource.namespaced:
            return False
        return (
            _allows(self._operations, operation)
            and _allows(self._groups, resource.group)
            and _allows(self._versions, resource.version)
            and any(
                main in ("*", resource.plural) and (sub in ("*", subresource) if slash else not subresource)
                for main, slash, sub in self._resources
            )
        )


def _allows(listed: frozenset[str], value: str) -> bool:
    return value in listed or "*" in listed


def _selector(given: Any) -> LabelSelector | None:
    """Returns a selector, None for one that selects everything."""
    selector = from_object(given) if given else None
    return None if selector is None or selector.empty else selector


class Criteria:
    """What a webhook, a policy or a binding applies to. `rules_key` is where its rules are; no rules match all."""

    __slots__ = ("_equivalent", "_excluded", "_namespaces", "_objects", "_rules")

    def __init__(self, given: Obj, rules_key: str) -> None:
        self._rules = [Rule(one) for one in given.get(rules_key) or ()]
        self._excluded = [Rule(one) for one in given.get("excludeResourceRules") or ()]
        self._equivalent = given.get("matchPolicy") != "Exact"
        self._namespaces = _selector(given.get("namespaceSelector"))
        self._objects = _selector(given.get("objectSelector"))

    def aims(self, forms: Sequence[ResourceDef], subresource: str, operation: str) -> Sequence[Aim]:
        """Returns how the rules match a resource, best first; `forms` is the resource, then what is equivalent."""
        excluded = self._matching(self._excluded, forms, subresource, operation)
        if any(not one.names for one in excluded):
            return ()
        aims = self._matching(self._rules, forms, subresource, operation) if self._rules else [Aim(forms[0])]
        return [_Except(one.resource, one.names, excluded) for one in aims] if excluded else aims

    def _matching(
        self, rules: Iterable[Rule], forms: Sequence[ResourceDef], subresource: str, operation: str
    ) -> list[Aim]:
        found = [Aim(forms[0], one.names) for one in rules if one.matches(forms[0], subresource, operation)]
        if self._equivalent:
            found += [
                Aim(form, rule.names)
                for rule in rules
                for form in forms[1:]
                if rule.matches(form, subresource, operation)
            ]
        return found

    def selects(self, request: AdmissionRequest, namespace_labels: Mapping[str, str]) -> bool:
        """Tells whether the selectors choose a request; `namespace_labels` are those of its namespace (of a
        namespace: its own)."""
        spaces = self._namespaces
        if spaces is not None and not _is_clusters_own(request) and not spaces.matches(namespace_labels):
            return False
        chosen = self._objects
        return chosen is None or any(
            obj is not None and "metadata" in obj and chosen.matches(labels_of(obj))
            for obj in (request.obj, request.old)
        )


@dataclass(frozen=True, slots=True)
class _Except(Aim):
    """An aim that leaves out objects of some names."""

    excluded: Sequence[Aim] = ()

    def covers(self, name: str) -> bool:
        return (not self.names or name in self.names) and not any(name in one.names for one in self.excluded)


def _is_clusters_own(request: AdmissionRequest) -> bool:
    resource = request.resource
    return not request.namespace and not (resource.plural == "namespaces" and not resource.group)


Hook = TypeVar("Hook")


class Index(Generic[Hook]):
    """Hooks, each with what it applies to, by the requests that may concern them."""

    def __init__(self, resources: Resources, hooks: Sequence[tuple[Hook, Criteria]] = ()) -> None:
        self._resources = resources
        self._hooks = hooks
        self._generation = resources.generation
        self._kept: dict[tuple[str, str, str, str, str], list[tuple[Hook, Criteria, Sequence[Aim]]]] = {}
        self._forms: dict[tuple[GVR, str], Sequence[ResourceDef]] = {}

    def find(self, request: AdmissionRequest) -> list[tuple[Hook, Criteria, Sequence[Aim]]]:
        """Returns the hooks whose rules match; the aims' names and the selectors are still to be looked at."""
        if not self._hooks:
            return []
        if self._generation != self._resources.generation:
            self._kept.clear()
            self._forms.clear()
            self._generation = self._resources.generation
        resource = request.resource
        key = (resource.group, resource.version, resource.plural, request.subresource, request.operation)
        found = self._kept.get(key)
        if found is None:
            forms = self.forms(request)
            found = self._kept[key] = [
                (hook, criteria, aims)
                for hook, criteria in self._hooks
                if (aims := criteria.aims(forms, request.subresource, request.operation))
            ]
        return found

    def forms(self, request: AdmissionRequest) -> Sequence[ResourceDef]:
        """Returns a request's resource, then the other versions (of other groups, too) of what is stored."""
        resource, subresource = request.resource, request.subresource
        key = resource.gvr, subresource
        if key not in self._forms:
            others = [
                one
                for one in self._resources.all()
                if one.storage == resource.storage
                and one.gvr != resource.gvr
                and (not subresource or one.subresource(subresource) is not None)
            ]
            self._forms[key] = [resource, *(others if resource.storage else ())]
        return self._forms[key]
