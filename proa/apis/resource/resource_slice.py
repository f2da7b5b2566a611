"""ResourceSlice, as of resource.k8s.io/v1: the devices that a driver offers, on a node or for many."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from proa.apis import fields, tables
from proa.apis.define import columns, resource
from proa.apis.fields import Errors, problems
from proa.apis.podspec.scheduling import node_selector
from proa.apis.registry import Strategy
from proa.apis.resource.devices import driver_name, limited, qualified_attribute
from proa.apis.shape import child, children, drop_zero
from proa.meta import names
from proa.meta.errors import duplicate_field, invalid_field, required_field
from proa.meta.objects import Obj, name_of

_DEVICES_MAX = 128
_POOL_LENGTH_MAX = 253
_PLACES = ("nodeName", "nodeSelector", "allNodes", "perDeviceNodeSelection")
_VALUE_KEYS = ("int", "bool", "string", "version")


class ResourceSliceStrategy(Strategy):
    generation = True
    field_labels = ("spec.driver", "spec.nodeName")

    def selectable_fields(self, obj: Obj) -> Mapping[str, str]:
        spec = obj.get("spec") or {}
        return {"spec.nodeName": spec.get("nodeName") or "", "spec.driver": spec.get("driver") or ""}

    def default(self, obj: Obj) -> None:
        spec = child(obj, "spec")
        child(spec, "pool")
        drop_zero(spec, "devices", "sharedCounters")

    def validate(self, obj: Obj) -> Errors:
        spec = obj.get("spec") or {}
        errors = driver_name(spec.get("driver") or "", "spec.driver")
        errors += _pool(spec.get("pool") or {}, "spec.pool")
        node = spec.get("nodeName")
        if node is not None:
            missing = [required_field("spec.nodeName", "must be either unset or set to a non-empty string")]
            errors += problems(names.dns1123_subdomain(node), "spec.nodeName", node) if node else missing
        if spec.get("nodeSelector") is not None:
            errors += node_selector(spec["nodeSelector"], "spec.nodeSelector")
        given = [key for key in _PLACES if spec.get(key) not in (None, False)]
        detail = "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required"
        if not given:
            errors.append(required_field("spec", detail))
        elif len(given) > 1:
            errors.append(invalid_field("spec", "{" + ", ".join(given) + "}", detail))
        devices = children(spec, "devices")
        errors += limited(devices, _DEVICES_MAX, "spec.devices", _device)
        return errors + fields.unique(devices, "spec.devices", lambda one: one.get("name"), "name")

    def validate_update(self, obj: Obj, old: Obj) -> Errors:
        errors = self.validate(obj)
        spec, before = obj.get("spec") or {}, old.get("spec") or {}
        for key in ("nodeName", "nodeSelector", "allNodes", "driver"):
            if not fields.same(spec.get(key), before.get(key)):
                errors.append(invalid_field(f"spec.{key}", spec.get(key), fields.IMMUTABLE))
        pools = ((one.get("pool") or {}).get("name") for one in (spec, before))
        new, was = pools
        return errors + fields.immutable(new, was, "spec.pool.name")


def _pool(pool: Obj, path: str) -> Errors:
    name = pool.get("name") or ""
    errors: Errors = []
    if not name:
        errors.append(required_field(f"{path}.name"))
    elif len(name) > _POOL_LENGTH_MAX:
        errors.append(invalid_field(f"{path}.name", name, names.too_long(_POOL_LENGTH_MAX)))
    else:
        for part in name.split("/"):
            errors += problems(names.dns1123_subdomain(part), f"{path}.name", part)
    generation, count = pool.get("generation") or 0, pool.get("resourceSliceCount") or 0
    if generation < 0:
        errors.append(invalid_field(f"{path}.generation", generation, "must be greater than or equal to zero"))
    return errors + fields.positive(count, f"{path}.resourceSliceCount", "must be greater than zero")


def _device(device: Obj, path: str) -> Errors:
    name = device.get("name") or ""
    errors = problems(names.dns1123_label(name), f"{path}.name", name) if name else [required_field(f"{path}.name")]
    for key, value in (device.get("attributes") or {}).items():
        where = f"{path}.attributes[{key}]"
        errors += qualified_attribute(key, f"{path}.attributes")
        given = [kind for kind in _VALUE_KEYS if value.get(kind) is not None]
        if len(given) != 1:
            detail = "exactly one value must be specified"
            errors.append(invalid_field(where, value, detail) if given else required_field(where, detail))
    for key in device.get("capacity") or {}:
        errors += qualified_attribute(key, f"{path}.capacity")
    seen: set[tuple[str, str]] = set()
    for index, taint in enumerate(children(device, "taints")):
        which = (taint.get("key") or "", taint.get("effect") or "")
        errors += problems(names.qualified_name(which[0]), f"{path}.taints[{index}].key", which[0])
        effects = ("NoExecute", "NoSchedule", "None")
        errors += fields.one_of(which[1], f"{path}.taints[{index}].effect", effects, missing="required")
        if which in seen:
            errors.append(duplicate_field(f"{path}.taints[{index}]", taint))
        seen.add(which)
    return errors


def cells(obj: Obj, now: datetime) -> Sequence[Any]:
    spec = obj.get("spec") or {}
    node = spec.get("nodeName") or (tables.UNSET if not spec.get("allNodes") else "<all>")
    return name_of(obj), node, spec.get("driver", ""), (spec.get("pool") or {}).get("name", ""), tables.age(obj, now)


RESOURCE_SLICE = resource(
    "resource.k8s.io",
    "v1",
    "ResourceSlice",
    "resourceslices",
    columns=columns("Name", "Node", "Driver", "Pool", "Age"),
    cells=cells,
    strategy=ResourceSliceStrategy(),
    namespaced=False,
    storage_version_hash="KsC072WgaEY=",
)
