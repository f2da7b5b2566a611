"""ResourceQuota: what a namespace may use in all. Follows upstream's `pkg/apis/core/validation` (ResourceQuota)."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from proa.apis.define import columns, resource
from proa.apis.fields import Errors
from proa.apis.podspec.resources import is_hugepages, quantity_value, resource_name
from proa.apis.strategies import SpecKept, WithStatus
from proa.apis.tables import age
from proa.meta.errors import invalid_field, required_field
from proa.meta.objects import Obj, name_of
from proa.meta.quantity import parse

_COMPUTE = frozenset(
    {
        *("cpu", "memory", "ephemeral-storage"),
        *(f"{side}.{name}" for side in ("requests", "limits") for name in ("cpu", "memory", "ephemeral-storage")),
    }
)
_COUNTS = frozenset(
    {
        "pods",
        "resourcequotas",
        "services",
        "services.nodeports",
        "services.loadbalancers",
        "replicationcontrollers",
        "secrets",
        "configmaps",
        "persistentvolumeclaims",
        "requests.storage",
    }
)
_PODS = frozenset({"pods"})
# By scope, the resources that it can be applied to.
_SCOPES: dict[str, frozenset[str]] = {
    "Terminating": _PODS | _COMPUTE,
    "NotTerminating": _PODS | _COMPUTE,
    "BestEffort": _PODS,
    "NotBestEffort": _PODS | _COMPUTE,
    "PriorityClass": _PODS | _COMPUTE,
    "CrossNamespacePodAffinity": _PODS | _COMPUTE,
    "VolumeAttributesClass": frozenset({"persistentvolumeclaims", "requests.storage"}),
}
_CONFLICTS = ({"BestEffort", "NotBestEffort"}, {"Terminating", "NotTerminating"})
_EXISTS_ONLY = ("Terminating", "NotTerminating", "BestEffort", "NotBestEffort", "CrossNamespacePodAffinity")


class QuotaStrategy(WithStatus):
    schema = "io.k8s.api.core.v1.ResourceQuota"

    def validate(self, obj: Obj) -> Errors:
        spec = obj.get("spec") or {}
        hard = spec.get("hard") or {}
        return _amounts(hard, "spec.hard") + _scopes(spec, set(hard)) + _scope_selector(spec, set(hard))

    def validate_update(self, obj: Obj, old: Obj) -> Errors:
        errors = self.validate(obj)
        new, before = ((one.get("spec") or {}).get("scopes") or [] for one in (obj, old))
        if set(new) != set(before):
            errors.append(invalid_field("spec.scopes", new, "field is immutable"))
        return errors


def _is_standard(name: str) -> bool:
    return name in _COMPUTE or name in _COUNTS or is_hugepages(name.removeprefix("requests."))


def _amounts(amounts: dict[str, str], path: str) -> Errors:
    errors: Errors = []
    for name, text in amounts.items():
        at = f"{path}[{name}]"
        errors += resource_name(name, at)
        if "/" not in name and not _is_standard(name):
            errors.append(invalid_field(at, name, "must be a standard resource for quota"))
        errors += quantity_value(name, parse(text), at)
    return errors


def _scopes(spec: Obj, hard: set[str]) -> Errors:
    scopes = spec.get("scopes") or []
    errors: Errors = []
    for scope in scopes:
        errors += _scope(scope, hard, "spec.scopes", "spec.scopes", scopes)
    return errors + _conflicts(scopes, "spec.scopes", scopes)


def _scope(scope: str, hard: set[str], unknown_at: str, path: str, shown: Any) -> Errors:
    if scope not in _SCOPES:
        return [invalid_field(unknown_at, shown, "unsupported scope")]
    return [
        invalid_field(path, shown, "unsupported scope applied to resource")
        for name in sorted(hard)
        if _is_standard(name) and name not in _SCOPES[scope]
    ]


def _conflicts(scopes: list[str], path: str, shown: Any) -> Errors:
    return [invalid_field(path, shown, "conflicting scopes") for pair in _CONFLICTS if pair <= set(scopes)]


def _scope_selector(spec: Obj, hard: set[str]) -> Errors:
    selector = spec.get("scopeSelector")
    if selector is None:
        return []
    at = "spec.scopeSelector.matchExpressions"
    errors: Errors = []
    for one in selector.get("matchExpressions") or []:
        scope, operator, values = one.get("scopeName") or "", one.get("operator") or "", one.get("values") or []
        errors += _scope(scope, hard, f"{at}.scopeName", "spec.scopeSelector", selector)
        if scope in _EXISTS_ONLY and operator != "Exists":
            detail = f"must be 'Exists' when scope is any of {', '.join(_EXISTS_ONLY)}"
            errors.append(invalid_field(f"{at}.operator", operator, detail))
        if operator in ("In", "NotIn"):
            if not values:
                detail = "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector"
                errors.append(required_field(f"{at}.values", detail))
        elif operator in ("Exists", "DoesNotExist"):
            if values:
                detail = "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector"
                errors.append(invalid_field(f"{at}.values", values, detail))
        else:
            errors.append(invalid_field(f"{at}.operator", operator, "not a valid selector operator"))
    scopes = [one.get("scopeName") or "" for one in selector.get("matchExpressions") or []]
    return errors + _conflicts(scopes, at, selector)


class QuotaStatusStrategy(SpecKept):
    def validate_update(self, obj: Obj, old: Obj) -> Errors:
        status = obj.get("status") or {}
        return _amounts(status.get("hard") or {}, "status.hard") + _amounts(status.get("used") or {}, "status.used")


def _cells(obj: Obj, now: datetime) -> list[Any]:
    status = obj.get("status") or {}
    hard, used = status.get("hard") or {}, status.get("used") or {}
    requests: list[str] = []
    limits: list[str] = []
    for name in sorted(hard):
        text = f"{name}: {used.get(name) or '0'}/{hard[name]}"
        (limits if name.startswith("limits") else requests).append(text)
    return [name_of(obj), ", ".join(requests), ", ".join(limits), age(obj, now)]


RESOURCE_QUOTA = resource(
    "",
    "v1",
    "ResourceQuota",
    "resourcequotas",
    columns=columns("Name", "Request", "Limit", "Age"),
    cells=_cells,
    strategy=QuotaStrategy(),
    short_names=("quota",),
    status=QuotaStatusStrategy,
    storage_version_hash="8uhSgffRX6w=",
)
