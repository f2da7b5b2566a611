"""What files a config map, secret, downward API or projected volume holds. Pure.

Follows upstream's documentation of these volumes: items, modes, optional sources, and the references they need.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from proa.client.resources import CONFIGMAPS, PERSISTENTVOLUMECLAIMS, SECRETS
from proa.kubelet.environment import ConfigError, NodeFacts, field_value, resource_value
from proa.kubelet.podspec import containers_of
from proa.kubelet.references import Reference
from proa.kubelet.volumes.bundles import anchors
from proa.meta.objects import Obj, annotations_of, labels_of, name_of, namespace_of

Lookup = Callable[[str, str], Obj | None]
FILE_MODE = 0o644


@dataclass(frozen=True, slots=True)
class File:
    """A file's content and permission bits; `owner` is a uid, None for root."""

    data: bytes
    mode: int
    owner: int | None = None


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """A service-account token that a projected volume asks for."""

    path: str
    audience: str
    expiration_seconds: int


def references_of(pod: Obj) -> set[Reference]:
    """Returns the config maps, secrets and claims that the pod's volumes, environment and image pulls refer to."""
    namespace = namespace_of(pod)
    spec = pod.get("spec") or {}
    found: set[Reference] = set()

    def add(resource: object, name: str | None) -> None:
        if name:
            found.add(Reference(resource, namespace, name))  # type: ignore[arg-type]

    for volume in spec.get("volumes") or []:
        add(CONFIGMAPS, (volume.get("configMap") or {}).get("name"))
        add(SECRETS, (volume.get("secret") or {}).get("secretName"))
        add(PERSISTENTVOLUMECLAIMS, claim_name(pod, volume))
        for source in (volume.get("projected") or {}).get("sources") or []:
            add(CONFIGMAPS, (source.get("configMap") or {}).get("name"))
            add(SECRETS, (source.get("secret") or {}).get("name"))
    for reference in spec.get("imagePullSecrets") or []:
        add(SECRETS, reference.get("name"))
    for container in containers_of(pod):
        for source in container.spec.get("envFrom") or []:
            add(CONFIGMAPS, (source.get("configMapRef") or {}).get("name"))
            add(SECRETS, (source.get("secretRef") or {}).get("name"))
        for variable in container.spec.get("env") or []:
            value_from = variable.get("valueFrom") or {}
            add(CONFIGMAPS, (value_from.get("configMapKeyRef") or {}).get("name"))
            add(SECRETS, (value_from.get("secretKeyRef") or {}).get("name"))
    return found


def claim_name(pod: Obj, volume: Obj) -> str:
    """The claim behind a volume: named, or made for this pod (an ephemeral volume); empty for other volumes."""
    if volume.get("persistentVolumeClaim"):
        return volume["persistentVolumeClaim"].get("claimName") or ""
    return f"{name_of(pod)}-{volume['name']}" if volume.get("ephemeral") is not None else ""


def token_requests(volume: Obj) -> Iterator[TokenRequest]:
    for source in (volume.get("projected") or {}).get("sources") or []:
        token = source.get("serviceAccountToken")
        if token is not None:
            yield TokenRequest(
                token.get("path") or "", token.get("audience") or "", int(token.get("expirationSeconds") or 3600)
            )


def payload(
    pod: Obj,
    volume: Obj,
    *,
    node: NodeFacts,
    lookup: Lookup,
    tokens: Mapping[TokenRequest, str],
    bundles: Sequence[Obj] = (),
) -> dict[str, File] | None:
    """Returns the volume's files by relative path, or None for a volume of another kind; raises ConfigError.

    `bundles` are the cluster trust bundles that the volume's sources may choose from.
    """
    if "configMap" in volume:
        source = volume["configMap"]
        return _keys("configmaps", source, source.get("name") or "", lookup, _mode(source))
    if "secret" in volume:
        source = volume["secret"]
        return _keys("secrets", source, source.get("secretName") or "", lookup, _mode(source))
    if "downwardAPI" in volume:
        return _downward(pod, volume["downwardAPI"], node, _mode(volume["downwardAPI"]))
    if "projected" not in volume:
        return None
    mode = _mode(volume["projected"])
    files: dict[str, File] = {}
    for source in volume["projected"].get("sources") or []:
        if "configMap" in source:
            part = source["configMap"]
            files.update(_keys("configmaps", part, part.get("name") or "", lookup, mode))
        if "secret" in source:
            part = source["secret"]
            files.update(_keys("secrets", part, part.get("name") or "", lookup, mode))
        if "downwardAPI" in source:
            files.update(_downward(pod, source["downwardAPI"], node, mode))
        if "clusterTrustBundle" in source:
            part = source["clusterTrustBundle"]
            files[part.get("path") or ""] = File(anchors(part, bundles), mode)
        if "podCertificate" in source:
            raise ConfigError("projected source podCertificate is not supported by this node")
    user = _common_user(pod)
    group = ((pod.get("spec") or {}).get("securityContext") or {}).get("fsGroup")
    for request in token_requests(volume):
        token_mode = 0o600 if user is not None or group is not None else mode
        files[request.path] = File(tokens[request].encode(), token_mode, user)
    return files


def _mode(source: Obj) -> int:
    mode = source.get("defaultMode")
    return FILE_MODE if mode is None else int(mode)


def _common_user(pod: Obj) -> int | None:
    """The one uid that all containers run as, if they say so and agree."""
    of_pod = ((pod.get("spec") or {}).get("securityContext") or {}).get("runAsUser")
    users = set()
    for container in containers_of(pod):
        own = (container.spec.get("securityContext") or {}).get("runAsUser")
        users.add(of_pod if own is None else own)
    return users.pop() if len(users) == 1 else None


def _keys(kind: str, source: Obj, name: str, lookup: Lookup, mode: int) -> dict[str, File]:
    found = lookup(kind, name)
    optional = bool(source.get("optional"))
    if found is None:
        if optional:
            return {}
        raise ConfigError(f'{kind[:-1]} "{name}" not found')
    data = _data(kind, found)
    if not source.get("items"):
        return {key: File(value, mode) for key, value in data.items()}
    files = {}
    for item in source["items"]:
        if item["key"] not in data:
            if optional:
                continue
            shown = {"configmaps": "configmap", "secrets": "secret"}[kind]
            raise ConfigError(f"{shown} references non-existent {shown} key: {item['key']}")
        files[item["path"]] = File(data[item["key"]], _item_mode(item, mode))
    return files


def _item_mode(item: Obj, mode: int) -> int:
    own = item.get("mode")
    return mode if own is None else int(own)


def _data(kind: str, obj: Obj) -> dict[str, bytes]:
    if kind == "secrets":
        return {key: base64.b64decode(value) for key, value in (obj.get("data") or {}).items()}
    texts = {key: value.encode() for key, value in (obj.get("data") or {}).items()}
    return {**texts, **{key: base64.b64decode(value) for key, value in (obj.get("binaryData") or {}).items()}}


def _downward(pod: Obj, source: Obj, node: NodeFacts, mode: int) -> dict[str, File]:
    files = {}
    for item in source.get("items") or []:
        if item.get("fieldRef"):
            path = item["fieldRef"].get("fieldPath") or ""
            text = field_value(pod, path, node, ())
        else:
            text = resource_value(pod, {}, item.get("resourceFieldRef") or {}, node)
        files[item["path"]] = File(text.encode(), _item_mode(item, mode))
    return files


def downward_mark(pod: Obj) -> object:
    """What of the pod downward API files may show and may change: compare to know when to write again."""
    return labels_of(pod), annotations_of(pod)
