"""What validating and mutating webhook configurations share: defaults and validation of their webhooks."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from proa.apis import fields, tables
from proa.apis.admissionregistration.matching import (
    FAILURE_POLICIES,
    MATCH_POLICIES,
    default_rule,
    match_conditions,
    rule_with_operations,
)
from proa.apis.fields import Errors, problems
from proa.apis.registry import Strategy
from proa.apis.shape import child, children, drop_zero, set_default
from proa.meta import names
from proa.meta.errors import invalid_field, required_field, unsupported_field
from proa.meta.objects import Obj, name_of

_REVIEW_VERSIONS = ("v1", "v1beta1")
_SIDE_EFFECTS = ("None", "NoneOnDryRun")
_TIMEOUT_SECONDS_MAX = 30
_URL_FORM = "; desired format: https://host[/path]"


class WebhookConfigurationStrategy(Strategy):
    generation = True
    mutating = False

    def default(self, obj: Obj) -> None:
        drop_zero(obj, "webhooks")
        for webhook in children(obj, "webhooks"):
            _default_webhook(webhook)
            if self.mutating:
                set_default(webhook, "reinvocationPolicy", "Never")

    def validate(self, obj: Obj) -> Errors:
        errors: Errors = []
        webhooks = children(obj, "webhooks")
        for index, webhook in enumerate(webhooks):
            errors += _webhook(webhook, f"webhooks[{index}]")
            if self.mutating:
                policies = ("IfNeeded", "Never")
                policy = webhook.get("reinvocationPolicy")
                errors += fields.one_of(policy, f"webhooks[{index}].reinvocationPolicy", policies, missing="skip")
        return errors + fields.unique(webhooks, "webhooks", lambda one: one.get("name"), "name")


def default_client_config(config: Obj) -> None:
    service = config.get("service")
    if service is not None:
        set_default(service, "port", 443)


def _default_webhook(webhook: Obj) -> None:
    default_client_config(child(webhook, "clientConfig"))
    for key, value in (("failurePolicy", "Fail"), ("matchPolicy", "Equivalent"), ("timeoutSeconds", 10)):
        set_default(webhook, key, value)
    child(webhook, "namespaceSelector")
    child(webhook, "objectSelector")
    drop_zero(webhook, "rules", "matchConditions")
    for rule in children(webhook, "rules"):
        default_rule(rule)


def _webhook(webhook: Obj, path: str) -> Errors:
    name = webhook.get("name") or ""
    errors = problems(names.fully_qualified_name(name), f"{path}.name", name) if name else []
    if not name:
        errors.append(required_field(f"{path}.name"))
    errors += _review_versions(webhook.get("admissionReviewVersions") or [], f"{path}.admissionReviewVersions")
    for index, rule in enumerate(children(webhook, "rules")):
        errors += rule_with_operations(rule, f"{path}.rules[{index}]")
    errors += fields.one_of(webhook.get("failurePolicy"), f"{path}.failurePolicy", FAILURE_POLICIES, missing="skip")
    errors += fields.one_of(webhook.get("matchPolicy"), f"{path}.matchPolicy", MATCH_POLICIES, missing="skip")
    effects = webhook.get("sideEffects")
    if effects is None:
        errors.append(required_field(f"{path}.sideEffects", f"must specify one of {', '.join(_SIDE_EFFECTS)}"))
    elif effects not in _SIDE_EFFECTS:
        errors.append(unsupported_field(f"{path}.sideEffects", effects, _SIDE_EFFECTS))
    seconds = webhook.get("timeoutSeconds")
    if seconds is not None and not 1 <= seconds <= _TIMEOUT_SECONDS_MAX:
        detail = f"the timeout value must be between 1 and {_TIMEOUT_SECONDS_MAX} seconds"
        errors.append(invalid_field(f"{path}.timeoutSeconds", seconds, detail))
    for key in ("namespaceSelector", "objectSelector"):
        errors += fields.label_selector(webhook.get(key), f"{path}.{key}")
    errors += client_config(webhook.get("clientConfig") or {}, f"{path}.clientConfig")
    return errors + match_conditions(webhook, f"{path}.matchConditions")


def _review_versions(versions: list[str], path: str) -> Errors:
    if not versions:
        return [required_field(path, f"must specify one of {', '.join(_REVIEW_VERSIONS)}")]
    errors: Errors = []
    for index, version in enumerate(versions):
        if version in versions[:index]:
            errors.append(invalid_field(f"{path}[{index}]", version, "duplicate version"))
        errors += problems(names.dns1035_label(version), f"{path}[{index}]", version)
    if not set(versions).intersection(_REVIEW_VERSIONS):
        detail = f"must include at least one of {', '.join(_REVIEW_VERSIONS)}"
        errors.append(invalid_field(path, versions, detail))
    return errors


def client_config(config: Obj, path: str) -> Errors:
    """Checks where a webhook is: either at a URL or at a service."""
    url, service = config.get("url"), config.get("service")
    if (url is None) == (service is None):
        return [required_field(path, "exactly one of url or service is required")]
    return webhook_url(url, f"{path}.url") if url is not None else webhook_service(service or {}, f"{path}.service")


def webhook_url(url: str, path: str) -> Errors:
    try:
        parts = urlsplit(url)
    except ValueError as error:
        return [required_field(path, f"url must be a valid URL: {error}{_URL_FORM}")]
    errors: Errors = []
    if parts.scheme != "https":
        errors.append(invalid_field(path, parts.scheme, f"'https' is the only allowed URL scheme{_URL_FORM}"))
    if not parts.hostname:
        errors.append(invalid_field(path, parts.netloc, f"host must be specified{_URL_FORM}"))
    user, at, _ = parts.netloc.rpartition("@")
    for given, shown, what in (
        (at, user, "user information is"),
        (parts.fragment, parts.fragment, "fragments are"),
        (parts.query, parts.query, "query parameters are"),
    ):
        if given:
            errors.append(invalid_field(path, shown, f"{what} not permitted in the URL"))
    return errors


def webhook_service(service: Obj, path: str) -> Errors:
    errors: Errors = []
    if not service.get("name"):
        errors.append(required_field(f"{path}.name"))
    if not service.get("namespace"):
        errors.append(required_field(f"{path}.name"))  # upstream names the wrong field, too
    errors += fields.port_number(service.get("port") or 443, f"{path}.port")
    route = service.get("path")
    return errors + (_service_path(route, f"{path}.path") if route is not None else [])


def _service_path(route: str, path: str) -> Errors:
    if route == "/" or not route:
        return []
    if route == "//":
        return [invalid_field(path, route, "segment[0] may not be empty")]
    if not route.startswith("/"):
        return [invalid_field(path, route, "must start with a '/'")]
    errors: Errors = []
    steps = route[1:].removesuffix("/").split("/")
    for index, step in enumerate(steps):
        if not step:
            errors.append(invalid_field(path, route, f"segment[{index}] may not be empty"))
        else:
            errors += problems(names.dns1123_subdomain(step), path, route)
    return errors


def cells(obj: Obj, now: datetime) -> Sequence[Any]:
    return name_of(obj), len(children(obj, "webhooks")), tables.age(obj, now)
