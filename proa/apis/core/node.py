"""Node: addresses of its pods, taints, what it has to give. Follows upstream's `pkg/registry/core/node`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec

from proa.apis.define import columns, resource
from proa.apis.fields import NEGATIVE, ROOT, Errors, is_ipv6, one_of, problems
from proa.apis.podspec.scheduling import TAINT_EFFECTS
from proa.apis.registry import Strategy, Subresource
from proa.apis.strategies import SpecKept, keep
from proa.apis.tables import age, or_none
from proa.meta import names
from proa.meta.errors import FieldError, duplicate_field, forbidden_field, invalid_field
from proa.meta.gvk import GVK
from proa.meta.objects import Obj, annotations_of, labels_of, name_of
from proa.meta.quantity import parse

_AVOID_PODS = "scheduler.alpha.kubernetes.io/preferAvoidPods"
_ROLE_PREFIX, _ROLE_LABEL = "node-role.kubernetes.io/", "kubernetes.io/role"


class NodeStrategy(Strategy):
    field_labels = ("spec.unschedulable",)

    def default(self, obj: Obj) -> None:
        spec = obj.setdefault("spec", {})
        first, ranges = spec.get("podCIDR"), spec.get("podCIDRs")
        if first and (not ranges or ranges[0] != first):
            spec["podCIDRs"] = [first]
        elif ranges and not first:
            spec["podCIDR"] = ranges[0]
        status = obj.setdefault("status", {})
        if status.get("allocatable") is None and status.get("capacity"):
            status["allocatable"] = dict(status["capacity"])

    def prepare_update(self, obj: Obj, old: Obj) -> None:
        keep(obj, old, "status")

    def validate(self, obj: Obj) -> Errors:
        spec, status = obj.get("spec") or {}, obj.get("status") or {}
        errors = _avoid_pods(obj) + taints(spec.get("taints") or [], "metadata.taints")
        for key in ("capacity", "allocatable"):
            errors += [
                invalid_field(f"status.{key}.{name}", str(parse(text)), NEGATIVE)
                for name, text in (status.get(key) or {}).items()
                if parse(text).nano < 0
            ]
        return errors + _ranges(spec.get("podCIDRs") or [])

    def validate_update(self, obj: Obj, old: Obj) -> Errors:
        return _update(obj, old)

    def selectable_fields(self, obj: Obj) -> Mapping[str, str]:
        return {"spec.unschedulable": "true" if (obj.get("spec") or {}).get("unschedulable") else "false"}


def _avoid_pods(obj: Obj) -> Errors:
    text = annotations_of(obj).get(_AVOID_PODS)
    if not text:
        return []
    try:
        msgspec.json.decode(text.encode())
    except msgspec.DecodeError as error:
        return [invalid_field("metadata.annotations.AvoidPods", _AVOID_PODS, str(error))]
    return []


def taints(items: list[Obj], path: str) -> Errors:
    errors: Errors = []
    seen: set[tuple[str, str]] = set()
    for index, taint in enumerate(items):
        at = f"{path}[{index}]"
        key, value, effect = (taint.get(name) or "" for name in ("key", "value", "effect"))
        errors += problems(names.qualified_name(key), f"{at}.key", key)
        errors += problems(names.label_value(value), f"{at}.value", value)
        errors += one_of(effect, f"{at}.effect", TAINT_EFFECTS, missing="required")
        if (key, effect) in seen:
            shown = {"Key": key, "Value": value, "Effect": effect, "TimeAdded": taint.get("timeAdded")}
            detail = "taints must be unique by key and effect pair"
            errors.append(FieldError("FieldValueDuplicate", at, shown, detail))
        seen.add((key, effect))
    return errors


def _ranges(items: list[str]) -> Errors:
    errors: Errors = []
    for index, one in enumerate(items):
        errors += problems(names.cidr(one), f"spec.podCIDRs[{index}]", one)
    if not errors and len(items) > 1 and (len(items) > 2 or is_ipv6(items[0]) == is_ipv6(items[1])):
        detail = "may specify no more than one CIDR for each IP family"
        errors.append(invalid_field("spec.podCIDRs", items, detail))
    return errors


def _update(obj: Obj, old: Obj) -> Errors:
    spec, before = obj.get("spec") or {}, old.get("spec") or {}
    errors = _avoid_pods(obj) + taints(spec.get("taints") or [], "metadata.taints")
    errors += _addresses((obj.get("status") or {}).get("addresses") or [])
    change = 'except from "" to valid'
    if before.get("podCIDRs") and before["podCIDRs"] != spec.get("podCIDRs"):
        errors.append(forbidden_field("spec.podCIDRs", f"node updates may not change podCIDR {change}"))
    elif not before.get("podCIDRs"):
        errors += _ranges(spec.get("podCIDRs") or [])
    if before.get("providerID") and before["providerID"] != spec.get("providerID"):
        errors.append(forbidden_field("spec.providerID", f"node updates may not change providerID {change}"))
    if spec.get("externalID") != before.get("externalID"):
        detail = "node updates may only change labels, taints, or capacity (or configSource, if configured)"
        errors.append(forbidden_field(ROOT, detail))
    return errors


def _addresses(items: list[Obj]) -> Errors:
    errors: Errors = []
    for index, one in enumerate(items):
        if one in items[:index]:
            errors.append(duplicate_field(f"status.addresses[{index}]", one))
    return errors


class NodeStatusStrategy(SpecKept):
    def validate_update(self, obj: Obj, old: Obj) -> Errors:
        return _update(obj, old)


def _status(obj: Obj) -> str:
    ready = [one for one in (obj.get("status") or {}).get("conditions") or [] if one.get("type") == "Ready"]
    words = ["Ready" if one.get("status") == "True" else "NotReady" for one in ready] or ["Unknown"]
    if (obj.get("spec") or {}).get("unschedulable"):
        words.append("SchedulingDisabled")
    return ",".join(words)


def _roles(obj: Obj) -> str:
    roles = {key.removeprefix(_ROLE_PREFIX) for key in labels_of(obj) if key.startswith(_ROLE_PREFIX)}
    roles |= {value for key, value in labels_of(obj).items() if key == _ROLE_LABEL and value}
    return or_none(",".join(sorted(role for role in roles if role)))


def _cells(obj: Obj, now: datetime) -> list[Any]:
    status = obj.get("status") or {}
    info = status.get("nodeInfo") or {}
    addresses: dict[str, str] = {}
    for one in status.get("addresses") or []:
        addresses.setdefault(one.get("type") or "", one.get("address") or "")
    return [
        name_of(obj),
        _status(obj),
        _roles(obj),
        age(obj, now),
        info.get("kubeletVersion") or "",
        or_none(addresses.get("InternalIP")),
        or_none(addresses.get("ExternalIP")),
        info.get("osImage") or "<unknown>",
        info.get("kernelVersion") or "<unknown>",
        info.get("containerRuntimeVersion") or "<unknown>",
    ]


NODE = resource(
    "",
    "v1",
    "Node",
    "nodes",
    columns=columns(
        "Name",
        "Status",
        "Roles",
        "Age",
        "Version",
        "Internal-IP+",
        "External-IP+",
        "OS-Image+",
        "Kernel-Version+",
        "Container-Runtime+",
    ),
    cells=_cells,
    strategy=NodeStrategy(),
    namespaced=False,
    short_names=("no",),
    status=NodeStatusStrategy,
    subresources=(
        Subresource(
            name="proxy", verbs=("create", "delete", "get", "patch", "update"), kind=GVK("", "v1", "NodeProxyOptions")
        ),
    ),
    storage_version_hash="XwShjMxG9Fs=",
)
