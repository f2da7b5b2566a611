"""Warnings about pods and pod templates: things that are accepted, but deprecated or surely not meant.

Follows upstream's `pkg/api/pod/warnings.go`; texts become Warning headers.
"""

from __future__ import annotations

from collections.abc import Iterator

from proa.apis.podspec.scheduling import PREFERRED, REQUIRED
from proa.meta.objects import Obj
from proa.meta.quantity import parse

_NODE_LABELS = {
    "beta.kubernetes.io/arch": 'deprecated since v1.14; use "kubernetes.io/arch" instead',
    "beta.kubernetes.io/os": 'deprecated since v1.14; use "kubernetes.io/os" instead',
    "failure-domain.beta.kubernetes.io/region": 'deprecated since v1.17; use "topology.kubernetes.io/region" instead',
    "failure-domain.beta.kubernetes.io/zone": 'deprecated since v1.17; use "topology.kubernetes.io/zone" instead',
    "beta.kubernetes.io/instance-type": 'deprecated since v1.17; use "node.kubernetes.io/instance-type" instead',
}
_ANNOTATIONS = {
    "scheduler.alpha.kubernetes.io/critical-pod": (
        'non-functional in v1.16+; use the "priorityClassName" field instead'
    ),
    "security.alpha.kubernetes.io/sysctls": 'non-functional in v1.11+; use the "sysctls" field instead',
    "security.alpha.kubernetes.io/unsafe-sysctls": 'non-functional in v1.11+; use the "sysctls" field instead',
    "seccomp.security.alpha.kubernetes.io/pod": ('non-functional in v1.27+; use the "seccompProfile" field instead'),
}
_ANNOTATION_PREFIXES = {
    "container.seccomp.security.alpha.kubernetes.io/": (
        'non-functional in v1.27+; use the "seccompProfile" field instead'
    ),
    "container.apparmor.security.beta.kubernetes.io/": (
        'deprecated since v1.30; use the "appArmorProfile" field instead'
    ),
}
# By volume source, the name under which the warning shows it, and what it says.
VOLUMES = {
    "photonPersistentDisk": ("photonPersistentDisk", "deprecated in v1.11, non-functional in v1.16+"),
    "gitRepo": ("gitRepo", "deprecated in v1.11, and disabled by default in v1.33+"),
    "scaleIO": ("scaleIO", "deprecated in v1.16, non-functional in v1.22+"),
    "flocker": ("flocker", "deprecated in v1.22, non-functional in v1.25+"),
    "storageos": ("storageOS", "deprecated in v1.22, non-functional in v1.25+"),
    "quobyte": ("quobyte", "deprecated in v1.22, non-functional in v1.25+"),
    "glusterfs": ("glusterfs", "deprecated in v1.25, non-functional in v1.26+"),
    "cephfs": ("cephfs", "deprecated in v1.28, non-functional in v1.31+"),
    "rbd": ("rbd", "deprecated in v1.28, non-functional in v1.31+"),
}


def pod_warnings(meta: Obj, spec: Obj, path: str) -> list[str]:
    """Returns warnings for a pod (`path` empty) or for a template at `path`."""
    prefix = f"{path}." if path else ""
    at = f"{prefix}spec"
    return [
        *_node_labels(spec, at),
        *_selectors(spec, at),
        *_annotations(meta, f"{prefix}metadata.annotations"),
        *_spec(spec, at),
        *_volumes(spec, at),
        *_containers(spec, at),
    ]


def template_warnings(template: Obj | None, path: str) -> list[str]:
    template = template or {}
    return pod_warnings(template.get("metadata") or {}, template.get("spec") or {}, path)


def _node_labels(spec: Obj, path: str) -> Iterator[str]:
    for key in spec.get("nodeSelector") or {}:
        if key in _NODE_LABELS:
            yield f"{path}.nodeSelector[{key}]: {_NODE_LABELS[key]}"
    node = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    at = f"{path}.affinity.nodeAffinity"
    terms = [
        (term, f"{at}.{REQUIRED}.nodeSelectorTerms[{index}]")
        for index, term in enumerate((node.get(REQUIRED) or {}).get("nodeSelectorTerms") or [])
    ]
    terms += [
        (one.get("preference") or {}, f"{at}.{PREFERRED}[{index}].preference")
        for index, one in enumerate(node.get(PREFERRED) or [])
    ]
    for term, where in terms:
        for index, one in enumerate(term.get("matchExpressions") or []):
            key = one.get("key")
            if key in _NODE_LABELS:
                yield f"{where}.matchExpressions[{index}].key: {key} is {_NODE_LABELS[key]}"


_NULL_SELECTOR = "a null labelSelector results in matching no pod"


