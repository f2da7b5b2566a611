"""PersistentVolume: a piece of storage. Follows upstream's `pkg/registry/core/persistentvolume`."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from proa.apis.core.claims import VOLUME_MODES, access_modes, attributes_class_change
from proa.apis.core.persistent_volume_claim import access_modes_text, class_of
from proa.apis.define import columns, resource
from proa.apis.fields import Errors, immutable, one_of, problems, same
from proa.apis.podspec.defaults import SOURCE_DEFAULTS
from proa.apis.podspec.scheduling import node_selector
from proa.apis.podspec.volumes import PERSISTENT_SOURCES, csi_driver_name
from proa.apis.podspec.warnings import VOLUMES
from proa.apis.registry import Requestor, StatusStrategy
from proa.apis.strategies import WithStatus, keep
from proa.apis.tables import age
from proa.meta import names
from proa.meta.errors import forbidden_field, invalid_field, required_field, unsupported_field
from proa.meta.objects import Obj, copy_object, is_deleted, name_of
from proa.meta.quantity import parse

_RECLAIM = ("Delete", "Recycle", "Retain")


class PersistentVolumeStrategy(WithStatus):
    schema = "io.k8s.api.core.v1.PersistentVolume"

    def default(self, obj: Obj) -> None:
        spec = obj.setdefault("spec", {})
        if not spec.get("persistentVolumeReclaimPolicy"):
            spec["persistentVolumeReclaimPolicy"] = "Retain"
        if spec.get("volumeMode") is None:
            spec["volumeMode"] = "Filesystem"
        for key in PERSISTENT_SOURCES:
            default = SOURCE_DEFAULTS.get(key)
            if default is not None and spec.get(key) is not None:
                default(spec[key])
        if not obj.setdefault("status", {}).get("phase"):
            obj["status"]["phase"] = "Pending"

    def prepare_create(self, obj: Obj) -> None:
        obj["status"] = {"phase": "Pending"}

    def stamp(self, obj: Obj, old: Obj | None, now: str, requestor: Requestor) -> None:
        if old is None:
            obj["status"]["lastPhaseTransitionTime"] = now

    def validate(self, obj: Obj) -> Errors:
        return _validate(obj.get("spec") or {})

    def validate_update(self, obj: Obj, old: Obj) -> Errors:
        spec, before = obj.get("spec") or {}, old.get("spec") or {}
        errors = self.validate(obj)
        if not same(_sources(spec, obj), _sources(before, old)):
            detail = "spec.persistentvolumesource is immutable after creation"
            errors.append(forbidden_field("spec.persistentvolumesource", detail))
        errors += immutable(spec.get("volumeMode"), before.get("volumeMode"), "volumeMode")
        affinity = before.get("nodeAffinity")
        if affinity is not None and not same(spec.get("nodeAffinity"), affinity):
            detail = "field is immutable, except for updating from beta label to GA"
            errors.append(invalid_field("nodeAffinity", spec.get("nodeAffinity"), detail))
        return errors + attributes_class_change(spec, before)

    def warnings(self, obj: Obj, old: Obj | None) -> list[str]:
        spec = obj.get("spec") or {}
        found = [f"spec.{shown}: {said}" for key, (shown, said) in VOLUMES.items() if spec.get(key) is not None]
        if spec.get("persistentVolumeReclaimPolicy") == "Recycle":
            found.append("spec.persistentVolumeReclaimPolicy: The Recycle reclaim policy is deprecated")
        return found


def _sources(spec: Obj, obj: Obj) -> Obj:
    """Returns the volume's source, without what a CSI volume may change."""
    made: Obj = {key: copy_object(spec[key]) for key in PERSISTENT_SOURCES if spec.get(key) is not None}
    made.update({key: copy_object(spec[key]) for key in ("csi", "local") if spec.get(key) is not None})
    if "csi" in made:
        for key in ("controllerExpandSecretRef", "nodeExpandSecretRef"):
            made["csi"].pop(key, None)
    return made


def _csi(source: Obj, path: str) -> Errors:
    errors = csi_driver_name(source.get("driver") or "", f"{path}.driver")
    if not source.get("volumeHandle"):
        errors.append(required_field(f"{path}.volumeHandle"))
    for key in (
        "controllerPublishSecretRef",
        "controllerExpandSecretRef",
        "nodePublishSecretRef",
        "nodeExpandSecretRef",
    ):
        reference = source.get(key)
        if reference is not None:
            errors += [
                required_field(f"{path}.{key}.{part}") for part in ("name", "namespace") if not reference.get(part)
            ]
    return errors


