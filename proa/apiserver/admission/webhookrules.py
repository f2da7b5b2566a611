"""Which admission webhooks a request concerns: rules, selectors, operations. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

from proa.apiserver.contracts import AdmissionRequest
from proa.meta.objects import Obj, labels_of
from proa.meta.selectors import LabelSelector, from_object

# What webhooks never see: one that refuses everything could not be removed any more.
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


def is_exempt(request: AdmissionRequest) -> bool:
    """Whether a request is hidden from all webhooks."""
    return request.resource.group == "admissionregistration.k8s.io" and request.resource.plural in _EXEMPT


def concerns(
    webhook: Obj, request: AdmissionRequest, versions: Iterable[str], namespace_labels: Mapping[str, str]
) -> bool:
    """Whether a webhook is to be called for a request.

    `versions` are those in which the resource is served: with matchPolicy Equivalent any of them counts.
    `namespace_labels` are those of the request's namespace (of a namespace: its own).
    """
    if webhook.get("matchPolicy") == "Exact":
        versions = (request.resource.version,)
    if not any(_rule_matches(rule, request, versions) for rule in webhook.get("rules") or ()):
        return False
    definition = request.resource
    has_namespace = definition.namespaced or (definition.plural == "namespaces" and not definition.group)
    if has_namespace and not _selector(webhook.get("namespaceSelector")).matches(namespace_labels):
        return False
    chosen = _selector(webhook.get("objectSelector"))
    return any(obj is not None and chosen.matches(labels_of(obj)) for obj in (request.obj, request.old)) or (
        request.obj is None and request.old is None
    )


def _rule_matches(rule: Obj, request: AdmissionRequest, versions: Iterable[str]) -> bool:
    definition = request.resource
    scope = rule.get("scope") or "*"
    namespaced = definition.namespaced
    if definition.plural == "namespaces" and not definition.group:
        namespaced = False
    if scope != "*" and (scope == "Namespaced") != namespaced:
        return False
    return (
        _any(rule.get("operations"), (request.operation,))
        and _any(rule.get("apiGroups"), (definition.group,))
        and _any(rule.get("apiVersions"), versions)
        and any(_resource_matches(one, definition.plural, request.subresource) for one in rule.get("resources") or ())
    )


def _any(allowed: Iterable[str] | None, values: Iterable[str]) -> bool:
    listed = tuple(allowed or ())
    return "*" in listed or any(value in listed for value in values)


def _resource_matches(pattern: str, plural: str, subresource: str) -> bool:
    resource, separator, sub = pattern.partition("/")
    if resource not in ("*", plural):
        return False
    return sub in ("*", subresource) if separator else not subresource


def _selector(selector: Any) -> LabelSelector:
    return _everything() if not selector else from_object(selector)


@lru_cache(maxsize=1)
def _everything() -> LabelSelector:
    return from_object({})
