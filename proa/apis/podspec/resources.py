"""Validation of resource requirements: of containers, of pods as a whole, of overhead.

Follows upstream's `pkg/apis/core/validation` (ValidateResourceRequirements) and `pkg/apis/core/helper`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from proa.apis.fields import NEGATIVE, Errors, problems
from proa.meta import names
from proa.meta.errors import (
    FieldError,
    duplicate_field,
    forbidden_field,
    invalid_field,
    required_field,
    unsupported_field,
)
from proa.meta.objects import Obj
from proa.meta.quantity import Quantity, parse

HUGEPAGES = "hugepages-"
POD_LEVEL = ("cpu", HUGEPAGES, "memory")
_CONTAINER = ("cpu", "memory", "ephemeral-storage")
_STANDARD = frozenset(
    {
        *_CONTAINER,
        "storage",
        "requests.storage",
        *(f"{side}.{name}" for side in ("requests", "limits") for name in _CONTAINER),
        "pods",
        "resourcequotas",
        "services",
        "services.nodeports",
        "services.loadbalancers",
        "replicationcontrollers",
        "secrets",
        "configmaps",
        "persistentvolumeclaims",
    }
)
_COUNTED = frozenset(
    {
        "pods",
        "services",
        "replicationcontrollers",
        "resourcequotas",
        "secrets",
        "configmaps",
        "persistentvolumeclaims",
        "services.nodeports",
        "services.loadbalancers",
    }
)
NATIVE_DOMAIN = "kubernetes.io/"


def is_hugepages(name: str) -> bool:
    return name.startswith(HUGEPAGES)


def is_native(name: str) -> bool:
    return "/" not in name or NATIVE_DOMAIN in name


def is_extended(name: str) -> bool:
    """Tells whether a resource is one that a device plugin or an administrator made up."""
    return not is_native(name) and not name.startswith("requests.") and not names.qualified_name(f"requests.{name}")


def may_overcommit(name: str) -> bool:
    return is_native(name) and not is_hugepages(name)


def is_standard(name: str) -> bool:
    return name in _STANDARD or is_hugepages(name) or name.startswith("requests.hugepages-")


def is_counted(name: str) -> bool:
    """Tells whether only whole numbers of it make sense."""
    return name in _COUNTED or is_extended(name)


def resource_name(name: str, path: str) -> Errors:
    errors = problems(names.qualified_name(name), path, name)
    if errors:
        return errors
    if "/" not in name and not is_standard(name):
        return [invalid_field(path, name, "must be a standard resource type or fully qualified")]
    return []


def container_resource_name(name: str, path: str) -> Errors:
    errors = resource_name(name, path)
    if "/" not in name:
        if name not in _CONTAINER and not is_hugepages(name):
            errors.append(invalid_field(path, name, "must be a standard resource for containers"))
    elif not is_native(name) and not is_extended(name):
        errors.append(invalid_field(path, name, "doesn't follow extended resource name standard"))
    return errors


def quantity_value(name: str, quantity: Quantity, path: str) -> Errors:
    """Checks that an amount is not negative, and whole where only whole amounts make sense."""
    errors: Errors = []
    if quantity.nano < 0:
        errors.append(invalid_field(path, str(quantity), NEGATIVE))
    if is_counted(name) and quantity.milli_value % 1000:
        errors.append(invalid_field(path, str(quantity), "must be an integer"))
    return errors


def _hugepage_value(name: str, quantity: Quantity, path: str) -> Errors:
    try:
        page = parse(name.removeprefix(HUGEPAGES)).nano
    except ValueError:
        page = 0
    if not page or quantity.nano % page:
        return [invalid_field(path, str(quantity), f"{quantity} is not positive integer multiple of {name}")]
    return []


def requirements(resources: Obj | None, claims: Collection[str], path: str) -> Errors:
    """Checks a container's resources; `claims` are the names of the pod's resource claims."""
    if not resources:
        return []
    errors: Errors = []
    limits, requests = resources.get("limits") or {}, resources.get("requests") or {}
    for name, text in limits.items():
        errors += _amount(name, parse(text), f"{path}.limits[{name}]")
    for name, text in requests.items():
        quantity = parse(text)
        errors += _amount(name, quantity, f"{path}.requests[{name}]")
        errors += _within_limit(name, quantity, limits, path)
    named = {*limits, *requests}
    if any(is_hugepages(name) for name in named) and not named & {"cpu", "memory"}:
        errors.append(forbidden_field(path, "HugePages require cpu or memory"))
    return errors + _claims(resources.get("claims") or [], claims, f"{path}.claims")


def _amount(name: str, quantity: Quantity, path: str) -> Errors:
    errors = container_resource_name(name, path) + quantity_value(name, quantity, path)
    if is_hugepages(name):
        errors += _hugepage_value(name, quantity, path)
    return errors


def _within_limit(name: str, quantity: Quantity, limits: Mapping[str, str], path: str) -> Errors:
    if name not in limits:
        if may_overcommit(name):
            return []
        return [required_field(f"{path}.limits", "Limit must be set for non overcommitable resources")]
    limit = parse(limits[name])
    if not may_overcommit(name) and quantity.nano != limit.nano:
        return [invalid_field(f"{path}.requests", str(quantity), f"must be equal to {name} limit of {limit}")]
    if quantity.nano > limit.nano:
        detail = f"must be less than or equal to {name} limit of {limit}"
        return [invalid_field(f"{path}.requests", str(quantity), detail)]
    return []


def _claims(items: list[Obj], known: Collection[str], path: str) -> Errors:
    errors: Errors = []
    seen: set[tuple[str, str]] = set()
    for index, claim in enumerate(items):
        at = f"{path}[{index}]"
        name, request = claim.get("name") or "", claim.get("request") or ""
        if not name:
            errors.append(required_field(f"{at}.name"))
        else:
            if (name, request) in seen:
                errors.append(duplicate_field(at, name))
            if name not in known:
                detail = "must be one of the names in pod.spec.resourceClaims"
                if not known:
                    detail += " which is empty"
                errors.append(FieldError("FieldValueNotFound", at, name, detail))
        seen.add((name, request))
        if request:
            errors += problems(names.dns1123_label(request), f"{at}.request", request)
    return errors


def pod_level(resources: Obj | None, spec: Obj, path: str) -> Errors:
    """Checks resources of a pod as a whole, also against those of its containers."""
    if not resources:
        return []
    errors: Errors = []
    if resources.get("claims"):
        errors.append(forbidden_field(f"{path}.claims", "claims may not be set for Resources at pod-level"))
    limits, requests = resources.get("limits") or {}, resources.get("requests") or {}
    for side, amounts in (("limits", limits), ("requests", requests)):
        for name, text in amounts.items():
            at = f"{path}.{side}[{name}]"
            if name not in POD_LEVEL and not is_hugepages(name):
                errors.append(unsupported_field(at, name, POD_LEVEL))
                continue
            errors += quantity_value(name, parse(text), at)
            if is_hugepages(name):
                errors += _hugepage_value(name, parse(text), at)
            if side == "requests" and name in limits:
                errors += _within_limit(name, parse(text), limits, path)
    errors += _covers_containers(requests, limits, spec, path)
    return errors


def _covers_containers(requests: Mapping[str, str], limits: Mapping[str, str], spec: Obj, path: str) -> Errors:
    errors: Errors = []
    for name, text in requests.items():
        total = 0
        for container in spec.get("containers") or []:
            total += parse(((container.get("resources") or {}).get("requests") or {}).get(name)).nano
        if total > parse(text).nano:
            detail = f"must be greater than or equal to aggregate container requests of {Quantity(total)}"
            errors.append(invalid_field(f"{path}.requests[{name}]", str(parse(text)), detail))
    for name, text in limits.items():
        for index, container in enumerate(spec.get("containers") or []):
            own = ((container.get("resources") or {}).get("limits") or {}).get(name)
            if own is not None and parse(own).nano > parse(text).nano:
                at = f"{path.removesuffix('.resources')}.containers[{index}].resources.limits"
                errors.append(invalid_field(at, str(parse(own)), f"must be less than or equal to pod limits of {text}"))
    return errors


def overhead(amounts: Mapping[str, str] | None, path: str) -> Errors:
    errors: Errors = []
    for name, text in (amounts or {}).items():
        at = f"{path}.limits[{name}]"
        errors += _amount(name, parse(text), at)
    return errors


_RESIZE_RESOURCES = ("cpu", "memory")
_RESIZE_POLICIES = ("NotRequired", "RestartContainer")


def resize_policy(items: list[Obj] | None, restart_policy: str, path: str) -> Errors:
    errors: Errors = []
    seen: set[str] = set()
    for index, one in enumerate(items or []):
        name, policy = one.get("resourceName") or "", one.get("restartPolicy") or ""
        if name in seen:
            errors.append(duplicate_field(f"{path}[{index}]", name))
        seen.add(name)
        if name not in _RESIZE_RESOURCES:
            errors.append(unsupported_field(path, name, _RESIZE_RESOURCES) if name else required_field(path))
        if policy not in _RESIZE_POLICIES:
            errors.append(unsupported_field(path, policy, _RESIZE_POLICIES) if policy else required_field(path))
        if restart_policy == "Never" and policy == "RestartContainer":
            detail = "must be 'NotRequired' when `restartPolicy` is 'Never'"
            errors.append(invalid_field(path, policy, detail))
    return errors
