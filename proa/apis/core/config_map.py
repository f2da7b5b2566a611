"""ConfigMap: keys, size, immutability. Follows upstream's `pkg/registry/core/configmap`."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from proa.apis.core.data import keys_and_size, unchanged_if_immutable
from proa.apis.define import columns, resource
from proa.apis.fields import Errors
from proa.apis.registry import Strategy
from proa.apis.tables import age
from proa.meta.errors import invalid_field
from proa.meta.objects import Obj, name_of


class ConfigMapStrategy(Strategy):
    def validate(self, obj: Obj) -> Errors:
        data, binary = obj.get("data") or {}, obj.get("binaryData") or {}
        errors = keys_and_size({"data": data, "binaryData": binary}, obj)
        twice = [
            invalid_field(f"data[{key}]", key, "duplicate of key present in binaryData")
            for key in data
            if key in binary
        ]
        return errors + twice

    def validate_update(self, obj: Obj, old: Obj) -> Errors:
        return unchanged_if_immutable(obj, old, ("data", "binaryData")) + self.validate(obj)


def _cells(obj: Obj, now: datetime) -> list[Any]:
    return [name_of(obj), len(obj.get("data") or {}) + len(obj.get("binaryData") or {}), age(obj, now)]


CONFIG_MAP = resource(
    "",
    "v1",
    "ConfigMap",
    "configmaps",
    columns=columns("Name", "Data", "Age"),
    cells=_cells,
    strategy=ConfigMapStrategy(),
    short_names=("cm",),
    storage_version_hash="qFsyl6wFWjQ=",
)
