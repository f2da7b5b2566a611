"""Validation of security contexts, of pods and containers, and of what Windows and Linux pods may not set.

Follows upstream's `pkg/apis/core/validation` (ValidateSecurityContext, ValidatePodSecurityContext, validateWindows).
"""

from __future__ import annotations

import re

from proa.apis.fields import Errors, local_path, one_of, problems
from proa.meta import names
from proa.meta.errors import duplicate_field, forbidden_field, invalid_field, required_field, unsupported_field
from proa.meta.objects import Obj

_SYSCTL = r"^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$"
_SYSCTL_LENGTH_MAX = 253


def _user(value: int | None, path: str) -> Errors:
    return problems(names.user_id(value), path, value) if value is not None else []


def seccomp(profile: Obj | None, path: str) -> Errors:
    if profile is None:
        return []
    kind, local = profile.get("type") or "", profile.get("localhostProfile")
    if kind == "Localhost":
        if not local:
            return [required_field(f"{path}.localhostProfile", "must be set when seccomp type is Localhost")]
        return local_path(local, f"{path}.localhostProfile")
    errors: Errors = []
    if local is not None:
        detail = "can only be set when seccomp type is Localhost"
        errors.append(invalid_field(f"{path}.localhostProfile", local, detail))
    if not kind:
        errors.append(required_field(f"{path}.type", "type is required when seccompProfile is set"))
    else:
        errors += one_of(kind, f"{path}.type", ("Localhost", "RuntimeDefault", "Unconfined"))
    return errors


def app_armor(profile: Obj | None, path: str) -> Errors:
    if profile is None:
        return []
    kind, local = profile.get("type") or "", profile.get("localhostProfile")
    if kind == "Localhost":
        at = f"{path}.localhostProfile"
        if local is None:
            return [required_field(at, "must be set when AppArmor type is Localhost")]
        if local.strip() != local:
            return [invalid_field(at, local, "must not be padded with whitespace")]
        if not local:
            return [required_field(at, "must be set when AppArmor type is Localhost")]
        return [] if len(local) <= 4095 else [invalid_field(at, local, "may not be more than 4095 bytes")]
    errors: Errors = []
    if local is not None:
        detail = "can only be set when AppArmor type is Localhost"
        errors.append(invalid_field(f"{path}.localhostProfile", local, detail))
    if not kind:
        errors.append(required_field(f"{path}.type", "type is required when appArmorProfile is set"))
    else:
        errors += one_of(kind, f"{path}.type", ("Localhost", "RuntimeDefault", "Unconfined"))
    return errors


def _windows_options(options: Obj | None, path: str) -> Errors:
    if not options:
        return []
    errors: Errors = []
    credential, spec = options.get("gmsaCredentialSpecName"), options.get("gmsaCredentialSpec")
    if credential is not None:
        errors += problems(names.dns1123_subdomain(credential), f"{path}.gmsaCredentialSpecName", credential)
    if spec is not None and not spec:
        errors.append(invalid_field(f"{path}.gmsaCredentialSpec", spec, "gmsaCredentialSpec cannot be an empty string"))
    user = options.get("runAsUserName")
    if user is not None and not user:
        errors.append(invalid_field(f"{path}.runAsUserName", user, "runAsUserName cannot be an empty string"))
    return errors


def container(context: Obj | None, path: str, *, host_users: bool) -> Errors:
    """Checks a container's security context; `host_users` false if the pod has a user namespace of its own."""
    if not context:
        return []
    errors = _user(context.get("runAsUser"), f"{path}.runAsUser")
    errors += _user(context.get("runAsGroup"), f"{path}.runAsGroup")
    mount = context.get("procMount")
    if mount is not None:
        errors += one_of(mount, f"{path}.procMount", ("Default", "Unmasked"))
        if host_users and mount == "Unmasked":
            errors.append(invalid_field(f"{path}.procMount", mount, "`hostUsers` must be false to use `Unmasked`"))
    errors += seccomp(context.get("seccompProfile"), f"{path}.seccompProfile")
    if context.get("allowPrivilegeEscalation") is False:
        if context.get("privileged"):
            detail = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true"
            errors.append(invalid_field(path, context, detail))
        if "CAP_SYS_ADMIN" in ((context.get("capabilities") or {}).get("add") or []):
            detail = "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN"
            errors.append(invalid_field(path, context, detail))
    errors += _windows_options(context.get("windowsOptions"), f"{path}.windowsOptions")
    return errors + app_armor(context.get("appArmorProfile"), f"{path}.appArmorProfile")


