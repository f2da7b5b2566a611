"""LimitRange: what one container, pod or claim may use, and what it gets by default. Follows upstream's
`pkg/apis/core/validation` (ValidateLimitRange)."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from proa.apis.define import columns, resource
from proa.apis.fields import Errors, problems
from proa.apis.podspec.resources import may_overcommit, resource_name
from proa.apis.registry import Strategy
from proa.meta import names
from proa.meta.errors import duplicate_field, forbidden_field, invalid_field, required_field
from proa.meta.objects import Obj, name_of
from proa.meta.quantity import Quantity, parse, parse_map

_TYPES = ("Pod", "Container", "PersistentVolumeClaim")
_PARTS = ("max", "min", "default", "defaultRequest", "maxLimitRequestRatio")


class LimitRangeStrategy(Strategy):
    allow_create_on_update = True

    def default(self, obj: Obj) -> None:
        for item in obj.setdefault("spec", {}).get("limits") or []:
            if item.get("type") == "Container":
                limits = {**(item.get("max") or {}), **(item.get("default") or {})}
                requests = {**(item.get("min") or {}), **limits, **(item.get("defaultRequest") or {})}
                for key, amounts in (("default", limits), ("defaultRequest", requests)):
                    if amounts:
                        item[key] = dict(sorted(amounts.items()))

    def validate(self, obj: Obj) -> Errors:
        errors: Errors = []
        seen: set[str] = set()
        for index, item in enumerate((obj.get("spec") or {}).get("limits") or []):
            path, kind = f"spec.limits[{index}]", item.get("type") or ""
            errors += _type(kind, f"{path}.type")
            if kind in seen:
                errors.append(duplicate_field(f"{path}.type", kind))
            seen.add(kind)
            errors += _item(item, kind, path)
        return errors


def _type(kind: str, path: str) -> Errors:
    errors = problems(names.qualified_name(kind), path, kind)
    if not errors and "/" not in kind and kind not in _TYPES:
        errors.append(invalid_field(path, kind, "must be a standard limit type or fully qualified"))
    return errors


def _item(item: Obj, kind: str, path: str) -> Errors:
    errors: Errors = []
    amounts = {part: parse_map(item.get(part)) for part in _PARTS}
    for part in _PARTS:
        if kind == "Pod" and part in ("default", "defaultRequest"):
            if amounts[part]:
                detail = "may not be specified when `type` is 'Pod'"
                errors.append(forbidden_field(f"{path}.{part}", detail))
            continue
        for name in amounts[part]:
            errors += resource_name(name, f"{path}.{part}[{name}]")
    if kind == "PersistentVolumeClaim" and "storage" not in {**amounts["min"], **amounts["max"]}:
        detail = "either minimum or maximum storage value is required, but neither was provided"
        errors.append(required_field(f"{path}.limits", detail))
    for name in dict.fromkeys(name for part in _PARTS for name in amounts[part]):
        errors += _relations(name, {part: amounts[part].get(name) for part in _PARTS}, path)
    return errors


# (smaller, larger, where the error is, whose value it shows, what the message calls the two)
_ORDER = (
    ("min", "max", "min", "min", "min value {} is greater than max value {}"),
    (
        "min",
        "defaultRequest",
        "defaultRequest",
        "defaultRequest",
        "min value {} is greater than default request value {}",
    ),
    (
        "defaultRequest",
        "max",
        "defaultRequest",
        "defaultRequest",
        "default request value {} is greater than max value {}",
    ),
    (
        "defaultRequest",
        "default",
        "defaultRequest",
        "defaultRequest",
        "default request value {} is greater than default limit value {}",
    ),
    ("min", "default", "default", "min", "min value {} is greater than default value {}"),
    ("default", "max", "default", "max", "default value {} is greater than max value {}"),
)


def _relations(name: str, amounts: dict[str, Quantity | None], path: str) -> Errors:
    errors: Errors = []
    for low, high, where, shown, text in _ORDER:
        smaller, larger = amounts[low], amounts[high]
        if smaller is not None and larger is not None and smaller.nano > larger.nano:
            detail = text.format(smaller, larger)
            errors.append(invalid_field(f"{path}.{where}[{name}]", str(amounts[shown]), detail))
    ratio, least, most = amounts["maxLimitRequestRatio"], amounts["min"], amounts["max"]
    at = f"{path}.maxLimitRequestRatio[{name}]"
    if ratio is not None and ratio.nano < parse("1").nano:
        errors.append(invalid_field(at, str(ratio), f"ratio {ratio} is less than 1"))
    if ratio is not None and least is not None and most is not None and least.nano:
        bound = most.nano / least.nano
        if ratio.nano / parse("1").nano > bound:
            errors.append(invalid_field(at, str(ratio), f"ratio {ratio} is greater than max/min = {bound:f}"))
    limit, request = amounts["default"], amounts["defaultRequest"]
    if limit is not None and request is not None and limit.nano != request.nano and not may_overcommit(name):
        detail = f"default value {limit} must equal to defaultRequest value {request} in {name}"
        errors.append(invalid_field(f"{path}.defaultRequest[{name}]", str(request), detail))
    return errors


def _cells(obj: Obj, now: datetime) -> list[Any]:
    return [name_of(obj), obj["metadata"].get("creationTimestamp")]


LIMIT_RANGE = resource(
    "",
    "v1",
    "LimitRange",
    "limitranges",
    columns=columns("Name", "Created At:date"),
    cells=_cells,
    strategy=LimitRangeStrategy(),
    short_names=("limits",),
    storage_version_hash="EBKMFVe6cwo=",
)
