"""PersistentVolumeClaim: a request for storage. Follows upstream's `pkg/registry/core/persistentvolumeclaim`."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from proa.apis.core.claims import attributes_class_change, claim_spec, merge_data_sources
from proa.apis.define import columns, resource
from proa.apis.fields import Errors, immutable, same
from proa.apis.podspec.defaults import default_claim_spec
from proa.apis.podspec.warnings import fractional_bytes
from proa.apis.registry import StatusStrategy
from proa.apis.strategies import WithStatus, keep
from proa.apis.tables import age
from proa.meta.errors import forbidden_field
from proa.meta.objects import Obj, annotations_of, copy_object, is_deleted, name_of
from proa.meta.quantity import parse

_BETA_CLASS = "volume.beta.kubernetes.io/storage-class"
_IMMUTABLE = "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims"
# How tables abbreviate access modes, in the order of the table.
_SHORT = {"ReadWriteOnce": "RWO", "ReadOnlyMany": "ROX", "ReadWriteMany": "RWX", "ReadWriteOncePod": "RWOP"}


class ClaimStrategy(WithStatus):
    schema = "io.k8s.api.core.v1.PersistentVolumeClaim"

    def default(self, obj: Obj) -> None:
        default_claim_spec(obj.setdefault("spec", {}))
        if not obj.setdefault("status", {}).get("phase"):
            obj["status"]["phase"] = "Pending"

    def prepare_create(self, obj: Obj) -> None:
        obj["status"] = {"phase": "Pending"}
        merge_data_sources(obj["spec"])

    def prepare_update(self, obj: Obj, old: Obj) -> None:
        keep(obj, old, "status")
        merge_data_sources(obj["spec"])

    def validate(self, obj: Obj) -> Errors:
        return claim_spec(obj.get("spec") or {}, "spec")

    def validate_update(self, obj: Obj, old: Obj) -> Errors:
        return self.validate(obj) + _update(obj, old)

    def warnings(self, obj: Obj, old: Obj | None) -> list[str]:
        found = list(fractional_bytes((obj.get("spec") or {}).get("resources"), "spec.resources"))
        if _BETA_CLASS in annotations_of(obj):
            said = 'deprecated since v1.8; use "storageClassName" attribute instead'
            found.append(f"metadata.annotations[{_BETA_CLASS}]: {said}")
        return found


def _requested(spec: Obj) -> str:
    return ((spec.get("resources") or {}).get("requests") or {}).get("storage") or "0"


def _update(obj: Obj, old: Obj) -> Errors:
    spec, before = obj.get("spec") or {}, old.get("spec") or {}
    status = old.get("status") or {}
    made: Obj = copy_object(spec)
    if not before.get("volumeName"):
        keep(before := dict(before), spec, "volumeName")
    unclassed = before.get("storageClassName") is None and not annotations_of(old).get(_BETA_CLASS)
    if unclassed and status.get("phase") != "Bound" and spec.get("storageClassName"):
        before = {**before, "storageClassName": spec["storageClassName"]}
    if status.get("phase") == "Bound":
        requests = (made.get("resources") or {}).get("requests")
        if requests is not None:
            requests["storage"] = _requested(before)
        keep(made, before, "volumeAttributesClassName")
    errors: Errors = []
    if not same(made, before):
        errors.append(forbidden_field("spec", _IMMUTABLE))
    new, was = parse(_requested(spec)), parse(_requested(before))
    if new.nano < was.nano and new.nano <= parse((status.get("capacity") or {}).get("storage")).nano:
        detail = "field can not be less than status.capacity"
        errors.append(forbidden_field("spec.resources.requests.storage", detail))
    errors += immutable(spec.get("volumeMode"), (old.get("spec") or {}).get("volumeMode"), "volumeMode")
    return errors + attributes_class_change(spec, old.get("spec") or {})


class ClaimStatusStrategy(StatusStrategy):
    def prepare_update(self, obj: Obj, old: Obj) -> None:
        keep(obj, old, "spec")


def access_modes_text(modes: list[str]) -> str:
    """Returns access modes as tables show them: `RWO,RWX`."""
    return ",".join(short for mode, short in _SHORT.items() if mode in modes)


def class_of(obj: Obj) -> str:
    """Returns the storage class of a claim or volume, by the old annotation or the field."""
    return annotations_of(obj).get(_BETA_CLASS) or (obj.get("spec") or {}).get("storageClassName") or ""


def _cells(obj: Obj, now: datetime) -> list[Any]:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    bound = bool(spec.get("volumeName"))
    return [
        name_of(obj),
        "Terminating" if is_deleted(obj) else status.get("phase") or "",
        spec.get("volumeName") or "",
        (status.get("capacity") or {}).get("storage") or "0" if bound else "",
        access_modes_text(status.get("accessModes") or []) if bound else "",
        class_of(obj),
        spec.get("volumeAttributesClassName") or "<unset>",
        age(obj, now),
        spec.get("volumeMode") or "<unset>",
    ]


PERSISTENT_VOLUME_CLAIM = resource(
    "",
    "v1",
    "PersistentVolumeClaim",
    "persistentvolumeclaims",
    columns=columns(
        "Name",
        "Status",
        "Volume",
        "Capacity",
        "Access Modes",
        "StorageClass",
        "VolumeAttributesClass",
        "Age",
        "VolumeMode+",
    ),
    cells=_cells,
    strategy=ClaimStrategy(),
    short_names=("pvc",),
    status=ClaimStatusStrategy,
    storage_version_hash="QWTyNDq0dC4=",
)
