"""Validation of volumes: the sources that pods and persistent volumes share, and those that only pods have.

Follows upstream's `pkg/apis/core/validation` (validateVolumeSource, ValidatePersistentVolumeSpec's sources).
"""

from __future__ import annotations

import re
from collections.abc import Callable

from proa.apis.fields import (
    Errors,
    local_nonreserved_path,
    local_path,
    one_of,
    path_without_backsteps,
    problems,
)
from proa.meta import names
from proa.meta.errors import (
    duplicate_field,
    forbidden_field,
    invalid_field,
    required_field,
    unsupported_field,
)
from proa.meta.objects import Obj

Check = Callable[[Obj, str], Errors]

PULL_POLICIES = ("Always", "IfNotPresent", "Never")
_HOST_PATH_TYPES = (
    "",
    "BlockDevice",
    "CharDevice",
    "Directory",
    "DirectoryOrCreate",
    "File",
    "FileOrCreate",
    "Socket",
)
# What volumes and variables may show of the pod's resources.
RESOURCE_FIELDS = (
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
)
_VOLUME_FIELDS = ("metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid")


def _requires(*fields: str) -> Check:
    def check(source: Obj, path: str) -> Errors:
        return [required_field(f"{path}.{field}") for field in fields if not source.get(field)]

    return check


def _mode(value: int | None, path: str) -> Errors:
    if value is not None and not 0 <= value <= 0o777:
        return [invalid_field(path, value, "must be a number between 0 and 0777 (octal), both inclusive")]
    return []


def _key_to_path(item: Obj, path: str) -> Errors:
    errors: Errors = []
    if not item.get("key"):
        errors.append(required_field(f"{path}.key"))
    where = item.get("path") or ""
    if not where:
        errors.append(required_field(f"{path}.path"))
    errors += local_nonreserved_path(where, f"{path}.path")
    return errors + _mode(item.get("mode"), f"{path}.mode")


def _keys(source: Obj, path: str) -> Errors:
    errors: Errors = []
    for index, item in enumerate(source.get("items") or []):
        errors += _key_to_path(item, f"{path}.items[{index}]")
    return errors


def _secret(source: Obj, path: str) -> Errors:
    errors = _requires("secretName")(source, path)
    return errors + _mode(source.get("defaultMode"), f"{path}.defaultMode") + _keys(source, path)


def _config_map(source: Obj, path: str) -> Errors:
    errors = _requires("name")(source, path)
    return errors + _mode(source.get("defaultMode"), f"{path}.defaultMode") + _keys(source, path)


def _host_path(source: Obj, path: str) -> Errors:
    where = source.get("path") or ""
    if not where:
        return [required_field(f"{path}.path")]
    errors = path_without_backsteps(where, f"{path}.path")
    return errors + one_of(source.get("type") or "", f"{path}.type", _HOST_PATH_TYPES)


def _empty_dir(source: Obj, path: str) -> Errors:
    size = source.get("sizeLimit")
    if isinstance(size, str) and size.lstrip().startswith("-") and re.search("[1-9]", size):
        return [forbidden_field(f"{path}.sizeLimit", "SizeLimit field must be a valid resource quantity")]
    return []


def downward_item(item: Obj, path: str) -> Errors:
    errors: Errors = []
    where = item.get("path") or ""
    if not where:
        errors.append(required_field(f"{path}.path"))
    errors += local_nonreserved_path(where, f"{path}.path")
    field, resource = item.get("fieldRef"), item.get("resourceFieldRef")
    if field is not None:
        errors += field_reference(field, f"{path}.fieldRef", _VOLUME_FIELDS)
        if resource is not None:
            detail = "fieldRef and resourceFieldRef can not be specified simultaneously"
            errors.append(invalid_field(path, "resource", detail))
    elif resource is not None:
        errors += resource_reference(resource, f"{path}.resourceFieldRef", volume=True)
    else:
        errors.append(required_field(path, "one of fieldRef and resourceFieldRef is required"))
    return errors + _mode(item.get("mode"), f"{path}.mode")


def _downward(source: Obj, path: str) -> Errors:
    errors = _mode(source.get("defaultMode"), f"{path}.defaultMode")
    for item in source.get("items") or []:
        errors += downward_item(item, path)
    return errors


