"""VolumeAttachment, as of storage.k8s.io/v1: the wish to attach a volume to a node."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from proa.apis import fields, tables
from proa.apis.define import columns, resource
from proa.apis.fields import Errors, problems
from proa.apis.podspec.volumes import csi_driver_name
from proa.apis.registry import Column, StatusStrategy, Strategy
from proa.apis.shape import child, keep_status, set_default
from proa.meta import names
from proa.meta.errors import forbidden_field, invalid_field, required_field
from proa.meta.objects import Obj, name_of

_ONE_SOURCE = "must specify exactly one of inlineVolumeSpec and persistentVolumeName"


class VolumeAttachmentStrategy(Strategy):
    def default(self, obj: Obj) -> None:
        child(child(obj, "spec"), "source")
        set_default(child(obj, "status"), "attached", False)

    def prepare_create(self, obj: Obj) -> None:
        obj["status"] = {"attached": False}

    def prepare_update(self, obj: Obj, old: Obj) -> None:
        keep_status(obj, old)

    def validate(self, obj: Obj) -> Errors:
        spec = obj.get("spec") or {}
        errors = csi_driver_name(spec.get("attacher") or "", "spec.attacher")
        source = spec.get("source") or {}
        inline, volume = source.get("inlineVolumeSpec"), source.get("persistentVolumeName")
        if inline is None and volume is None:
            errors.append(required_field("spec.source", _ONE_SOURCE))
        elif inline is not None and volume is not None:
            errors.append(forbidden_field("spec.source", _ONE_SOURCE))
        elif volume == "":
            errors.append(
                required_field("spec.source.persistentVolumeName", "must specify non empty persistentVolumeName")
            )
        node = spec.get("nodeName") or ""
        return errors + problems(names.dns1123_subdomain(node), "spec.nodeName", node)

    def validate_update(self, obj: Obj, old: Obj) -> Errors:
        errors = self.validate(obj)
        if not fields.same(obj.get("spec"), old.get("spec")):
            errors.append(invalid_field("spec", obj.get("spec"), fields.IMMUTABLE))
        return errors


class VolumeAttachmentStatusStrategy(StatusStrategy):
    def prepare_update(self, obj: Obj, old: Obj) -> None:
        super().prepare_update(obj, old)
        set_default(child(obj, "status"), "attached", False)


def cells(obj: Obj, now: datetime) -> Sequence[Any]:
    spec = obj.get("spec") or {}
    return (
        name_of(obj),
        spec.get("attacher", ""),
        (spec.get("source") or {}).get("persistentVolumeName") or "",
        spec.get("nodeName", ""),
        bool((obj.get("status") or {}).get("attached")),
        tables.age(obj, now),
    )


_STRATEGY = VolumeAttachmentStrategy()

VOLUME_ATTACHMENT = resource(
    "storage.k8s.io",
    "v1",
    "VolumeAttachment",
    "volumeattachments",
    columns=(*columns("Name"), Column("Attacher", format="name"), *columns("PV", "Node", "Attached:boolean", "Age")),
    cells=cells,
    strategy=_STRATEGY,
    namespaced=False,
    status=VolumeAttachmentStatusStrategy(_STRATEGY),
    storage_version_hash="tJx/ezt6UDU=",
)