def _local(source: Obj, path: str) -> Errors:
    where = source.get("path") or ""
    if not where:
        return [required_field(f"{path}.path")]
    return [] if ".." not in where.split("/") else [invalid_field(f"{path}.path", where, "must not contain '..'")]


_SOURCES = {**PERSISTENT_SOURCES, "local": _local, "csi": _csi}


def _validate(spec: Obj) -> Errors:
    errors: Errors = []
    modes = spec.get("accessModes") or []
    if not modes:
        errors.append(required_field("spec.accessModes"))
    errors += access_modes(modes, "spec.accessModes")
    errors += _capacity(spec.get("capacity"))
    errors += one_of(spec.get("persistentVolumeReclaimPolicy"), "spec.persistentVolumeReclaimPolicy", _RECLAIM)
    errors += _affinity(spec)
    kinds = [key for key in _SOURCES if spec.get(key) is not None]
    if kinds:
        errors += _SOURCES[kinds[0]](spec[kinds[0]], f"spec.{kinds[0]}")
        detail = "may not specify more than 1 volume type"
        errors += [forbidden_field(f"spec.{extra}", detail) for extra in kinds[1:]]
        if "local" in kinds and spec.get("nodeAffinity") is None:
            errors.append(required_field("spec.nodeAffinity", "Local volume requires node affinity"))
    else:
        errors.append(required_field("spec", "must specify a volume type"))
    path = (spec.get("hostPath") or {}).get("path")
    if path == "/" and spec.get("persistentVolumeReclaimPolicy") == "Recycle":
        detail = "may not be 'recycle' for a hostPath mount of '/'"
        errors.append(forbidden_field("spec.persistentVolumeReclaimPolicy", detail))
    for key in ("storageClassName", "volumeAttributesClassName"):
        if spec.get(key):
            errors += problems(names.dns1123_subdomain(spec[key]), f"spec.{key}", spec[key])
    return errors + one_of(spec.get("volumeMode"), "spec.volumeMode", VOLUME_MODES, missing="skip")


def _capacity(capacity: Obj | None) -> Errors:
    errors: Errors = []
    if not capacity:
        errors.append(required_field("spec.capacity"))
    if set(capacity or {}) != {"storage"}:
        errors.append(unsupported_field("spec.capacity", capacity, ("storage",)))
    for name, text in (capacity or {}).items():
        if name == "storage" and parse(text).nano <= 0:
            errors.append(invalid_field(f"spec.capacity[{name}]", str(parse(text)), "must be greater than zero"))
    return errors


def _affinity(spec: Obj) -> Errors:
    affinity = spec.get("nodeAffinity")
    if affinity is None:
        return []
    if affinity.get("required") is None:
        return [required_field("spec.nodeAffinity.required", "must specify required node constraints")]
    return node_selector(affinity["required"], "spec.nodeAffinity.required")


class PersistentVolumeStatusStrategy(StatusStrategy):
    def prepare_update(self, obj: Obj, old: Obj) -> None:
        keep(obj, old, "spec")

    def stamp(self, obj: Obj, old: Obj, now: str) -> None:
        status, before = obj.get("status") or {}, old.get("status") or {}
        if status.get("phase") != before.get("phase"):
            given = status.get("lastPhaseTransitionTime")
            if given is None or given == before.get("lastPhaseTransitionTime"):
                status["lastPhaseTransitionTime"] = now


def _cells(obj: Obj, now: datetime) -> list[Any]:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    claim = spec.get("claimRef")
    return [
        name_of(obj),
        (spec.get("capacity") or {}).get("storage") or "0",
        access_modes_text(spec.get("accessModes") or []),
        spec.get("persistentVolumeReclaimPolicy") or "",
        "Terminating" if is_deleted(obj) else status.get("phase") or "",
        f"{claim.get('namespace') or ''}/{claim.get('name') or ''}" if claim else "",
        class_of(obj),
        spec.get("volumeAttributesClassName") or "<unset>",
        status.get("reason") or "",
        age(obj, now),
        spec.get("volumeMode") or "<unset>",
    ]


PERSISTENT_VOLUME = resource(
    "",
    "v1",
    "PersistentVolume",
    "persistentvolumes",
    columns=columns(
        "Name",
        "Capacity",
        "Access Modes",
        "Reclaim Policy",
        "Status",
        "Claim",
        "StorageClass",
        "VolumeAttributesClass",
        "Reason",
        "Age",
        "VolumeMode+",
    ),
    cells=_cells,
    strategy=PersistentVolumeStrategy(),
    namespaced=False,
    short_names=("pv",),
    status=PersistentVolumeStatusStrategy,
    storage_version_hash="HN/zwEC+JgM=",
)
