"""FlowSchema, as of flowcontrol.apiserver.k8s.io/v1: which requests go to which priority level."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from proa.apis import tables
from proa.apis.define import columns, resource
from proa.apis.fields import Errors, problems
from proa.apis.registry import StatusStrategy, Strategy
from proa.apis.shape import child, children, drop_zero, keep_status, set_if_zero
from proa.meta import names
from proa.meta.errors import forbidden_field, invalid_field, required_field, unsupported_field
from proa.meta.objects import Obj, name_of

_PRECEDENCE_MAX = 10000
_METHODS = ("ByNamespace", "ByUser")
_VERBS = (
    "apply",
    "bind",
    "create",
    "delete",
    "deletecollection",
    "escalate",
    "get",
    "impersonate",
    "list",
    "patch",
    "proxy",
    "update",
    "use",
    "watch",
)
_NONRESOURCE_VERBS = ("*", "delete", "get", "head", "options", "patch", "post", "put")
_SUBJECT_KEYS = {"ServiceAccount": "serviceAccount", "User": "user", "Group": "group"}


class FlowSchemaStrategy(Strategy):
    generation = True

    def default(self, obj: Obj) -> None:
        spec = child(obj, "spec")
        set_if_zero(spec, "matchingPrecedence", 1000)
        drop_zero(spec, "rules")
        for rule in children(spec, "rules"):
            drop_zero(rule, "resourceRules", "nonResourceRules")
            for one in children(rule, "resourceRules"):
                drop_zero(one, "clusterScope")
        child(obj, "status")

    def prepare_create(self, obj: Obj) -> None:
        obj["status"] = {}

    def prepare_update(self, obj: Obj, old: Obj) -> None:
        keep_status(obj, old)

    def validate(self, obj: Obj) -> Errors:
        spec = obj.get("spec") or {}
        errors = _precedence(name_of(obj), spec.get("matchingPrecedence") or 0)
        method = spec.get("distinguisherMethod")
        if method is not None and method.get("type") not in _METHODS:
            errors.append(unsupported_field("spec.distinguisherMethod.type", method.get("type"), _METHODS))
        level = (spec.get("priorityLevelConfiguration") or {}).get("name") or ""
        path = "spec.priorityLevelConfiguration.name"
        if level:
            errors += problems(names.dns1123_subdomain(level), path, level)
        else:
            errors.append(required_field(path, "must reference a priority level"))
        for index, rule in enumerate(children(spec, "rules")):
            errors += _rule(rule, f"spec.rules[{index}]")
        return errors


def _precedence(name: str, value: int) -> Errors:
    path = "spec.matchingPrecedence"
    if value == 1 and name != "exempt":
        return [invalid_field(path, value, "only the schema named 'exempt' may have matchingPrecedence 1")]
    if value <= 0:
        return [invalid_field(path, value, "must be a positive value")]
    if value > _PRECEDENCE_MAX:
        return [invalid_field(path, value, f"must not be greater than {_PRECEDENCE_MAX}")]
    return []


def _rule(rule: Obj, path: str) -> Errors:
    errors: Errors = []
    subjects = children(rule, "subjects")
    if not subjects:
        errors.append(required_field(f"{path}.subjects", "subjects must contain at least one value"))
    for index, subject in enumerate(subjects):
        errors += _subject(subject, f"{path}.subjects[{index}]")
    resources, urls = children(rule, "resourceRules"), children(rule, "nonResourceRules")
    if not resources and not urls:
        errors.append(required_field(path, "at least one of resourceRules and nonResourceRules has to be non-empty"))
    for index, one in enumerate(resources):
        errors += _resource_rule(one, f"{path}.resourceRules[{index}]")
    for index, one in enumerate(urls):
        errors += _url_rule(one, f"{path}.nonResourceRules[{index}]")
    return errors


def _subject(subject: Obj, path: str) -> Errors:
    kind = subject.get("kind") or ""
    if kind not in _SUBJECT_KEYS:
        return [unsupported_field(f"{path}.kind", kind, sorted(_SUBJECT_KEYS))]
    errors: Errors = []
    for other, key in _SUBJECT_KEYS.items():
        given = subject.get(key)
        if other == kind:
            if given is None:
                errors.append(required_field(f"{path}.{key}", f"{key} is required when subject kind is '{kind}'"))
            else:
                errors += _named(kind, given, f"{path}.{key}")
        elif given is not None:
            errors.append(forbidden_field(f"{path}.{key}", f"{key} is forbidden when subject kind is not '{other}'"))
    return errors


def _named(kind: str, given: Obj, path: str) -> Errors:
    name, errors = given.get("name") or "", []
    if not name:
        errors.append(required_field(f"{path}.name"))
    elif kind == "ServiceAccount" and name != "*":
        errors += problems(names.dns1123_subdomain(name), f"{path}.name", name)
    if kind == "ServiceAccount":
        namespace = given.get("namespace") or ""
        if not namespace:
            errors.append(required_field(f"{path}.namespace", "must specify namespace for service account"))
        else:
            errors += problems(names.dns1123_label(namespace), f"{path}.namespace", namespace)
    return errors


def _exclusive(items: list[str], path: str, what: str, missing: str) -> Errors:
    """A list that must not be empty, and in which `*` must stand alone."""
    if not items:
        return [required_field(path, missing)]
    if len(items) > 1 and "*" in items:
        return [invalid_field(path, items, f"if '*' is present, must not specify other {what}")]
    return []


def _resource_rule(rule: Obj, path: str) -> Errors:
    verbs, namespaces = rule.get("verbs") or [], rule.get("namespaces") or []
    errors = _exclusive(verbs, f"{path}.verbs", "verbs", "verbs must contain at least one value")
    if "*" not in verbs and any(verb not in _VERBS for verb in verbs):
        errors.append(unsupported_field(f"{path}.verbs", verbs, _VERBS))
    for key, what in (("apiGroups", "api groups"), ("resources", "resources")):
        missing = f"resource rules must supply at least one {what[:-1]}"
        errors += _exclusive(rule.get(key) or [], f"{path}.{key}", what, missing)
    if not namespaces and not rule.get("clusterScope"):
        detail = "resource rules that are not cluster scoped must supply at least one namespace"
        errors.append(required_field(f"{path}.namespaces", detail))
    elif "*" in namespaces and len(namespaces) > 1:
        detail = "if '*' is present, must not specify other namespaces"
        errors.append(invalid_field(f"{path}.namespaces", namespaces, detail))
    elif "*" not in namespaces:
        for index, one in enumerate(namespaces):
            errors += problems(names.dns1123_label(one), f"{path}.namespaces[{index}]", one)
    return errors


def _url_rule(rule: Obj, path: str) -> Errors:
    verbs, urls = rule.get("verbs") or [], rule.get("nonResourceURLs") or []
    errors = _exclusive(verbs, f"{path}.verbs", "verbs", "verbs must contain at least one value")
    if any(verb not in _NONRESOURCE_VERBS for verb in verbs):
        errors.append(unsupported_field(f"{path}.verbs", verbs, _NONRESOURCE_VERBS))
    missing = "nonResourceURLs must contain at least one value"
    errors += _exclusive(urls, f"{path}.nonResourceURLs", "non-resource URLs", missing)
    if urls == ["*"]:
        return errors
    for index, url in enumerate(urls):
        problem = _url_problem(url)
        if problem and not (url == "*" and len(urls) > 1):
            errors.append(invalid_field(f"{path}.nonResourceURLs[{index}]", url, problem))
    return errors


def _url_problem(url: str) -> str:
    if " " in url:
        return "must not contain white-space"
    if not url.startswith("/"):
        return "must start with slash"
    if "//" in url:
        return "must not contain double slash"
    if "*" in url and (url.count("*") > 1 or not url.endswith("/*")):
        return "wildcard can only do suffix matching"
    return ""


def cells(obj: Obj, now: datetime) -> Sequence[Any]:
    spec = obj.get("spec") or {}
    dangling = "?"
    for one in children(obj.get("status"), "conditions"):
        if one.get("type") == "Dangling":
            dangling = one.get("status", "?")
    return (
        name_of(obj),
        (spec.get("priorityLevelConfiguration") or {}).get("name", ""),
        spec.get("matchingPrecedence", 0),
        (spec.get("distinguisherMethod") or {}).get("type") or tables.NONE,
        tables.age(obj, now),
        dangling,
    )


FLOW_SCHEMA = resource(
    "flowcontrol.apiserver.k8s.io",
    "v1",
    "FlowSchema",
    "flowschemas",
    columns=columns("Name", "PriorityLevel", "MatchingPrecedence", "DistinguisherMethod", "Age", "MissingPL"),
    cells=cells,
    strategy=FlowSchemaStrategy(),
    namespaced=False,
    status=StatusStrategy,
    storage_version_hash="GJVAJZSZBIw=",
)
