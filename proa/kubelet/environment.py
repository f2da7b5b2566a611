"""A container's environment: env, envFrom, service variables, field and resource references, `$(VAR)` expansion. Pure.

Follows upstream's documentation of environment variables for containers and of the downward API.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from proa.kubelet import envfiles
from proa.kubelet.podspec import container_named
from proa.meta.objects import Obj, annotations_of, labels_of, metadata, name_of
from proa.meta.quantity import parse

# kind ("configmaps" or "secrets"), name -> the object of the pod's namespace, or None
Lookup = Callable[[str, str], Obj | None]

# volume name, path in it -> the text of a file; raises OSError or ValueError
ReadFile = Callable[[str, str], str]

_REFERENCE = re.compile(r"\$(?:\$|\(([^()]*)\))")
_SUBSCRIPT = re.compile(r"^metadata\.(labels|annotations)\['(.*)'\]$")


class ConfigError(Exception):
    """The container can't be configured: a missing config map, secret or key, or a field that makes no sense."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeFacts:
    """What references may ask of the node: its addresses and what it can allocate (resource -> quantity text)."""

    name: str
    host_ips: tuple[str, ...] = ()
    allocatable: Mapping[str, str] = field(default_factory=dict)


def expand(text: str, variables: Mapping[str, str]) -> str:
    """Replaces `$(NAME)` by the variable's value; `$$` is a dollar sign; unknown references stay."""

    def replacement(match: re.Match[str]) -> str:
        name = match.group(1)
        if name is None:
            return "$"
        return variables.get(name, match.group(0))

    return _REFERENCE.sub(replacement, text)


def environment(
    pod: Obj,
    container: Obj,
    *,
    node: NodeFacts,
    pod_ips: tuple[str, ...],
    services: Iterable[Obj],
    lookup: Lookup,
    read_file: ReadFile | None = None,
) -> dict[str, str]:
    """Returns the variables in order; raises ConfigError where a reference leads nowhere."""
    from_services = service_variables(pod, services)
    result: dict[str, str] = {}
    for source in container.get("envFrom") or []:
        result.update(_all_of(source, lookup))
    known = {**from_services, **result}
    for variable in container.get("env") or []:
        name = variable["name"]
        source = variable.get("valueFrom")
        if source and source.get("fileKeyRef"):
            value = _from_file(pod, source["fileKeyRef"], read_file)
            if value is None:
                continue
        elif source:
            value = _value_from(pod, container, source, node, pod_ips, lookup)
            if value is None:
                continue
        else:
            value = expand(variable.get("value") or "", known)
        result[name] = known[name] = value
    return {**from_services, **result}


def _from_file(pod: Obj, reference: Obj, read_file: ReadFile | None) -> str | None:
    """Returns the value that a file of a volume gives; None for one that is optional and not there."""
    volume, path, key = (reference.get(name) or "" for name in ("volumeName", "path", "key"))
    if not any(one["name"] == volume for one in (pod.get("spec") or {}).get("volumes") or []):
        raise ConfigError(f'cannot find the volume "{volume}" referenced by FileKeyRef')
    try:
        found = envfiles.variables(read_file(volume, path)) if read_file else {}
    except (OSError, ValueError):
        raise ConfigError("couldn't parse env file") from None
    value = found.get(key)
    if not value and not reference.get("optional"):
        raise ConfigError(f'environment variable key "{key}" not found in file "{path}"')
    return value or None


def _all_of(source: Obj, lookup: Lookup) -> dict[str, str]:
    prefix = source.get("prefix") or ""
    for kind, key in (("configmaps", "configMapRef"), ("secrets", "secretRef")):
        reference = source.get(key)
        if reference is None:
            continue
        found = _referenced(kind, reference, lookup)
        if found is None:
            return {}
        values = text_data(kind, found)
        return {prefix + name: value for name, value in sorted(values.items()) if _is_variable_name(prefix + name)}
    return {}


def _is_variable_name(name: str) -> bool:
    return bool(name) and "=" not in name and all(32 <= ord(letter) < 127 for letter in name)


def _referenced(kind: str, reference: Obj, lookup: Lookup) -> Obj | None:
    name = reference.get("name") or ""
    found = lookup(kind, name)
    if found is None and not reference.get("optional"):
        raise ConfigError(f'{kind[:-1]} "{name}" not found')
    return found


def text_data(kind: str, obj: Obj) -> dict[str, str]:
    """Returns a config map's texts, or a secret's values decoded (bytes that are no UTF-8 are replaced)."""
    data = obj.get("data") or {}
    if kind == "configmaps":
        return dict(data)
    return {name: base64.b64decode(value).decode("utf-8", "replace") for name, value in data.items()}


