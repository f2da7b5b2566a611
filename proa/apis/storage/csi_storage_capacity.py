"""CSIStorageCapacity, as of storage.k8s.io/v1: how much room a storage class has in a part of the cluster."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from proa.apis import fields
from proa.apis.define import columns, resource
from proa.apis.fields import Errors, problems
from proa.apis.registry import Strategy
from proa.meta import names, quantity
from proa.meta.errors import invalid_field, required_field
from proa.meta.objects import Obj, metadata, name_of


class CSIStorageCapacityStrategy(Strategy):
    def validate(self, obj: Obj) -> Errors:
        errors = fields.label_selector(obj.get("nodeTopology"), "nodeTopology")
        chosen = obj.get("storageClassName") or ""
        if chosen:
            errors += problems(names.dns1123_subdomain(chosen), "storageClassName", chosen)
        else:
            errors.append(required_field("storageClassName"))
        for key in ("capacity", "maximumVolumeSize"):
            if obj.get(key) is not None and quantity.parse(obj[key]).nano < 0:
                errors.append(invalid_field(key, str(obj[key]), fields.NEGATIVE))
        return errors

    def validate_update(self, obj: Obj, old: Obj) -> Errors:
        errors = self.validate(obj)
        for key in ("nodeTopology", "storageClassName"):
            if not fields.same(obj.get(key), old.get(key)):
                errors.append(invalid_field(key, obj.get(key), fields.IMMUTABLE))
        return errors


def cells(obj: Obj, now: datetime) -> Sequence[Any]:
    return name_of(obj), metadata(obj).get("creationTimestamp")


CSI_STORAGE_CAPACITY = resource(
    "storage.k8s.io",
    "v1",
    "CSIStorageCapacity",
    "csistoragecapacities",
    columns=columns("Name", "Created At:date"),
    cells=cells,
    strategy=CSIStorageCapacityStrategy(),
    storage_version_hash="xeVl+2Ly1kE=",
)
