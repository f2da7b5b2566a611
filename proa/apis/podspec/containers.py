"""Validation of containers: ports, environment, probes, lifecycle, init and ephemeral containers.

Follows upstream's `pkg/apis/core/validation` (validateContainers and what it calls), errors in its order.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from proa.apis.fields import Errors, local_path, nonnegative, one_of, port_reference, problems
from proa.apis.podspec import resources, security
from proa.apis.podspec.mounts import mounts
from proa.apis.podspec.volumes import (
    PULL_POLICIES,
    field_reference,
    resource_reference,
)
from proa.meta import names
from proa.meta.errors import (
    duplicate_field,
    forbidden_field,
    invalid_field,
    not_found_field,
    required_field,
    too_many_field,
)
from proa.meta.objects import Obj

PROTOCOLS = ("SCTP", "TCP", "UDP")
RESTART_POLICIES = ("Always", "Never", "OnFailure")
_ENV_FIELDS = (
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What of the pod its containers are checked against."""

    volumes: dict[str, Obj]
    claims: Collection[str]
    grace_seconds: int
    restart_policy: str
    host_users: bool


# ---------------------------------------------------------------- common to all containers


def _common(one: Obj, pod: Surroundings, path: str) -> Errors:
    errors: Errors = []
    name, image = one.get("name") or "", one.get("image") or ""
    if not name:
        errors.append(required_field(f"{path}.name"))
    else:
        errors += problems(names.dns1123_label(name), f"{path}.name", name)
    if not image:
        errors.append(required_field(f"{path}.image"))
    elif image != image.strip():
        errors.append(invalid_field(f"{path}.image", image, "must not have leading or trailing whitespace"))
    at = f"{path}.terminationMessagePolicy"
    errors += one_of(one.get("terminationMessagePolicy"), at, ("File", "FallbackToLogsOnError"), missing="required")
    errors += ports(one.get("ports") or [], f"{path}.ports")
    errors += environment(one.get("env") or [], f"{path}.env")
    errors += _environment_sources(one.get("envFrom") or [], f"{path}.envFrom")
    errors += mounts(one, pod.volumes, path)
    errors += _files_of_volumes(one, pod.volumes, path)
    errors += one_of(one.get("imagePullPolicy"), f"{path}.imagePullPolicy", PULL_POLICIES, missing="required")
    errors += resources.requirements(one.get("resources"), pod.claims, f"{path}.resources")
    errors += resources.resize_policy(one.get("resizePolicy"), pod.restart_policy, f"{path}.resizePolicy")
    return errors + security.container(one.get("securityContext"), f"{path}.securityContext", host_users=pod.host_users)


def containers(items: list[Obj], pod: Surroundings, taken: set[str], path: str) -> Errors:
    """Checks the main containers; adds their names to `taken`."""
    if not items:
        return [required_field(path)]
    errors: Errors = []
    for index, one in enumerate(items):
        at = f"{path}[{index}]"
        errors += _common(one, pod, at)
        errors += _unique_name(one, taken, at)
        errors += _lifecycle(one.get("lifecycle"), pod.grace_seconds, f"{at}.lifecycle")
        errors += _probes(one, pod, at)
        errors += _restart(one, at)
    return errors + _host_port_conflicts(items, path)


def init_containers(items: list[Obj], pod: Surroundings, taken: set[str], path: str) -> Errors:
    errors: Errors = []
    for index, one in enumerate(items):
        at = f"{path}[{index}]"
        errors += _common(one, pod, at)
        sidecar = one.get("restartPolicy") == "Always"
        if one.get("restartPolicy") is not None:
            errors += _restart(one, at)
        errors += _unique_name(one, taken, at)
        if sidecar:
            errors += _lifecycle(one.get("lifecycle"), pod.grace_seconds, f"{at}.lifecycle")
            errors += _probes(one, pod, at)
        else:
            for key in ("lifecycle", "livenessProbe", "readinessProbe", "startupProbe"):
                if one.get(key) is not None:
                    detail = "may not be set for init containers without restartPolicy=Always"
                    errors.append(forbidden_field(f"{at}.{key}", detail))
        errors += _host_port_conflicts([one], path, index)
    return errors


