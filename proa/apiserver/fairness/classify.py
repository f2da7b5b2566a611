"""Which FlowSchema a request belongs to, and what tells its flow from others: pure, from the objects as they are.

Follows upstream's `util/flowcontrol` (rule.go): schemas in order of matchingPrecedence, then name; the first with a
rule whose subjects and resources (or URLs) fit. A schema whose priority level does not exist is passed over.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from proa.apis.shape import children
from proa.apiserver.contracts import Attributes
from proa.client.interface import UserInfo
from proa.meta.objects import Obj, name_of

_SERVICE_ACCOUNT = "system:serviceaccount:"


@dataclass(frozen=True, slots=True)
class _Resources:
    verbs: frozenset[str]
    groups: frozenset[str]
    resources: frozenset[str]
    namespaces: frozenset[str]
    cluster_scope: bool

    def fits(self, asked: Attributes) -> bool:
        resource = f"{asked.resource}/{asked.subresource}" if asked.subresource else asked.resource
        return (
            _holds(self.verbs, asked.verb)
            and _holds(self.groups, asked.group)
            and _holds(self.resources, resource)
            and (_holds(self.namespaces, asked.namespace) if asked.namespace else self.cluster_scope)
        )


@dataclass(frozen=True, slots=True)
class _Paths:
    verbs: frozenset[str]
    urls: tuple[str, ...]

    def fits(self, asked: Attributes) -> bool:
        return _holds(self.verbs, asked.verb) and any(_url_fits(url, asked.path) for url in self.urls)


@dataclass(frozen=True, slots=True)
class _Subject:
    kind: str
    namespace: str
    name: str

    def fits(self, user: UserInfo) -> bool:
        if self.kind == "Group":
            return self.name == "*" or self.name in user.groups
        if self.kind == "User":
            return self.name in ("*", user.name)
        if not user.name.startswith(_SERVICE_ACCOUNT):
            return False
        namespace, _, name = user.name.removeprefix(_SERVICE_ACCOUNT).partition(":")
        return namespace == self.namespace and self.name in ("*", name)


@dataclass(frozen=True, slots=True)
class _Rule:
    subjects: tuple[_Subject, ...]
    resources: tuple[_Resources, ...]
    paths: tuple[_Paths, ...]

    def fits(self, asked: Attributes) -> bool:
        if not any(subject.fits(asked.user) for subject in self.subjects):
            return False
        return any(one.fits(asked) for one in (self.paths if asked.path else self.resources))


@dataclass(frozen=True, slots=True)
class Schema:
    """One FlowSchema, compiled. `method` is ByUser, ByNamespace or empty."""

    name: str
    uid: str
    level: str
    method: str
    rules: tuple[_Rule, ...]

    def fits(self, asked: Attributes) -> bool:
        return any(rule.fits(asked) for rule in self.rules)

    def distinguisher(self, asked: Attributes) -> str:
        """Returns what tells the request's flow from others of this schema."""
        if self.method == "ByUser":
            return asked.user.name
        return asked.namespace if self.method == "ByNamespace" else ""


def compiled(schemas: Iterable[Obj], levels: Collection[str]) -> list[Schema]:
    """Returns the schemas that name one of these priority levels, in the order in which they are tried."""
    found = []
    for obj in schemas:
        spec = obj.get("spec") or {}
        level = (spec.get("priorityLevelConfiguration") or {}).get("name") or ""
        if level not in levels:
            continue
        method = (spec.get("distinguisherMethod") or {}).get("type") or ""
        rules = tuple(_rule(rule) for rule in children(spec, "rules"))
        name, uid = name_of(obj), (obj.get("metadata") or {}).get("uid") or ""
        found.append((spec.get("matchingPrecedence") or 0, name, Schema(name, uid, level, method, rules)))
    return [schema for _, _, schema in sorted(found, key=lambda one: one[:2])]


def classify(schemas: Sequence[Schema], asked: Attributes) -> Schema:
    """Returns the schema of a request: the last one, a catch-all, takes what nothing else does."""
    return next((schema for schema in schemas if schema.fits(asked)), schemas[-1])


def _rule(rule: Obj) -> _Rule:
    resources = tuple(
        _Resources(
            frozenset(one.get("verbs") or ()),
            frozenset(one.get("apiGroups") or ()),
            frozenset(one.get("resources") or ()),
            frozenset(one.get("namespaces") or ()),
            bool(one.get("clusterScope")),
        )
        for one in children(rule, "resourceRules")
    )
    paths = tuple(
        _Paths(frozenset(one.get("verbs") or ()), tuple(one.get("nonResourceURLs") or ()))
        for one in children(rule, "nonResourceRules")
    )
    return _Rule(tuple(_subject(one) for one in children(rule, "subjects")), resources, paths)


def _subject(subject: Obj) -> _Subject:
    kind = subject.get("kind") or ""
    key = {"ServiceAccount": "serviceAccount", "User": "user", "Group": "group"}.get(kind, "")
    named = subject.get(key) or {}
    return _Subject(kind, named.get("namespace") or "", named.get("name") or "")


def _holds(values: frozenset[str], value: str) -> bool:
    return "*" in values or value in values


def _url_fits(url: str, path: str) -> bool:
    if url in ("*", path):
        return True
    return url.endswith("/*") and path.startswith(url[:-1])
