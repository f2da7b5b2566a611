"""Defaults of a pod spec, as upstream's `pkg/apis/core/v1/defaults.go` has them: of pods and of pod templates.

Admission has defaults of its own (service account, tolerations, priority); those are not here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from proa.apis.podspec.volumes import source_of
from proa.meta.objects import Obj

# Defaults of a probe; a zero counts as unset.
_PROBE = {"timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3}

_IMAGE = re.compile(
    r"(?:(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9.-]*[a-zA-Z0-9]|\[[0-9a-fA-F:]+\])(?::[0-9]+)?/)?"
    r"[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*)*"
    r"(?::(?P<tag>[\w][\w.-]{0,127}))?(?P<digest>@[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,})?"
)


def pull_policy(image: str) -> str:
    """Returns Always for an image without tag and digest or with the tag `latest`, else IfNotPresent."""
    match = _IMAGE.fullmatch(image)
    latest = match is not None and not match["digest"] and (match["tag"] or "latest") == "latest"
    # With both a tag and a digest the tag still counts.
    if match is not None and match["digest"] and match["tag"] == "latest":
        latest = True
    return "Always" if latest else "IfNotPresent"


def default_pod(spec: Obj) -> None:
    """Fills in the defaults that a pod has beyond those of a template: requests from limits, host ports."""
    for container in _containers(spec):
        _requests_from_limits(container.get("resources"))
    _default_pod_level_requests(spec)
    if spec.get("enableServiceLinks") is None:
        spec["enableServiceLinks"] = True
    if spec.get("hostNetwork"):
        for container in _containers(spec):
            for port in container.get("ports") or []:
                if not port.get("hostPort"):
                    port["hostPort"] = port.get("containerPort", 0)
    default_pod_spec(spec)


def default_pod_spec(spec: Obj) -> None:
    """Fills in the defaults of a pod template's spec."""
    account = spec.get("serviceAccountName") or spec.get("serviceAccount")
    if account:
        spec["serviceAccountName"] = spec["serviceAccount"] = account
    for key, value in (
        ("restartPolicy", "Always"),
        ("dnsPolicy", "ClusterFirst"),
        ("schedulerName", "default-scheduler"),
    ):
        if not spec.get(key):
            spec[key] = value
    if spec.get("terminationGracePeriodSeconds") is None:
        spec["terminationGracePeriodSeconds"] = 30
    if spec.get("securityContext") is None:
        spec["securityContext"] = {}
    for container in _containers(spec):
        default_container(container)
    for container in spec.get("ephemeralContainers") or []:
        default_container(container)
    for volume in spec.get("volumes") or []:
        default_volume(volume)


def _containers(spec: Obj) -> Iterable[Obj]:
    yield from spec.get("initContainers") or []
    yield from spec.get("containers") or []


def _requests_from_limits(resources: Obj | None) -> None:
    limits = (resources or {}).get("limits")
    if resources is None or not limits:
        return
    requests = resources.get("requests") or {}
    resources["requests"] = dict(sorted({**limits, **requests}.items()))


_POD_LEVEL = ("cpu", "memory")


def _is_pod_level(name: str) -> bool:
    return name in _POD_LEVEL or name.startswith("hugepages-")


def _default_pod_level_requests(spec: Obj) -> None:
    """Requests of the pod as a whole: what its containers request together, else its limits."""
    resources = spec.get("resources")
    if not resources or not (resources.get("limits") or resources.get("requests")):
        return
    requests = dict(resources.get("requests") or {})
    for name, amount in _together(spec).items():
        if name in _POD_LEVEL:
            requests.setdefault(name, amount)
    for name, amount in (resources.get("limits") or {}).items():
        if _is_pod_level(name):
            requests.setdefault(name, amount)
    if requests:
        resources["requests"] = dict(sorted(requests.items()))