def _selectors(spec: Obj, path: str) -> Iterator[str]:
    for index, one in enumerate(spec.get("topologySpreadConstraints") or []):
        if one.get("labelSelector") is None:
            yield f"{path}.topologySpreadConstraints[{index}].labelSelector: {_NULL_SELECTOR}"
    for key in ("podAffinity", "podAntiAffinity"):
        side = (spec.get("affinity") or {}).get(key) or {}
        at = f"{path}.affinity.{key}"
        for index, term in enumerate(side.get(REQUIRED) or []):
            if term.get("labelSelector") is None:
                yield f"{at}.{REQUIRED}[{index}].labelSelector: {_NULL_SELECTOR}"
        for index, one in enumerate(side.get(PREFERRED) or []):
            if (one.get("podAffinityTerm") or {}).get("labelSelector") is None:
                yield f"{at}.{PREFERRED}[{index}].podAffinityTerm.labelSelector: {_NULL_SELECTOR}"


def _annotations(meta: Obj, path: str) -> Iterator[str]:
    for key in meta.get("annotations") or {}:
        text = _ANNOTATIONS.get(key)
        text = text or next((said for prefix, said in _ANNOTATION_PREFIXES.items() if key.startswith(prefix)), None)
        if text:
            yield f"{path}[{key}]: {text}"


def _spec(spec: Obj, path: str) -> Iterator[str]:
    yield from _repeated(
        [alias.get("ip") for alias in spec.get("hostAliases") or []], f"{path}.hostAliases", "ip", "duplicate ip"
    )
    for index, secret in enumerate(spec.get("imagePullSecrets") or []):
        if not secret.get("name"):
            yield f'{path}.imagePullSecrets[{index}].name: invalid empty name ""'
    secrets = [secret.get("name") for secret in spec.get("imagePullSecrets") or []]
    yield from _repeated(secrets, f"{path}.imagePullSecrets", "name", "duplicate name")
    if (spec.get("terminationGracePeriodSeconds") or 0) < 0:
        yield (
            f"{path}.terminationGracePeriodSeconds: must be >= 0; negative values are invalid and will be treated as 1"
        )


def _repeated(values: list[str | None], path: str, field: str, said: str) -> Iterator[str]:
    seen: set[str] = set()
    for index, value in enumerate(values):
        if value and value in seen:
            yield f'{path}[{index}].{field}: {said} "{value}"'
        seen.add(value or "")


def _volumes(spec: Obj, path: str) -> Iterator[str]:
    for index, volume in enumerate(spec.get("volumes") or []):
        for key, (shown, said) in VOLUMES.items():
            if volume.get(key) is not None:
                yield f"{path}.volumes[{index}].{shown}: {said}"
        projected = volume.get("projected")
        if projected is not None and not any(projected.get("sources") or []):
            yield f'volume "{volume.get("name")}" (Projected) has no sources provided'
        yield from _claim_template(volume, f"{path}.volumes[{index}]")


def _claim_template(volume: Obj, path: str) -> Iterator[str]:
    template = (volume.get("ephemeral") or {}).get("volumeClaimTemplate")
    if template:
        yield from fractional_bytes(
            (template.get("spec") or {}).get("resources"), f"{path}.ephemeral.volumeClaimTemplate.spec.resources"
        )


_BYTES = ("memory", "ephemeral-storage", "storage")


def fractional_bytes(resources: Obj | None, path: str) -> Iterator[str]:
    """Warns of amounts of bytes that are no whole number."""
    for side in ("limits", "requests"):
        for name, text in ((resources or {}).get(side) or {}).items():
            if name in _BYTES:
                quantity = parse(text)
                if not quantity.is_whole:
                    said = f'fractional byte value "{quantity}" is invalid, must be an integer'
                    yield f"{path}.{side}[{name}]: {said}"


def _containers(spec: Obj, path: str) -> Iterator[str]:
    for key in ("initContainers", "containers"):
        for index, one in enumerate(spec.get(key) or []):
            at = f"{path}.{key}[{index}]"
            yield from fractional_bytes(one.get("resources"), f"{at}.resources")
            yield from _variables(one.get("env") or [], at)
            yield from _ports(one.get("ports") or [], at)


def _variables(items: list[Obj], path: str) -> Iterator[str]:
    seen: set[str] = set()
    for index, one in enumerate(items):
        name = one.get("name") or ""
        if name in seen and f"$({name})" not in (one.get("value") or ""):
            yield f'{path}.env[{index}]: hides previous definition of "{name}", which may be dropped when using apply'
        seen.add(name)


def _ports(items: list[Obj], path: str) -> Iterator[str]:
    seen: list[tuple[int, str, str, int]] = []
    for index, port in enumerate(items):
        at = f"{path}.ports[{index}]"
        host_ip, host = port.get("hostIP") or "", port.get("hostPort") or 0
        number, protocol = port.get("containerPort") or 0, port.get("protocol") or ""
        if host_ip and not host:
            shown = (
                f"{{Name:{port.get('name') or ''} HostPort:{host} ContainerPort:{number} "
                f"Protocol:{protocol} HostIP:{host_ip}}}"
            )
            yield f"{at}: hostIP set without hostPort: {shown}"
        key = (number, protocol, host_ip, host)
        for place, other in enumerate(seen):
            if other == key:
                yield f"{at}: duplicate port definition with {path}.ports[{place}]"
                break
            if other[:2] == key[:2] and not (other[3] and host):
                yield f"{at}: overlapping port definition with {path}.ports[{place}]"
                break
        seen.append(key)