_EPHEMERAL_FORBIDDEN = (
    "lifecycle",
    "livenessProbe",
    "ports",
    "readinessProbe",
    "resources",
    "resizePolicy",
    "restartPolicy",
    "restartPolicyRules",
    "startupProbe",
)


def ephemeral_containers(items: list[Obj], spec: Obj, pod: Surroundings, path: str) -> Errors:
    errors: Errors = []
    others = {one.get("name") for key in ("containers", "initContainers") for one in spec.get(key) or []}
    taken: set[str] = set()
    for index, one in enumerate(items):
        at = f"{path}[{index}]"
        errors += _common(one, pod, at)
        name, target = one.get("name") or "", one.get("targetContainerName") or ""
        if name and (name in taken or name in others):
            errors.append(duplicate_field(f"{at}.name", name))
        taken.add(name)
        if target and target not in others:
            errors.append(not_found_field(f"{at}.targetContainerName", target))
        for key in _EPHEMERAL_FORBIDDEN:
            if one.get(key):
                errors.append(forbidden_field(f"{at}.{key}", "cannot be set for an Ephemeral Container"))
        for number, mount in enumerate(one.get("volumeMounts") or []):
            for key in ("subPath", "subPathExpr"):
                if mount.get(key):
                    where = f"{at}.volumeMounts[{number}].{key}"
                    errors.append(forbidden_field(where, "cannot be set for an Ephemeral Container"))
    return errors


def _unique_name(one: Obj, taken: set[str], path: str) -> Errors:
    name = one.get("name") or ""
    if not name:
        return []
    if name in taken:
        return [duplicate_field(f"{path}.name", name)]
    taken.add(name)
    return []


_RULES_MAX, _EXIT_CODES_MAX = 20, 255


def _restart(one: Obj, path: str) -> Errors:
    """A restart policy of the container's own, with its rules."""
    policy, rules = one.get("restartPolicy"), one.get("restartPolicyRules") or []
    if policy is None:
        if rules:
            detail = "must specify restartPolicy when restart rules are used"
            return [required_field(f"{path}.restartPolicy", detail)]
        return []
    errors = one_of(policy, f"{path}.restartPolicy", RESTART_POLICIES)
    if len(rules) > _RULES_MAX:
        errors.append(too_many_field(f"{path}.restartPolicyRules", len(rules), _RULES_MAX))
    for index, rule in enumerate(rules):
        errors += _restart_rule(rule, f"{path}.restartPolicyRules[{index}]")
    return errors


def _restart_rule(rule: Obj, path: str) -> Errors:
    errors = one_of(rule.get("action") or "", f"{path}.action", ("Restart", "RestartAllContainers"))
    codes = rule.get("exitCodes")
    if codes is None:
        return [*errors, required_field(f"{path}.exitCodes", "must be specified")]
    errors += one_of(codes.get("operator") or "", f"{path}.exitCodes.operator", ("In", "NotIn"))
    if len(codes.get("values") or []) > _EXIT_CODES_MAX:
        errors.append(too_many_field(f"{path}.exitCodes.values", len(codes["values"]), _EXIT_CODES_MAX))
    return errors


# ---------------------------------------------------------------- ports


def ports(items: list[Obj], path: str) -> Errors:
    errors: Errors = []
    taken: set[str] = set()
    for index, port in enumerate(items):
        at = f"{path}[{index}]"
        name, number, host = port.get("name") or "", port.get("containerPort") or 0, port.get("hostPort") or 0
        if name:
            found = names.port_name(name)
            errors += problems(found, f"{at}.name", name)
            if not found and name in taken:
                errors.append(duplicate_field(f"{at}.name", name))
            elif not found:
                taken.add(name)
        if number == 0:
            errors.append(required_field(f"{at}.containerPort"))
        else:
            errors += problems(names.port_number(number), f"{at}.containerPort", number)
        if host:
            errors += problems(names.port_number(host), f"{at}.hostPort", host)
        errors += one_of(port.get("protocol"), f"{at}.protocol", PROTOCOLS, missing="required")
    return errors