# Paths of a pod's fields that can be referred to at all; others cannot be converted to the internal form.
_KNOWN_FIELDS = {
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.restartPolicy",
    "spec.schedulerName",
    "spec.serviceAccountName",
    "spec.hostNetwork",
    "spec.host",
    "status.phase",
    "status.podIP",
    "status.podIPs",
    "status.nominatedNodeName",
    "status.hostIP",
    "status.hostIPs",
}
_SUBSCRIPT = re.compile(r"(.*)\['([^']*)'\]")


def field_reference(reference: Obj, path: str, supported: tuple[str, ...], *, subscripts: bool = True) -> Errors:
    """Checks a reference to a field of the pod: `metadata.name`, `metadata.labels['key']`, …"""
    field = reference.get("fieldPath") or ""
    errors: Errors = []
    if not reference.get("apiVersion"):
        errors.append(required_field(f"{path}.apiVersion"))
        return errors
    if not field:
        errors.append(required_field(f"{path}.fieldPath"))
        return errors
    at = f"{path}.fieldPath"
    match = _SUBSCRIPT.fullmatch(field)
    whole = match[1] if match else field
    if whole not in _KNOWN_FIELDS or (match and whole not in ("metadata.annotations", "metadata.labels")):
        unknown = f"error converting fieldPath: field label not supported: {whole}"
        if match and whole in _KNOWN_FIELDS:
            unknown = f"error converting fieldPath: field label does not support subscript: {whole}"
        return [invalid_field(at, field, unknown)]
    if match and subscripts:
        key = match[2].lower() if whole == "metadata.annotations" else match[2]
        return problems(names.qualified_name(key), at, match[2])
    if field == "spec.host":
        field = "spec.nodeName"
    if field not in supported:
        return [unsupported_field(at, field, supported)]
    return []


_HUGEPAGES = ("limits.hugepages-", "requests.hugepages-")


def resource_reference(reference: Obj, path: str, *, volume: bool) -> Errors:
    """Checks a reference to a container's requests or limits."""
    resource = reference.get("resource") or ""
    if volume and not reference.get("containerName"):
        return [required_field(f"{path}.containerName")]
    if not resource:
        return [required_field(f"{path}.resource")]
    if resource not in RESOURCE_FIELDS and not resource.startswith(_HUGEPAGES):
        return [unsupported_field(f"{path}.resource", resource, RESOURCE_FIELDS)]
    return _divisor(resource, reference.get("divisor") or "0", path)


_DIVISORS = {
    "cpu": ("1m", "1"),
    "memory": ("1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"),
}


def _divisor(resource: str, divisor: str, path: str) -> Errors:
    kind = "cpu" if resource.endswith(".cpu") else "memory"
    if divisor in ("0", *_DIVISORS[kind]):
        return []
    return [invalid_field(f"{path}.divisor", resource, f"only divisor's values {_shown(kind)} are supported")]


def _shown(kind: str) -> str:
    name = "cpu" if kind == "cpu" else "memory"
    return f"{', '.join(_DIVISORS[kind])} with the {name} resource"


# ---------------------------------------------------------------- projected


def _projected(source: Obj, path: str) -> Errors:
    errors = _mode(source.get("defaultMode"), f"{path}.defaultMode")
    taken: set[str] = set()
    for index, one in enumerate(source.get("sources") or []):
        at = f"{path}.sources[{index}]"
        kinds = [key for key in _PROJECTIONS if one.get(key) is not None]
        for extra in kinds[1:]:
            errors.append(forbidden_field(f"{at}.{extra}", "may not specify more than 1 volume type per source"))
        if kinds:
            errors += _projection(kinds[0], one[kinds[0]], f"{at}.{kinds[0]}", path, taken)
    return errors


