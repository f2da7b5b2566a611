"""VolumeAttributesClass, as of storage.k8s.io/v1: attributes of volumes that may change while they are in use."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from proa.apis import fields, tables
from proa.apis.define import columns, resource
from proa.apis.fields import Errors
from proa.apis.podspec.volumes import csi_driver_name
from proa.apis.registry import Strategy
from proa.apis.shape import child
from proa.apis.storage.storage_class import parameters
from proa.meta.errors import forbidden_field, required_field
from proa.meta.objects import Obj, name_of

IN_USE_FINALIZER = "kubernetes.io/vac-protection"


class VolumeAttributesClassStrategy(Strategy):
    def prepare_create(self, obj: Obj) -> None:
        finalizers = child(obj, "metadata").setdefault("finalizers", [])
        if IN_USE_FINALIZER not in finalizers:
            finalizers.append(IN_USE_FINALIZER)

    def validate(self, obj: Obj) -> Errors:
        errors = csi_driver_name(obj.get("driverName") or "", "driverName")
        if not obj.get("parameters"):
            return [*errors, required_field("parameters", "at least one parameter is required")]
        return errors + parameters(obj.get("parameters"), "parameters")

    def validate_update(self, obj: Obj, old: Obj) -> Errors:
        return [
            forbidden_field(key, f"updates to {key} are forbidden.")
            for key in ("driverName", "parameters")
            if not fields.same(obj.get(key), old.get(key))
        ]


def cells(obj: Obj, now: datetime) -> Sequence[Any]:
    return name_of(obj), obj.get("driverName", ""), tables.age(obj, now)


VOLUME_ATTRIBUTES_CLASS = resource(
    "storage.k8s.io",
    "v1",
    "VolumeAttributesClass",
    "volumeattributesclasses",
    columns=columns("Name", "DriverName", "Age"),
    cells=cells,
    strategy=VolumeAttributesClassStrategy(),
    namespaced=False,
    short_names=("vac",),
    storage_version_hash="tIjydgKBC5w=",
)