def _host_port_conflicts(items: list[Obj], path: str, first: int = 0) -> Errors:
    errors: Errors = []
    taken: set[str] = set()
    for index, one in enumerate(items, first):
        for number, port in enumerate(one.get("ports") or []):
            host = port.get("hostPort") or 0
            if not host:
                continue
            shown = f"{port.get('protocol') or ''}/{port.get('hostIP') or ''}/{host}"
            if shown in taken:
                errors.append(duplicate_field(f"{path}[{index}].ports[{number}].hostPort", shown))
            taken.add(shown)
    return errors


# ---------------------------------------------------------------- environment


def environment(items: list[Obj], path: str) -> Errors:
    errors: Errors = []
    for index, variable in enumerate(items):
        at, name = f"{path}[{index}]", variable.get("name") or ""
        if not name:
            errors.append(required_field(f"{at}.name"))
        else:
            errors += problems(names.relaxed_env_name(name), f"{at}.name", name)
        if variable.get("valueFrom") is not None:
            errors += _value_source(variable, f"{at}.valueFrom")
    return errors


def _value_source(variable: Obj, path: str) -> Errors:
    source = variable["valueFrom"]
    kinds = [key for key in _VALUE_SOURCES if source.get(key) is not None]
    errors: Errors = []
    for key in kinds:
        errors += _VALUE_SOURCES[key](source[key], f"{path}.{key}")
    if not kinds:
        listed = "`fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`"
        errors.append(invalid_field(path, "", f"must specify one of: {listed}"))
    elif variable.get("value"):
        errors.append(invalid_field(path, "", "may not be specified when `value` is not empty"))
    elif len(kinds) > 1:
        errors.append(invalid_field(path, "", "may not have more than one field specified at a time"))
    return errors


def _env_field(reference: Obj, path: str) -> Errors:
    return field_reference(reference, path, _ENV_FIELDS)


def _env_resource(reference: Obj, path: str) -> Errors:
    return resource_reference(reference, path, volume=False)


def _key_reference(reference: Obj, path: str) -> Errors:
    name, key = reference.get("name") or "", reference.get("key") or ""
    errors = problems(names.dns1123_subdomain(name), f"{path}.name", name)
    if not key:
        errors.append(required_field(f"{path}.key"))
    else:
        errors += problems(names.config_key(key), f"{path}.key", key)
    return errors


def _file_reference(reference: Obj, path: str) -> Errors:
    volume, file, key = (reference.get(name) or "" for name in ("volumeName", "path", "key"))
    errors: Errors = [
        required_field(f"{path}.{name}") for name in ("volumeName", "path", "key") if not reference.get(name)
    ]
    if volume:
        errors += problems(names.dns1123_label(volume), f"{path}.volumeName", volume)
    if file:
        errors += local_path(file, f"{path}.path")
    if key:
        errors += problems(names.relaxed_env_name(key), f"{path}.key", key)
    return errors


def _files_of_volumes(one: Obj, volumes: dict[str, Obj], path: str) -> Errors:
    """Variables may come from files of emptyDir volumes only."""
    errors: Errors = []
    for index, variable in enumerate(one.get("env") or []):
        name = ((variable.get("valueFrom") or {}).get("fileKeyRef") or {}).get("volumeName")
        at = f"{path}.env[{index}].valueFrom.fileKeyRef.volumeName"
        if name and name not in volumes:
            errors.append(not_found_field(at, name))
        elif name and volumes[name].get("emptyDir") is None:
            errors.append(invalid_field(at, name, "referenced volume must be of type emptyDir"))
    return errors


_VALUE_SOURCES = {
    "fieldRef": _env_field,
    "resourceFieldRef": _env_resource,
    "configMapKeyRef": _key_reference,
    "secretKeyRef": _key_reference,
    "fileKeyRef": _file_reference,
}