def _together(spec: Obj) -> dict[str, str]:
    from proa.apis.pod_resources import pod_requests

    spec_of_containers = {key: spec.get(key) for key in ("containers", "initContainers")}
    sums = pod_requests({"spec": spec_of_containers})
    milli = sums.pop("cpu", None)
    made = {name: str(amount) for name, amount in sums.items()}
    if milli is not None:
        made["cpu"] = str(milli // 1000) if milli % 1000 == 0 else f"{milli}m"
    return made


def default_container(container: Obj) -> None:
    if not container.get("imagePullPolicy"):
        container["imagePullPolicy"] = pull_policy(container.get("image") or "")
    if not container.get("terminationMessagePath"):
        container["terminationMessagePath"] = "/dev/termination-log"
    if not container.get("terminationMessagePolicy"):
        container["terminationMessagePolicy"] = "File"
    if container.get("resources") is None:
        container["resources"] = {}
    for port in container.get("ports") or []:
        if not port.get("protocol"):
            port["protocol"] = "TCP"
    for name in ("livenessProbe", "readinessProbe", "startupProbe"):
        if container.get(name) is not None:
            _default_probe(container[name])
    for handler in ((container.get("lifecycle") or {}).get(name) for name in ("postStart", "preStop")):
        if handler and handler.get("httpGet") is not None:
            _default_http_get(handler["httpGet"])
    for variable in container.get("env") or []:
        source = variable.get("valueFrom") or {}
        _default_references(source)


def _default_probe(probe: Obj) -> None:
    for key, value in _PROBE.items():
        if not probe.get(key):
            probe[key] = value
    if probe.get("httpGet") is not None:
        _default_http_get(probe["httpGet"])
    if probe.get("grpc") is not None and probe["grpc"].get("service") is None:
        probe["grpc"]["service"] = ""


def _default_http_get(action: Obj) -> None:
    if not action.get("path"):
        action["path"] = "/"
    if not action.get("scheme"):
        action["scheme"] = "HTTP"


def _default_references(holder: Obj) -> None:
    """Defaults of fieldRef and resourceFieldRef."""
    field = holder.get("fieldRef")
    if field is not None and not field.get("apiVersion"):
        field["apiVersion"] = "v1"
    resource = holder.get("resourceFieldRef")
    if resource is not None and not resource.get("divisor"):
        resource["divisor"] = "0"


# ---------------------------------------------------------------- volumes

_MODE = 0o644


def _default_mode(source: Obj) -> None:
    if source.get("defaultMode") is None:
        source["defaultMode"] = _MODE


def _default_downward(source: Obj) -> None:
    _default_mode(source)
    for item in source.get("items") or []:
        _default_references(item)


def _default_projected(source: Obj) -> None:
    _default_mode(source)
    for one in source.get("sources") or []:
        token = one.get("serviceAccountToken")
        if token is not None and token.get("expirationSeconds") is None:
            token["expirationSeconds"] = 3600
        for item in (one.get("downwardAPI") or {}).get("items") or []:
            _default_references(item)


def _set(**defaults: object) -> Callable[[Obj], None]:
    def apply(source: Obj) -> None:
        for key, value in defaults.items():
            if not source.get(key) and (value is not False or source.get(key) is None):
                source[key] = value

    return apply


def _default_host_path(source: Obj) -> None:
    if source.get("type") is None:
        source["type"] = ""


def _default_ephemeral(source: Obj) -> None:
    template = source.get("volumeClaimTemplate")
    if template is not None:
        default_claim_spec(template.setdefault("spec", {}))


def _default_image(source: Obj) -> None:
    if not source.get("pullPolicy"):
        source["pullPolicy"] = pull_policy(source.get("reference") or "")


# By volume source: what it has unset.
SOURCE_DEFAULTS: dict[str, Callable[[Obj], None]] = {
    "secret": _default_mode,
    "configMap": _default_mode,
    "downwardAPI": _default_downward,
    "projected": _default_projected,
    "hostPath": _default_host_path,
    "iscsi": _set(iscsiInterface="default"),
    "rbd": _set(pool="rbd", user="admin", keyring="/etc/ceph/keyring"),
    "azureDisk": _set(cachingMode="ReadWrite", kind="Shared", fsType="ext4", readOnly=False),
    "scaleIO": _set(storageMode="ThinProvisioned", fsType="xfs"),
    "ephemeral": _default_ephemeral,
    "image": _default_image,
}


def default_volume(volume: Obj) -> None:
    if not source_of(volume):
        volume["emptyDir"] = {}
    for key, default in SOURCE_DEFAULTS.items():
        if volume.get(key) is not None:
            default(volume[key])


def default_claim_spec(spec: Obj) -> None:
    """Defaults of a PersistentVolumeClaim's spec."""
    if not spec.get("volumeMode"):
        spec["volumeMode"] = "Filesystem"


__all__ = [
    "default_claim_spec",
    "default_container",
    "default_pod",
    "default_pod_spec",
    "default_volume",
    "pull_policy",
]