def pod(context: Obj | None, spec: Obj, path: str, *, is_pod: bool) -> Errors:
    """Checks what upstream keeps in the pod's security context; `path` is the spec's."""
    errors: Errors = []
    at = f"{path}.securityContext"
    if spec.get("hostNetwork"):
        for key in ("containers", "initContainers", "ephemeralContainers"):
            errors += _host_ports(spec.get(key) or [], f"{path}.{key}", is_pod)
    if context is not None and spec.get("shareProcessNamespace") and spec.get("hostPID"):
        detail = "ShareProcessNamespace and HostPID cannot both be enabled"
        errors.append(invalid_field(f"{path}.shareProcessNamespace", True, detail))
    if not context:
        return errors
    for key in ("fsGroup", "runAsUser", "runAsGroup"):
        errors += _user(context.get(key), f"{at}.{key}")
    for index, group in enumerate(context.get("supplementalGroups") or []):
        errors += _user(group, f"{at}.supplementalGroups[{index}]")
    errors += _sysctls(context.get("sysctls") or [], spec, f"{at}.sysctls")
    if context.get("fsGroupChangePolicy") is not None:
        supported = ("OnRootMismatch", "Always")
        errors += one_of(context["fsGroupChangePolicy"], f"{at}.fsGroupChangePolicy", supported)
    errors += seccomp(context.get("seccompProfile"), f"{at}.seccompProfile")
    errors += _windows_options(context.get("windowsOptions"), f"{at}.windowsOptions")
    errors += app_armor(context.get("appArmorProfile"), f"{at}.appArmorProfile")
    if context.get("supplementalGroupsPolicy") is not None:
        supported = ("Merge", "Strict")
        errors += one_of(context["supplementalGroupsPolicy"], f"{at}.supplementalGroupsPolicy", supported)
    return errors


def _host_ports(containers: list[Obj], path: str, is_pod: bool) -> Errors:
    errors: Errors = []
    for index, one in enumerate(containers):
        for number, port in enumerate(one.get("ports") or []):
            host = port.get("hostPort") or 0
            if host != port.get("containerPort") and (is_pod or host):
                at = f"{path}[{index}].ports[{number}].hostPort"
                errors.append(invalid_field(at, host, "must match `containerPort` when `hostNetwork` is true"))
    return errors


_IPC_SYSCTLS = ("kernel.shm", "kernel.msg", "fs.mqueue.")


def _sysctls(items: list[Obj], spec: Obj, path: str) -> Errors:
    errors: Errors = []
    seen: set[str] = set()
    for index, one in enumerate(items):
        at, name = f"{path}[{index}].name", one.get("name") or ""
        if not name:
            errors.append(required_field(at))
        elif len(name) > _SYSCTL_LENGTH_MAX or not re.match(_SYSCTL, name):
            detail = f"must have at most {_SYSCTL_LENGTH_MAX} characters and match regex {_SYSCTL}"
            errors.append(invalid_field(at, name, detail))
        elif name in seen:
            errors.append(duplicate_field(at, name))
        dotted = name.replace("/", ".")
        if spec.get("hostNetwork") and dotted.startswith("net."):
            errors.append(invalid_field(at, name, "may not be specified when 'hostNetwork' is true"))
        if spec.get("hostIPC") and (dotted == "kernel.sem" or dotted.startswith(_IPC_SYSCTLS)):
            errors.append(invalid_field(at, name, "may not be specified when 'hostIPC' is true"))
        seen.add(name)
    return errors


# ---------------------------------------------------------------- operating system

_WINDOWS_POD = (
    "appArmorProfile",
    "seLinuxOptions",
    "seccompProfile",
    "fsGroup",
    "fsGroupChangePolicy",
    "sysctls",
    "runAsUser",
    "runAsGroup",
    "supplementalGroups",
    "supplementalGroupsPolicy",
)
_WINDOWS_SPEC = ("hostUsers", "hostPID", "hostIPC", "shareProcessNamespace")
_WINDOWS_CONTAINER = (
    "appArmorProfile",
    "seLinuxOptions",
    "seccompProfile",
    "capabilities",
    "readOnlyRootFilesystem",
    "privileged",
    "allowPrivilegeEscalation",
    "procMount",
    "runAsUser",
    "runAsGroup",
)


def operating_system(spec: Obj, path: str) -> Errors:
    """Checks `os` and that nothing is set that this operating system does not know."""
    system = spec.get("os")
    if system is None:
        return []
    name = system.get("name") or ""
    if not name:
        return [required_field(f"{path}.os.name", "cannot be empty")]
    if name == "linux":
        return _linux(spec, path)
    if name == "windows":
        return _windows(spec, path)
    return [unsupported_field(f"{path}.os", name, ("linux", "windows"))]


def _linux(spec: Obj, path: str) -> Errors:
    detail = "windows options cannot be set for a linux pod"
    errors: Errors = []
    if (spec.get("securityContext") or {}).get("windowsOptions") is not None:
        errors.append(forbidden_field(f"{path}.securityContext.windowsOptions", detail))
    for at, one in _all_containers(spec, path):
        if (one.get("securityContext") or {}).get("windowsOptions") is not None:
            errors.append(forbidden_field(f"{at}.securityContext.windowsOptions", detail))
    return errors


def _windows(spec: Obj, path: str) -> Errors:
    detail = "cannot be set for a windows pod"
    context = spec.get("securityContext") or {}
    errors = [forbidden_field(f"{path}.{key}", detail) for key in _WINDOWS_SPEC if spec.get(key)]
    errors += [
        forbidden_field(f"{path}.securityContext.{key}", detail) for key in _WINDOWS_POD if context.get(key) is not None
    ]
    for at, one in _all_containers(spec, path):
        own = one.get("securityContext") or {}
        errors += [
            forbidden_field(f"{at}.securityContext.{key}", detail)
            for key in _WINDOWS_CONTAINER
            if own.get(key) is not None
        ]
    return errors


def _all_containers(spec: Obj, path: str) -> list[tuple[str, Obj]]:
    return [
        (f"{path}.{key}[{index}]", one)
        for key in ("containers", "initContainers", "ephemeralContainers")
        for index, one in enumerate(spec.get(key) or [])
    ]