def _environment_sources(items: list[Obj], path: str) -> Errors:
    errors: Errors = []
    for index, one in enumerate(items):
        prefix = one.get("prefix") or ""
        if prefix:
            errors += problems(names.relaxed_env_name(prefix), f"{path}[{index}].prefix", prefix)
        kinds = [key for key in ("configMapRef", "secretRef") if one.get(key) is not None]
        for key in kinds:
            name = one[key].get("name") or ""
            errors += problems(names.dns1123_subdomain(name), f"{path}.{key}.name", name)
        if not kinds:
            errors.append(invalid_field(path, "", "must specify one of: `configMapRef` or `secretRef`"))
        elif len(kinds) > 1:
            errors.append(invalid_field(path, "", "may not have more than one field specified at a time"))
    return errors


# ---------------------------------------------------------------- probes and lifecycle


def _probes(one: Obj, pod: Surroundings, path: str) -> Errors:
    errors: Errors = []
    for key in ("livenessProbe", "readinessProbe", "startupProbe"):
        probe = one.get(key)
        if probe is None:
            continue
        at = f"{path}.{key}"
        errors += _probe(probe, pod.grace_seconds, at)
        if key == "readinessProbe":
            grace = probe.get("terminationGracePeriodSeconds")
            if grace is not None:
                detail = "must not be set for readinessProbes"
                errors.append(invalid_field(f"{at}.terminationGracePeriodSeconds", grace, detail))
        elif probe.get("successThreshold") not in (None, 1):
            errors.append(invalid_field(f"{at}.successThreshold", probe["successThreshold"], "must be 1"))
    return errors


def _probe(probe: Obj, grace_seconds: int, path: str) -> Errors:
    errors = _handler(probe, grace_seconds, path, probe=True)
    for key in ("initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"):
        errors += nonnegative(probe.get(key), f"{path}.{key}")
    grace = probe.get("terminationGracePeriodSeconds")
    if grace is not None and grace <= 0:
        errors.append(invalid_field(f"{path}.terminationGracePeriodSeconds", grace, "must be greater than 0"))
    return errors


def _lifecycle(lifecycle: Obj | None, grace_seconds: int, path: str) -> Errors:
    errors: Errors = []
    for key in ("postStart", "preStop"):
        handler = (lifecycle or {}).get(key)
        if handler is not None:
            errors += _handler(handler, grace_seconds, f"{path}.{key}", probe=False)
    return errors


def _handler(handler: Obj, grace_seconds: int, path: str, *, probe: bool) -> Errors:
    """Checks that there is exactly one action, and that action."""
    kinds = ("exec", "httpGet", "tcpSocket", "grpc") if probe else ("exec", "httpGet", "tcpSocket", "sleep")
    found = [key for key in kinds if handler.get(key) is not None]
    if not found:
        return [required_field(path, "must specify a handler type")]
    at = f"{path}.{found[0]}"
    action = handler[found[0]]
    if found[0] == "exec":
        errors = [] if action.get("command") else [required_field(f"{at}.command")]
    elif found[0] == "httpGet":
        errors = _http_get(action, at)
    elif found[0] == "sleep":
        errors = _sleep(action.get("seconds") or 0, grace_seconds, at)
    else:
        errors = port_reference(action.get("port"), f"{at}.port")
    return errors + [
        forbidden_field(f"{path}.{extra}", "may not specify more than 1 handler type") for extra in found[1:]
    ]


def _sleep(seconds: int, grace_seconds: int, path: str) -> Errors:
    if 0 <= seconds <= grace_seconds:
        return []
    detail = f"must be non-negative and less than terminationGracePeriodSeconds ({grace_seconds})"
    return [invalid_field(path, seconds, detail)]


def _http_get(action: Obj, path: str) -> Errors:
    errors: Errors = []
    if not action.get("path"):
        errors.append(required_field(f"{path}.path"))
    errors += port_reference(action.get("port"), f"{path}.port")
    errors += one_of(action.get("scheme") or "", f"{path}.scheme", ("HTTP", "HTTPS"))
    for header in action.get("httpHeaders") or []:
        name = header.get("name") or ""
        errors += problems(names.http_header_name(name), f"{path}.httpHeaders", name)
    return errors
