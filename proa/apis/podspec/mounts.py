"""Validation of where containers mount volumes: volumeMounts and volumeDevices.

Follows upstream's `pkg/apis/core/validation` (ValidateVolumeMounts, ValidateVolumeDevices).
"""

from __future__ import annotations

from proa.apis.fields import Errors, local_path, one_of, path_without_backsteps
from proa.meta.errors import forbidden_field, invalid_field, not_found_field, required_field, unsupported_field
from proa.meta.objects import Obj


def mounts(container: Obj, known: dict[str, Obj], path: str) -> Errors:
    """Checks volumeMounts and volumeDevices of a container against the pod's volumes."""
    errors: Errors = []
    devices = {one.get("devicePath"): one.get("name") for one in container.get("volumeDevices") or []}
    places: set[str] = set()
    for index, mount in enumerate(container.get("volumeMounts") or []):
        at = f"{path}.volumeMounts[{index}]"
        name, place = mount.get("name") or "", mount.get("mountPath") or ""
        if not name:
            errors.append(required_field(f"{at}.name"))
        if name not in known:
            errors.append(not_found_field(f"{at}.name", name))
        if not place:
            errors.append(required_field(f"{at}.mountPath"))
        if place in places:
            errors.append(invalid_field(f"{at}.mountPath", place, "must be unique"))
        places.add(place)
        if name in devices.values():
            detail = "must not already exist in volumeDevices"
            errors.append(invalid_field(f"{at}.name", name, detail))
        if place in devices:
            detail = "must not already exist as a path in volumeDevices"
            errors.append(invalid_field(f"{at}.mountPath", place, detail))
        errors += _mount_details(container, mount, at)
    return errors + _devices(container, known, places, path)


_PROPAGATIONS = ("Bidirectional", "HostToContainer", "None")


def _mount_details(container: Obj, mount: Obj, path: str) -> Errors:
    errors: Errors = []
    sub, expression = mount.get("subPath") or "", mount.get("subPathExpr") or ""
    if sub:
        errors += local_path(sub, f"{path}.subPath")
    if expression:
        if sub:
            errors.append(
                invalid_field(f"{path}.subPathExpr", expression, "subPathExpr and subPath are mutually exclusive")
            )
        errors += local_path(expression, f"{path}.subPathExpr")
    propagation = mount.get("mountPropagation")
    if propagation is not None:
        errors += one_of(propagation, f"{path}.mountPropagation", _PROPAGATIONS)
        privileged = (container.get("securityContext") or {}).get("privileged")
        if propagation == "Bidirectional" and not privileged:
            detail = "Bidirectional mount propagation is available only to privileged containers"
            errors.append(forbidden_field(f"{path}.mountPropagation", detail))
    return errors + _recursive_read_only(mount, path)


def _recursive_read_only(mount: Obj, path: str) -> Errors:
    mode = mount.get("recursiveReadOnly")
    if mode is None or mode == "Disabled":
        return []
    at = f"{path}.recursiveReadOnly"
    if mode not in ("Enabled", "IfPossible"):
        return [unsupported_field(at, mode, ("Disabled", "Enabled", "IfPossible"))]
    errors: Errors = []
    if not mount.get("readOnly"):
        errors.append(forbidden_field(at, "may only be specified when readOnly is true"))
    if mount.get("mountPropagation") not in (None, "None"):
        detail = "may only be specified when mountPropagation is None or not specified"
        errors.append(forbidden_field(at, detail))
    return errors


def _devices(container: Obj, known: dict[str, Obj], places: set[str], path: str) -> Errors:
    errors: Errors = []
    names_seen: set[str] = set()
    paths_seen: set[str] = set()
    for index, device in enumerate(container.get("volumeDevices") or []):
        at = f"{path}.volumeDevices[{index}]"
        name, place = device.get("name") or "", device.get("devicePath") or ""
        if not name:
            errors.append(required_field(f"{at}.name"))
        if name in names_seen:
            errors.append(invalid_field(f"{at}.name", name, "must be unique"))
        volume = known.get(name)
        if volume is not None and not ({"persistentVolumeClaim", "ephemeral"} & set(volume)):
            detail = "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode"
            errors.append(invalid_field(f"{at}.name", name, detail))
        if volume is None:
            errors.append(not_found_field(f"{at}.name", name))
        if not place:
            errors.append(required_field(f"{at}.devicePath"))
        if place in paths_seen:
            errors.append(invalid_field(f"{at}.devicePath", place, "must be unique"))
        if place:
            errors += path_without_backsteps(place, f"{at}.devicePath")
        if place in places:
            detail = "must not already exist as a path in volumeMounts"
            errors.append(invalid_field(f"{at}.devicePath", place, detail))
        names_seen.add(name)
        paths_seen.add(place)
    return errors
