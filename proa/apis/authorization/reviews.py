"""What is valid in the access reviews of authorization.k8s.io. They are answered, never stored.

A review's 422 names its group without a kind, as upstream's does (`.authorization.k8s.io "" is invalid`).
"""

from __future__ import annotations

from proa.apis.fields import Errors
from proa.apis.registry import Strategy
from proa.apis.shape import child
from proa.meta.errors import forbidden_field, invalid_field, required_field
from proa.meta.objects import Obj, namespace_of

_EITHER = "exactly one of nonResourceAttributes or resourceAttributes must be specified"
_OPERATORS_WITH_VALUES = ("In", "NotIn")
_OPERATORS_WITHOUT = ("Exists", "DoesNotExist")


class AccessReviewStrategy(Strategy):
    """A review of what someone may do; `about_self` if that is whoever asks."""

    about_self = True

    def default(self, obj: Obj) -> None:
        child(obj, "spec")

    def prepare_create(self, obj: Obj) -> None:
        obj.pop("status", None)

    def validate(self, obj: Obj) -> Errors:
        spec = obj.get("spec") or {}
        errors: Errors = []
        if not self.about_self and not spec.get("user") and not spec.get("groups"):
            errors.append(invalid_field("spec.user", "", "at least one of user or group must be specified"))
        return _attributes(spec) + errors


class LocalAccessReviewStrategy(AccessReviewStrategy):
    about_self = False

    def validate(self, obj: Obj) -> Errors:
        spec = obj.get("spec") or {}
        errors = super().validate(obj)
        if spec.get("nonResourceAttributes") is not None:
            detail = "disallowed on this kind of request"
            return [invalid_field("spec.nonResourceAttributes", spec["nonResourceAttributes"], detail)]
        attributes = spec.get("resourceAttributes")
        namespace = (attributes or {}).get("namespace") or ""
        if attributes is not None and namespace != namespace_of(obj):
            detail = "must match metadata.namespace"
            errors.append(invalid_field("spec.resourceAttributes.namespace", namespace, detail))
        return errors


def _attributes(spec: Obj) -> Errors:
    resource, other = spec.get("resourceAttributes"), spec.get("nonResourceAttributes")
    errors: Errors = []
    if resource is not None and other is not None:
        detail = "cannot be specified in combination with resourceAttributes"
        errors.append(invalid_field("spec.nonResourceAttributes", other, detail))
    if resource is None and other is None:
        errors.append(invalid_field("spec.resourceAttributes", None, _EITHER))
    for key in ("fieldSelector", "labelSelector"):
        selector = (resource or {}).get(key)
        if selector is not None:
            errors += _selector(selector, f"spec.resourceAttributes.{key}")
    return errors


def _selector(selector: Obj, path: str) -> Errors:
    raw, requirements = selector.get("rawSelector") or "", selector.get("requirements") or []
    errors: Errors = []
    if raw and requirements:
        detail = "may not specified at the same time as requirements"
        errors.append(invalid_field(f"{path}.rawSelector", raw, detail))
    if not raw and not requirements:
        detail = f"when {path} is specified, requirements or rawSelector is required"
        errors.append(required_field(f"{path}.requirements", detail))
    for index, one in enumerate(requirements):
        errors += _requirement(one, f"{path}.requirements[{index}]")
    return errors


def _requirement(one: Obj, path: str) -> Errors:
    errors: Errors = []
    if not one.get("key"):
        errors.append(required_field(f"{path}.key", "must be specified"))
    operator, values = one.get("operator") or "", one.get("values")
    if operator in _OPERATORS_WITH_VALUES:
        if not values:
            errors.append(required_field(f"{path}.values", "must be specified when `operator` is 'In' or 'NotIn'"))
    elif operator in _OPERATORS_WITHOUT:
        if values:
            detail = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
            errors.append(forbidden_field(f"{path}.values", detail))
    else:
        errors.append(invalid_field(f"{path}.operator", operator, "not a valid selector operator"))
    return errors