def _value_from(
    pod: Obj, container: Obj, source: Obj, node: NodeFacts, pod_ips: tuple[str, ...], lookup: Lookup
) -> str | None:
    if reference := source.get("fieldRef"):
        return field_value(pod, reference.get("fieldPath") or "", node, pod_ips)
    if reference := source.get("resourceFieldRef"):
        return resource_value(pod, container, reference, node)
    for kind, key in (("configmaps", "configMapKeyRef"), ("secrets", "secretKeyRef")):
        reference = source.get(key)
        if reference is None:
            continue
        found = _referenced(kind, reference, lookup)
        if found is None:
            return None
        value = text_data(kind, found).get(reference["key"])
        if value is None and not reference.get("optional"):
            shown = {"configmaps": "ConfigMap", "secrets": "Secret"}[kind]
            where = f"{metadata(pod).get('namespace')}/{reference.get('name')}"
            raise ConfigError(f"couldn't find key {reference['key']} in {shown} {where}")
        return value
    return ""


def field_value(pod: Obj, path: str, node: NodeFacts, pod_ips: tuple[str, ...]) -> str:
    """Returns what a `fieldPath` of the downward API names; maps are written one `key="value"` a line."""
    meta, spec = metadata(pod), pod.get("spec") or {}
    subscript = _SUBSCRIPT.match(path)
    if subscript:
        values = labels_of(pod) if subscript.group(1) == "labels" else annotations_of(pod)
        return values.get(subscript.group(2), "")
    simple: dict[str, str] = {
        "metadata.name": meta.get("name") or "",
        "metadata.namespace": meta.get("namespace") or "",
        "metadata.uid": meta.get("uid") or "",
        "metadata.labels": format_map(labels_of(pod)),
        "metadata.annotations": format_map(annotations_of(pod)),
        "spec.nodeName": spec.get("nodeName") or node.name,
        "spec.serviceAccountName": spec.get("serviceAccountName") or "",
        "status.hostIP": node.host_ips[0] if node.host_ips else "",
        "status.hostIPs": ",".join(node.host_ips),
        "status.podIP": pod_ips[0] if pod_ips else "",
        "status.podIPs": ",".join(pod_ips),
    }
    if path not in simple:
        raise ConfigError(f"unsupported fieldPath: {path}")
    return simple[path]


def format_map(values: Mapping[str, str]) -> str:
    """Writes labels or annotations as downward API files hold them."""

    def quoted(text: str) -> str:
        plain = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t")
        return f'"{plain}"'

    return "\n".join(f"{key}={quoted(value)}" for key, value in sorted(values.items()))


def resource_value(pod: Obj, container: Obj, reference: Obj, node: NodeFacts) -> str:
    """Returns a container's request or limit in units of the divisor, rounded up; a missing limit is the node's."""
    if reference.get("containerName"):
        found = container_named(pod, reference["containerName"])
        if found is None:
            raise ConfigError(f"container {reference['containerName']} not found")
        container = found.spec
    kind, _, resource = (reference.get("resource") or "").partition(".")
    if kind not in ("limits", "requests"):
        raise ConfigError(f"unsupported container resource : {reference.get('resource')}")
    resources = container.get("resources") or {}
    given = (resources.get(kind) or {}).get(resource)
    if given is None and kind == "limits":
        given = node.allocatable.get(resource)
    amount = parse(given or 0)
    divisor = parse(reference.get("divisor") or 0)
    if resource == "cpu":
        return str(-(-amount.milli_value // (divisor.milli_value or 1000)))
    return str(-(-amount.value // (divisor.value or 1)))


# ---------------------------------------------------------------- services


def service_variables(pod: Obj, services: Iterable[Obj]) -> dict[str, str]:
    """Returns the variables that name the services of the pod's namespace, and always the API server's."""
    namespace = metadata(pod).get("namespace")
    links = (pod.get("spec") or {}).get("enableServiceLinks") is not False
    result: dict[str, str] = {}
    for service in sorted(services, key=name_of):
        where = metadata(service).get("namespace")
        is_api = where == "default" and name_of(service) == "kubernetes"
        address = (service.get("spec") or {}).get("clusterIP")
        if not address or address == "None" or not (is_api or (links and where == namespace)):
            continue
        result.update(_one_service(service, address))
    return result


def _one_service(service: Obj, address: str) -> dict[str, str]:
    name = name_of(service).upper().replace("-", "_")
    ports = (service.get("spec") or {}).get("ports") or []
    if not ports:
        return {}
    shown = f"[{address}]" if ":" in address else address
    result = {f"{name}_SERVICE_HOST": address, f"{name}_SERVICE_PORT": str(ports[0]["port"])}
    for index, port in enumerate(ports):
        number, protocol = port["port"], port.get("protocol") or "TCP"
        url = f"{protocol.lower()}://{shown}:{number}"
        if port.get("name"):
            result[f"{name}_SERVICE_PORT_{port['name'].upper().replace('-', '_')}"] = str(number)
        if index == 0:
            result[f"{name}_PORT"] = url
        prefix = f"{name}_PORT_{number}_{protocol}"
        result[prefix] = url
        result[f"{prefix}_PROTO"] = protocol.lower()
        result[f"{prefix}_PORT"] = str(number)
        result[f"{prefix}_ADDR"] = address
    return result