def _projection(kind: str, source: Obj, path: str, root: str, taken: set[str]) -> Errors:
    errors: Errors = []
    if kind in ("secret", "configMap"):
        if not source.get("name"):
            errors.append(required_field(f"{path}.name"))
        for index, item in enumerate(source.get("items") or []):
            errors += _key_to_path(item, f"{path}.items[{index}]")
            errors += _taken(item.get("path"), source.get("name") or "", root, taken)
    elif kind == "downwardAPI":
        for item in source.get("items") or []:
            errors += downward_item(item, path)
            errors += _taken(item.get("path"), item.get("path") or "", root, taken)
    elif kind == "serviceAccountToken":
        errors += _token_projection(source, path)
        errors += _taken(source.get("path"), source.get("path") or "", root, taken)
    elif kind == "clusterTrustBundle":
        errors += _trust_bundle(source, path)
        errors += _taken(source.get("path"), source.get("path") or "", root, taken)
    return errors


def _taken(where: str | None, shown: str, root: str, taken: set[str]) -> Errors:
    if not where:
        return []
    if where in taken:
        return [invalid_field(root, shown, "conflicting duplicate paths")]
    taken.add(where)
    return []


def _token_projection(source: Obj, path: str) -> Errors:
    errors: Errors = []
    seconds = source.get("expirationSeconds")
    if seconds is not None and seconds < 600:
        detail = "may not specify a duration less than 10 minutes"
        errors.append(invalid_field(f"{path}.expirationSeconds", seconds, detail))
    if seconds is not None and seconds > 1 << 32:
        detail = "may not specify a duration larger than 2^32 seconds"
        errors.append(invalid_field(f"{path}.expirationSeconds", seconds, detail))
    where = source.get("path") or ""
    if not where:
        errors.append(required_field(f"{path}.path"))
    return errors + local_nonreserved_path(where, f"{path}.path")


def _trust_bundle(source: Obj, path: str) -> Errors:
    errors: Errors = []
    name, signer = source.get("name"), source.get("signerName")
    if name is not None and signer is not None:
        errors.append(invalid_field(path, source, "only one of name and signerName may be used"))
    elif name is None and signer is None:
        errors.append(required_field(path, "either name or signerName must be specified"))
    where = source.get("path") or ""
    if not where:
        errors.append(required_field(f"{path}.path"))
    return errors + local_nonreserved_path(where, f"{path}.path")


_PROJECTIONS = ("secret", "configMap", "downwardAPI", "serviceAccountToken", "clusterTrustBundle", "podCertificate")


# ---------------------------------------------------------------- network and cloud storage


def _nfs(source: Obj, path: str) -> Errors:
    errors = _requires("server", "path")(source, path)
    if not (source.get("path") or "").startswith("/"):
        errors.append(invalid_field(f"{path}.path", source.get("path") or "", "must be an absolute path"))
    return errors


_IQN = re.compile(r"iqn\.\d{4}-\d{2}\.([a-z0-9.]+)(:[^,;*&$|\s]+)?")
_EUI = re.compile(r"eui\.[0-9A-Fa-f]{16}")
_NAA = re.compile(r"naa\.[0-9A-Fa-f]{32}")


def _iscsi(source: Obj, path: str) -> Errors:
    errors: Errors = []
    if not source.get("targetPortal"):
        errors.append(required_field(f"{path}.targetPortal"))
    iqn = source.get("iqn") or ""
    if not iqn:
        errors.append(required_field(f"{path}.iqn"))
    elif not iqn.startswith(("iqn", "eui", "naa")) or not any(pattern.fullmatch(iqn) for pattern in (_IQN, _EUI, _NAA)):
        detail = "must be valid format starting with iqn, eui, or naa"
        if iqn.startswith(("iqn", "eui", "naa")):
            detail = "must be valid format"
        errors.append(invalid_field(f"{path}.iqn", iqn, detail))
    lun = source.get("lun") or 0
    if not 0 <= lun <= 255:
        errors.append(invalid_field(f"{path}.lun", lun, "must be between 0 and 255, inclusive"))
    if (source.get("chapAuthDiscovery") or source.get("chapAuthSession")) and source.get("secretRef") is None:
        errors.append(required_field(f"{path}.secretRef"))
    return errors


