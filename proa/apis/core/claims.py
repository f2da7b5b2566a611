"""Checks of claims for storage: of PersistentVolumeClaims and of the templates that make them.

Follows upstream's ValidatePersistentVolumeClaimSpec.
"""

from __future__ import annotations

from proa.apis.fields import Errors, annotation_map, label_map, label_selector, one_of, problems, same
from proa.meta import names
from proa.meta.errors import forbidden_field, invalid_field, required_field, unsupported_field
from proa.meta.objects import Obj
from proa.meta.quantity import parse

ACCESS_MODES = ("ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod")
VOLUME_MODES = ("Block", "Filesystem")


def access_modes(modes: list[str], path: str) -> Errors:
    errors: Errors = []
    for mode in modes:
        if mode not in ACCESS_MODES:
            errors.append(unsupported_field(path, mode, ACCESS_MODES))
    if "ReadWriteOncePod" in modes and len(modes) > 1:
        errors.append(forbidden_field(path, "may not use ReadWriteOncePod with other access modes"))
    return errors


def claim_spec(spec: Obj, path: str) -> Errors:
    errors: Errors = []
    modes = spec.get("accessModes") or []
    if not modes:
        errors.append(required_field(f"{path}.accessModes", "at least 1 access mode is required"))
    errors += label_selector(spec.get("selector"), f"{path}.selector")
    errors += access_modes(modes, f"{path}.accessModes")
    storage = ((spec.get("resources") or {}).get("requests") or {}).get("storage")
    at = f"{path}.resources[storage]"
    if storage is None:
        errors.append(required_field(at))
    elif parse(storage).nano <= 0:
        errors.append(invalid_field(at, str(parse(storage)), "must be greater than zero"))
    for key in ("storageClassName", "volumeAttributesClassName"):
        if spec.get(key):
            errors += problems(names.dns1123_subdomain(spec[key]), f"{path}.{key}", spec[key])
    if spec.get("volumeMode") is not None:
        errors += one_of(spec["volumeMode"], f"{path}.volumeMode", VOLUME_MODES)
    return errors + _data_sources(spec, path)


def _data_sources(spec: Obj, path: str) -> Errors:
    errors: Errors = []
    source, reference = spec.get("dataSource"), spec.get("dataSourceRef")
    if source is not None:
        errors += _data_source(source, f"{path}.dataSource")
    if reference is not None:
        errors += _data_source(reference, f"{path}.dataSourceRef")
        if reference.get("namespace"):
            errors += problems(
                names.dns1123_label(reference["namespace"]), f"{path}.dataSourceRef.namespace", reference["namespace"]
            )
            if source is not None:
                detail = "may not be specified when dataSourceRef.namespace is specified"
                errors.append(invalid_field(path, f"{path}.dataSource", detail))
        elif source is not None and not same(source, reference):
            errors.append(invalid_field(path, {}, "must match dataSourceRef"))
    return errors


def _data_source(source: Obj, path: str) -> Errors:
    errors: Errors = []
    group = source.get("apiGroup") or ""
    if not source.get("name"):
        errors.append(required_field(f"{path}.name"))
    if not source.get("kind"):
        errors.append(required_field(f"{path}.kind"))
    if group:
        errors += problems(names.dns1123_subdomain(group), f"{path}.apiGroup", group)
    elif source.get("kind") != "PersistentVolumeClaim" and path.endswith(".dataSourceRef"):
        detail = "must be 'PersistentVolumeClaim' when referencing the default apiGroup"
        errors.append(invalid_field(f"{path}.kind", source.get("kind") or "", detail))
    return errors


def attributes_class_change(spec: Obj, before: Obj) -> Errors:
    """Checks that a volume or claim that has a class of attributes does not lose it."""
    new, old = spec.get("volumeAttributesClassName"), before.get("volumeAttributesClassName")
    if old is None or new:
        return []
    lost = "nil" if new is None else "an empty string"
    return [forbidden_field("spec.volumeAttributesClassName", f"update from non-nil value to {lost} is forbidden")]


def claim_template(template: Obj, path: str) -> Errors:
    """Checks the template of an ephemeral volume's claim."""
    meta = template.get("metadata") or {}
    errors = label_map(meta.get("labels"), f"{path}.metadata.labels")
    errors += annotation_map(meta.get("annotations"), f"{path}.metadata.annotations")
    return errors + claim_spec(template.get("spec") or {}, f"{path}.spec")


def merge_data_sources(spec: Obj) -> None:
    """Keeps `dataSource` and `dataSourceRef` the same, as long as no other namespace is meant."""
    source, reference = spec.get("dataSource"), spec.get("dataSourceRef")
    if source is not None and not (source.get("apiGroup") or source.get("kind") == "PersistentVolumeClaim"):
        # Sources of the core group other than claims mean nothing and are dropped.
        source = None
        spec.pop("dataSource")
    if source is not None and reference is None:
        spec["dataSourceRef"] = dict(source)
    elif reference is not None and source is None and not reference.get("namespace"):
        spec["dataSource"] = {key: reference.get(key) for key in ("apiGroup", "kind", "name")}


def attributes_classes_of(obj: Obj) -> list[str]:
    """Returns the classes of attributes that a volume or a claim has, had last, or is getting."""
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    names = (
        spec.get("volumeAttributesClassName"),
        status.get("currentVolumeAttributesClassName"),
        (status.get("modifyVolumeStatus") or {}).get("targetVolumeAttributesClassName"),
    )
    return sorted({name for name in names if name})
