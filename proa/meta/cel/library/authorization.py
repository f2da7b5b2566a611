"""Kubernetes' authorizer: who may do what, asked from an expression.

The answer comes from a function `ask(group, resource, subresource, namespace, name, path, verb, account=…) -> (allowed,
reason)`; `account` is (namespace, name) of a service account, or None for the request's user. If the expression gave
selectors that could be parsed, it gets `field_selector` and `label_selector` as texts besides. What it raises is the
decision's error.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from proa.meta import names
from proa.meta.cel.syntax import CelError


@dataclass(frozen=True, slots=True)
class Authorizer:
    """Asks on behalf of the user, or of a service account."""

    cel_type: ClassVar[str] = "kubernetes.authorization.Authorizer"
    ask: Any
    account: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Check:
    cel_type: str
    authorizer: Authorizer
    group: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    path: str = ""
    field_selector: str = ""
    label_selector: str = ""


@dataclass(frozen=True, slots=True)
class Decision:
    cel_type: ClassVar[str] = "kubernetes.authorization.Decision"
    allowed: bool
    reason: str
    error: str = ""


def resource_check(authorizer: Authorizer, group: str, resource: str, **more: str) -> Check:
    """Returns what `authorizer.requestResource` is: `more` may have subresource, namespace and name."""
    return Check(RESOURCE, authorizer, group, resource, **more)


def _check(one: Check, verb: str) -> Decision:
    where = (one.group, one.resource, one.subresource, one.namespace, one.name, one.path, verb)
    selectors = {"field_selector": one.field_selector, "label_selector": one.label_selector}
    given = {name: text for name, text in selectors.items() if text}
    try:
        allowed, reason = one.authorizer.ask(*where, account=one.authorizer.account, **given)
    except Exception as error:
        return Decision(False, "", str(error))
    return Decision(allowed, reason)


def _not_empty(what: str, text: str) -> str:
    if not text.strip():
        raise CelError(f"{what} must not be empty")
    return text


def _service_account(one: Authorizer, namespace: str, name: str) -> Authorizer:
    if names.dns1123_subdomain(name):
        raise CelError("Invalid service account name")
    if names.dns1123_label(namespace):
        raise CelError("Invalid service account namespace")
    return replace(one, account=(namespace, name))


GROUP, PATH, RESOURCE = (f"kubernetes.authorization.{one}Check" for one in ("Group", "Path", "Resource"))

LIBRARY: dict[str, Callable[..., Any]] = {
    "Authorizer->path(string) PathCheck": lambda one, path: Check(PATH, one, path=_not_empty("path", path)),
    "Authorizer->group(string) GroupCheck": lambda one, group: Check(GROUP, one, group=group),
    "Authorizer->serviceAccount(string, string) Authorizer": _service_account,
    "GroupCheck->resource(string) ResourceCheck": lambda one, name: replace(
        one, cel_type=RESOURCE, resource=_not_empty("resource", name)
    ),
    "ResourceCheck->subresource(string) ResourceCheck": lambda one, name: replace(one, subresource=name),
    "ResourceCheck->namespace(string) ResourceCheck": lambda one, name: replace(one, namespace=name),
    "ResourceCheck->name(string) ResourceCheck": lambda one, name: replace(one, name=name),
    "ResourceCheck->fieldSelector(string) ResourceCheck": lambda one, text: replace(one, field_selector=text),
    "ResourceCheck->labelSelector(string) ResourceCheck": lambda one, text: replace(one, label_selector=text),
    "ResourceCheck->check(string) Decision": _check,
    "PathCheck->check(string) Decision": _check,
    "Decision->allowed() bool": lambda one: one.allowed,
    "Decision->reason() string": lambda one: one.reason,
    "Decision->errored() bool": lambda one: bool(one.error),
    "Decision->error() string": lambda one: one.error,
}