def _fc(source: Obj, path: str) -> Errors:
    errors: Errors = []
    targets, ids = source.get("targetWWNs") or [], source.get("wwids") or []
    if not targets and not ids:
        errors.append(required_field(f"{path}.targetWWNs", "must specify either targetWWNs or wwids, but not both"))
    if targets and ids:
        detail = "targetWWNs and wwids can not be specified simultaneously"
        errors.append(invalid_field(f"{path}.targetWWNs", targets, detail))
    if targets:
        lun = source.get("lun")
        if lun is None:
            errors.append(required_field(f"{path}.lun", "lun is required if targetWWNs is specified"))
        elif not 0 <= lun <= 255:
            errors.append(invalid_field(f"{path}.lun", lun, "must be between 0 and 255, inclusive"))
    return errors


def _partition(source: Obj, path: str) -> Errors:
    partition = source.get("partition") or 0
    if not 0 <= partition <= 255:
        return [invalid_field(f"{path}.partition", partition, "must be between 0 and 255, inclusive")]
    return []


def _gce(source: Obj, path: str) -> Errors:
    return _requires("pdName")(source, path) + _partition(source, path)


def _aws(source: Obj, path: str) -> Errors:
    return _requires("volumeID")(source, path) + _partition(source, path)


_MANAGED_DISK = "/subscriptions/"
_DISK_URIS = {
    "Managed": "/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}",
    "Blob": "https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd",
}


def _azure_disk(source: Obj, path: str) -> Errors:
    errors = _requires("diskName", "diskURI")(source, path)
    uri = source.get("diskURI") or ""
    if source.get("cachingMode"):
        errors += one_of(source["cachingMode"], f"{path}.cachingMode", ("None", "ReadOnly", "ReadWrite"))
    if source.get("kind"):
        errors += one_of(source["kind"], f"{path}.kind", ("Dedicated", "Managed", "Shared"))
    if source.get("kind") == "Managed" and not uri.startswith(_MANAGED_DISK):
        errors.append(unsupported_field(f"{path}.diskURI", uri, (_DISK_URIS["Managed"],)))
    if source.get("kind") != "Managed" and not uri.startswith("https://"):
        errors.append(unsupported_field(f"{path}.diskURI", uri, (_DISK_URIS["Blob"],)))
    return errors


def _glusterfs(source: Obj, path: str) -> Errors:
    return _requires("endpoints", "path")(source, path)


def _git_repo(source: Obj, path: str) -> Errors:
    errors = _requires("repository")(source, path)
    return errors + local_path(source.get("directory") or "", f"{path}.directory")


def _quobyte(source: Obj, path: str) -> Errors:
    errors: Errors = []
    registry = source.get("registry") or ""
    if not registry:
        errors.append(
            required_field(f"{path}.registry", "must be a host:port pair or multiple pairs separated by commas")
        )
    elif any(":" not in pair for pair in registry.split(",")):
        detail = "must be a host:port pair or multiple pairs separated by commas"
        errors.append(invalid_field(f"{path}.registry", registry, detail))
    if not source.get("volume"):
        errors.append(required_field(f"{path}.volume"))
    return errors


def csi_driver_name(driver: str, path: str) -> Errors:
    if not driver:
        return [required_field(path)]
    errors: Errors = []
    if len(driver) > 63:
        errors.append(invalid_field(path, driver, names.too_long(63)))
    return errors + problems(names.dns1123_subdomain(driver.lower() if driver.islower() else driver), path, driver)


def _csi(source: Obj, path: str) -> Errors:
    errors = csi_driver_name(source.get("driver") or "", f"{path}.driver")
    secret = source.get("nodePublishSecretRef")
    if secret is not None and not secret.get("name"):
        errors.append(required_field(f"{path}.nodePublishSecretRef.name"))
    return errors


def _flex(source: Obj, path: str) -> Errors:
    errors = _requires("driver")(source, path)
    if "fsType" in (source.get("options") or {}):
        errors.append(invalid_field(f"{path}.options", source["options"], "must not use reserved keys"))
    return errors


def _image(source: Obj, path: str) -> Errors:
    errors: Errors = []
    reference = source.get("reference") or ""
    if not reference:
        errors.append(required_field(f"{path}.reference"))
    elif reference != reference.strip():
        errors.append(invalid_field(f"{path}.reference", reference, "must not have leading or trailing whitespace"))
    return errors + one_of(source.get("pullPolicy"), f"{path}.pullPolicy", PULL_POLICIES, missing="skip")


