"""CSINode, as of storage.k8s.io/v1: the volume drivers that run on a node."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from proa.apis import fields, tables
from proa.apis.define import columns, resource
from proa.apis.fields import Errors, problems
from proa.apis.podspec.volumes import csi_driver_name
from proa.apis.registry import Strategy
from proa.apis.shape import child, children, null_if_empty
from proa.meta import names
from proa.meta.errors import duplicate_field, invalid_field, required_field
from proa.meta.objects import Obj, name_of

_NODE_ID_LENGTH_MAX = 192


class CSINodeStrategy(Strategy):
    def default(self, obj: Obj) -> None:
        spec = child(obj, "spec")
        null_if_empty(spec, "drivers")
        for driver in children(spec, "drivers"):
            null_if_empty(driver, "topologyKeys")

    def validate(self, obj: Obj) -> Errors:
        errors: Errors = []
        drivers = children(obj.get("spec"), "drivers")
        for index, driver in enumerate(drivers):
            errors += _driver(driver, f"spec.drivers[{index}]")
        return errors + fields.unique(drivers, "spec.drivers", lambda driver: driver.get("name"), "name")

    def validate_update(self, obj: Obj, old: Obj) -> Errors:
        errors = self.validate(obj)
        before = {driver.get("name"): driver for driver in children(old.get("spec"), "drivers")}
        for driver in children(obj.get("spec"), "drivers"):
            was = before.get(driver.get("name"))
            if was is not None and not fields.same(_fixed(driver), _fixed(was)):
                errors.append(invalid_field("CSINode.Spec.Drivers", driver, fields.IMMUTABLE))
        return errors


def _fixed(driver: Obj) -> Obj:
    # How many volumes fit may change, see KEP 4876.
    return {key: value for key, value in driver.items() if key != "allocatable"}


def _driver(driver: Obj, path: str) -> Errors:
    errors = csi_driver_name(driver.get("name") or "", f"{path}.name")
    node_id = driver.get("nodeID") or ""
    if not node_id:
        errors.append(required_field(f"{path}.nodeID", ""))
    elif len(node_id) > _NODE_ID_LENGTH_MAX:
        detail = f"nodeID must be {_NODE_ID_LENGTH_MAX} characters or less"
        errors.append(invalid_field(f"{path}.nodeID", node_id, detail))
    count = (driver.get("allocatable") or {}).get("count")
    errors += fields.nonnegative(count, f"{path}.allocatable.count")
    seen: set[str] = set()
    for key in driver.get("topologyKeys") or []:
        if not key:
            errors.append(required_field(f"{path}.topologyKeys"))
        elif key in seen:
            errors.append(duplicate_field(f"{path}.topologyKeys", key))
        seen.add(key)
        errors += problems(names.qualified_name(key), f"{path}.topologyKeys", key) if key else []
    return errors


def cells(obj: Obj, now: datetime) -> Sequence[Any]:
    return name_of(obj), len(children(obj.get("spec"), "drivers")), tables.age(obj, now)


CSI_NODE = resource(
    "storage.k8s.io",
    "v1",
    "CSINode",
    "csinodes",
    columns=columns("Name", "Drivers:integer", "Age"),
    cells=cells,
    strategy=CSINodeStrategy(),
    namespaced=False,
    storage_version_hash="Pe62DkZtjuo=",
)