def _claim_reference(source: Obj, path: str) -> Errors:
    return _requires("claimName")(source, path)


def _ephemeral(source: Obj, path: str) -> Errors:
    from proa.apis.core.claims import claim_template

    template = source.get("volumeClaimTemplate")
    if template is None:
        return [required_field(f"{path}.volumeClaimTemplate")]
    return claim_template(template, f"{path}.volumeClaimTemplate")


# In upstream's order, which decides what counts as "more than one volume type".
_SOURCES: dict[str, Check] = {
    "emptyDir": _empty_dir,
    "hostPath": _host_path,
    "gitRepo": _git_repo,
    "gcePersistentDisk": _gce,
    "awsElasticBlockStore": _aws,
    "secret": _secret,
    "nfs": _nfs,
    "iscsi": _iscsi,
    "glusterfs": _glusterfs,
    "flexVolume": _flex,
    "configMap": _config_map,
    "cephfs": _requires("monitors"),
    "downwardAPI": _downward,
    "fc": _fc,
    "persistentVolumeClaim": _claim_reference,
    "rbd": _requires("monitors", "image"),
    "cinder": _requires("volumeID"),
    "flocker": lambda source, path: [],
    "azureFile": _requires("secretName", "shareName"),
    "vsphereVolume": _requires("volumePath"),
    "photonPersistentDisk": _requires("pdID"),
    "portworxVolume": _requires("volumeID"),
    "azureDisk": _azure_disk,
    "quobyte": _quobyte,
    "storageos": lambda source, path: [],
    "projected": _projected,
    "scaleIO": _requires("gateway", "system", "volumeName"),
    "csi": _csi,
    "ephemeral": _ephemeral,
    "image": _image,
}


def source_of(volume: Obj) -> str:
    """Returns the name of a volume's source, "" if it has none."""
    return next((key for key in _SOURCES if volume.get(key) is not None), "")


def volume_source(volume: Obj, path: str) -> Errors:
    """Checks that there is exactly one source, and that source."""
    kinds = [key for key in _SOURCES if volume.get(key) is not None]
    if not kinds:
        return [required_field(path, "must specify a volume type")]
    errors = _SOURCES[kinds[0]](volume[kinds[0]], f"{path}.{kinds[0]}")
    errors += [forbidden_field(f"{path}.{extra}", "may not specify more than 1 volume type") for extra in kinds[1:]]
    return errors


def volumes(items: list[Obj] | None, path: str) -> tuple[dict[str, Obj], Errors]:
    """Returns the volumes by name, and what is wrong with them."""
    errors: Errors = []
    by_name: dict[str, Obj] = {}
    for index, volume in enumerate(items or []):
        at = f"{path}[{index}]"
        name = volume.get("name") or ""
        found = volume_source(volume, at)
        if not name:
            found.append(required_field(f"{at}.name"))
        else:
            found += problems(names.dns1123_label(name), f"{at}.name", name)
        if name in by_name:
            found.append(duplicate_field(f"{at}.name", name))
        if not found:
            by_name[name] = volume
        errors += found
    return by_name, errors


# What persistent volumes share with pods, with their own differences.
PERSISTENT_SOURCES: dict[str, Check] = {
    "gcePersistentDisk": _gce,
    "awsElasticBlockStore": _aws,
    "hostPath": _host_path,
    "glusterfs": _glusterfs,
    "nfs": _nfs,
    "rbd": _SOURCES["rbd"],
    "quobyte": _quobyte,
    "cephfs": _SOURCES["cephfs"],
    "iscsi": _iscsi,
    "cinder": _SOURCES["cinder"],
    "fc": _fc,
    "flexVolume": _flex,
    "azureFile": _SOURCES["azureFile"],
    "vsphereVolume": _SOURCES["vsphereVolume"],
    "photonPersistentDisk": _SOURCES["photonPersistentDisk"],
    "portworxVolume": _SOURCES["portworxVolume"],
    "azureDisk": _azure_disk,
    "scaleIO": _SOURCES["scaleIO"],
    "storageos": _SOURCES["storageos"],
}
