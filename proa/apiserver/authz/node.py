"""The node authorizer: a node may do what the role system:node says, but of secrets, config maps, claims, volumes and
accounts only with those that its own pods use, and of nodes, leases and the like only with its own.

Follows upstream's node authorizer, selectors on nodes and pods included.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from proa.apis.rbac.evaluate import Rule, compile_rules
from proa.apis.storage.local_path import NODE_LABEL, is_local_path, is_on, node_label
from proa.apiserver.contracts import Attributes, Decision
from proa.apiserver.live import Live, LiveIndex
from proa.client.interface import UserInfo
from proa.client.resources import (
    CLUSTERROLES,
    PERSISTENTVOLUMECLAIMS,
    PERSISTENTVOLUMES,
    PODS,
    VOLUMEATTACHMENTS,
)
from proa.meta.errors import StatusError
from proa.meta.objects import Obj, name_of, namespace_of
from proa.meta.selectors import parse_fields, parse_labels

NODES_GROUP = "system:nodes"
NODE_USER_PREFIX = "system:node:"
_READ = ("get", "list", "watch")
_BESIDE_ROLE = {
    ("certificates.k8s.io", "clustertrustbundles"): _READ,
    ("", "persistentvolumes"): ("list", "watch", "patch"),
}
_LEASE_NAMESPACE = "kube-node-lease"


def node_name(user: UserInfo) -> str:
    """Returns the node that a user is the identity of, or "" if it is no node."""
    if NODES_GROUP in user.groups and user.name.startswith(NODE_USER_PREFIX):
        return user.name.removeprefix(NODE_USER_PREFIX)
    return ""


class NodeAuthorizer:
    """Reads the pods of a node when it is asked; keeps only an index of pods by node."""

    def __init__(self, live: Live) -> None:
        self._live = live
        self._pods = LiveIndex(live, PODS, _node_of_pod)
        self._rules: tuple[Rule, ...] = ()
        self._rules_seen = -1
        self._checks: dict[tuple[str, str], Callable[[Attributes, str], str]] = {
            ("", "secrets"): self._read_related("secrets"),
            ("", "configmaps"): self._read_related("configmaps"),
            ("", "persistentvolumeclaims"): self._claim,
            ("", "persistentvolumes"): self._volume,
            ("resource.k8s.io", "resourceclaims"): self._get_related("resourceclaims"),
            ("storage.k8s.io", "volumeattachments"): self._attachment,
            ("", "serviceaccounts"): self._account,
            ("coordination.k8s.io", "leases"): _own_lease,
            ("storage.k8s.io", "csinodes"): _own_only,
            ("resource.k8s.io", "resourceslices"): _own_slices,
            ("", "nodes"): _own_node,
            ("", "pods"): self._pod,
        }

    def authorize(self, attributes: Attributes) -> Decision:
        node = node_name(attributes.user)
        if not node or not attributes.is_resource or not self._allowed_by_role(attributes):
            return Decision(False)
        check = self._checks.get((attributes.group, attributes.resource))
        refusal = check(attributes, node) if check is not None else ""
        return Decision(not refusal, refusal)

    def _allowed_by_role(self, one: Attributes) -> bool:
        # Not in the role: what is served only where it is asked for, and what nodes may do with local-path volumes.
        if one.verb in _BESIDE_ROLE.get((one.group, one.resource), ()):
            return True
        changes = self._live.changes(CLUSTERROLES)
        if changes != self._rules_seen:
            role = self._live.get(CLUSTERROLES, "system:node")
            self._rules, self._rules_seen = compile_rules(role.get("rules") if role else ()), changes
        return any(rule.allows(one.verb, one.group, one.resource, one.subresource, one.name) for rule in self._rules)

    # Each check returns why not, or "".

    def _read_related(self, kind: str) -> Callable[[Attributes, str], str]:
        def check(one: Attributes, node: str) -> str:
            if one.verb not in _READ or one.subresource:
                return "can only read resources of this type"
            return self._related(kind, one, node)

        return check

    def _get_related(self, kind: str) -> Callable[[Attributes, str], str]:
        def check(one: Attributes, node: str) -> str:
            if one.verb != "get" or one.subresource:
                return "can only get individual resources of this type"
            return self._related(kind, one, node)

        return check

    def _claim(self, one: Attributes, node: str) -> str:
        if one.verb != "get" and not (one.subresource == "status" and one.verb in ("update", "patch")):
            return "can only get individual resources of this type, and write their status"
        return self._related("persistentvolumeclaims", one, node)

    def _volume(self, one: Attributes, node: str) -> str:
        if one.verb in ("list", "watch") and not one.name:
            if _labelled(one.label_selector, NODE_LABEL) == node_label(node):
                return ""
            return f"can only list and watch volumes with a label selector {NODE_LABEL} of its own name"
        if one.verb == "patch" and not one.subresource:
            # What it may change is for the NodeRestriction admission to judge.
            found = self._live.get(PERSISTENTVOLUMES, one.name)
            return "" if found and is_local_path(found) and is_on(found, node) else _no_relation(node, one)
        return self._get_related("persistentvolumes")(one, node)

    def _account(self, one: Attributes, node: str) -> str:
        if one.subresource == "token" and one.verb != "create":
            return "can only create tokens for individual service accounts"
        if one.subresource not in ("", "token"):
            return "can only get service accounts and create tokens for them"
        return self._related("serviceaccounts", one, node)

    def _attachment(self, one: Attributes, node: str) -> str:
        if one.verb != "get" or one.subresource:
            return "can only get individual resources of this type"
        found = self._live.get(VOLUMEATTACHMENTS, one.name)
        return "" if found and (found.get("spec") or {}).get("nodeName") == node else _no_relation(node, one)

    def _pod(self, one: Attributes, node: str) -> str:
        if one.verb in ("create", "delete") or one.subresource:
            return ""  # the NodeRestriction admission judges these by the object
        if one.verb == "get":
            return "" if f"{one.namespace}/{one.name}" in self._pods.keys(node) else _no_relation(node, one)
        if _selected(one.field_selector, "spec.nodeName") == node:
            return ""
        return "can only list and watch pods with a field selector spec.nodeName of its own name"

    def _related(self, kind: str, one: Attributes, node: str) -> str:
        if not one.name:
            return f"no {kind} name: a node may only read single ones"
        wanted = one.namespace, one.name
        for pod in self._pods_of(node):
            if wanted in self._references(pod, kind):
                return ""
        return _no_relation(node, one)

    def _pods_of(self, node: str) -> Iterator[Obj]:
        for key in self._pods.keys(node):
            namespace, _, name = key.partition("/")
            pod = self._live.get(PODS, name, namespace)
            if pod is not None:
                yield pod

    def _references(self, pod: Obj, kind: str) -> Iterator[tuple[str, str]]:
        """Yields (namespace, name) of what a pod uses of a kind."""
        namespace = namespace_of(pod)
        if kind == "persistentvolumes":
            for volume in self._volumes(pod):
                yield "", name_of(volume)
            return
        for name in pod_references(pod, kind):
            yield namespace, name
        if kind == "secrets":
            for volume in self._volumes(pod):
                yield from _volume_secrets(volume.get("spec") or {}, namespace)

    def _volumes(self, pod: Obj) -> Iterator[Obj]:
        for name in pod_references(pod, "persistentvolumeclaims"):
            claim = self._live.get(PERSISTENTVOLUMECLAIMS, name, namespace_of(pod)) or {}
            volume_name = (claim.get("spec") or {}).get("volumeName")
            if volume_name and (volume := self._live.get(PERSISTENTVOLUMES, volume_name)) is not None:
                yield volume


def _node_of_pod(pod: Obj) -> Iterable[str]:
    name = (pod.get("spec") or {}).get("nodeName")
    return (name,) if name else ()


def pod_references(pod: Obj, kind: str) -> Iterator[str]:
    """Yields the names of the secrets, configmaps, persistentvolumeclaims, serviceaccounts or resourceclaims (all in
    the pod's own namespace) that a pod refers to."""
    spec = pod.get("spec") or {}
    if kind == "serviceaccounts":
        yield spec.get("serviceAccountName") or "default"
    elif kind == "resourceclaims":
        for status in (pod.get("status") or {}).get("resourceClaimStatuses") or ():
            if status.get("resourceClaimName"):
                yield status["resourceClaimName"]
        made = (pod.get("status") or {}).get("extendedResourceClaimStatus") or {}
        if made.get("resourceClaimName"):
            yield made["resourceClaimName"]
        for claim in spec.get("resourceClaims") or ():
            if claim.get("resourceClaimName"):
                yield claim["resourceClaimName"]
    elif kind == "persistentvolumeclaims":
        for volume in spec.get("volumes") or ():
            if "persistentVolumeClaim" in volume:
                yield volume["persistentVolumeClaim"].get("claimName", "")
            elif "ephemeral" in volume:
                yield f"{name_of(pod)}-{volume.get('name')}"
    else:
        yield from _pod_sources(spec, "secret" if kind == "secrets" else "configMap")


# Volume sources that name a secret: (source, key of the reference's name within `secretRef`-like fields)
_SECRET_REFERENCES = {
    "azureFile": ("secretName",),
    "cephfs": ("secretRef",),
    "cinder": ("secretRef",),
    "csi": ("nodePublishSecretRef",),
    "flexVolume": ("secretRef",),
    "iscsi": ("secretRef",),
    "rbd": ("secretRef",),
    "scaleIO": ("secretRef",),
    "storageos": ("secretRef",),
}


def _pod_sources(spec: Obj, source: str) -> Iterator[str]:
    """Yields names of secrets or config maps in a pod's volumes, environment and image pull secrets."""
    secret = source == "secret"
    if secret:
        for reference in spec.get("imagePullSecrets") or ():
            yield reference.get("name", "")
    for key in ("initContainers", "containers", "ephemeralContainers"):
        for container in spec.get(key) or ():
            for one in container.get("envFrom") or ():
                yield (one.get(f"{source}Ref") or {}).get("name", "")
            for one in container.get("env") or ():
                yield ((one.get("valueFrom") or {}).get(f"{source}KeyRef") or {}).get("name", "")
    for volume in spec.get("volumes") or ():
        if source in volume:
            yield volume[source].get("secretName" if secret else "name") or ""
        for projected in (volume.get("projected") or {}).get("sources") or ():
            if source in projected:
                yield projected[source].get("name") or ""
        if secret:
            for kind, keys in _SECRET_REFERENCES.items():
                for key in keys if kind in volume else ():
                    value = volume[kind].get(key)
                    yield (value.get("name") if isinstance(value, dict) else value) or ""


def _volume_secrets(spec: Obj, namespace: str) -> Iterator[tuple[str, str]]:
    """Yields (namespace, name) of the secrets that a persistent volume's source names; by default the claim's own."""
    for source in spec.values():
        if not isinstance(source, dict):
            continue
        for key, value in source.items():
            if key.lower().endswith("secretref") and isinstance(value, dict):
                yield value.get("namespace") or namespace, value.get("name") or ""
        if source.get("secretName"):
            yield source.get("secretNamespace") or namespace, source["secretName"]


def _selected(field_selector: str, field: str) -> str:
    try:
        return parse_fields(field_selector).exact(field) or "" if field_selector else ""
    except StatusError:
        return ""


def _labelled(label_selector: str, label: str) -> str:
    try:
        return parse_labels(label_selector).exact(label) or "" if label_selector else ""
    except StatusError:
        return ""


def _no_relation(node: str, one: Attributes) -> str:
    return f"no relationship found between node '{node}' and this object"


def _own_lease(one: Attributes, node: str) -> str:
    if one.namespace != _LEASE_NAMESPACE:
        return f"can only access leases in the {_LEASE_NAMESPACE!r} namespace"
    return _own_only(one, node)


def _own_only(one: Attributes, node: str) -> str:
    if one.subresource:
        return "cannot access subresources of this type"
    if one.verb not in ("get", "create", "update", "patch", "delete"):
        return "can only get, create, update, patch, or delete individual resources of this type"
    if one.verb == "create" and not one.name:
        return ""  # the name is in the object: the NodeRestriction admission judges it
    return "" if one.name == node else "can only access an object of its own name"


def _own_slices(one: Attributes, node: str) -> str:
    if one.verb in ("list", "watch", "deletecollection"):
        if _selected(one.field_selector, "spec.nodeName") == node:
            return ""
        return "can only list, watch and delete resource slices with a field selector spec.nodeName of its own name"
    return ""


def _own_node(one: Attributes, node: str) -> str:
    if one.subresource not in ("", "status"):
        return "cannot access this subresource of nodes"
    if one.verb == "create":
        return ""
    if one.name:
        return "" if one.name == node else "can only access its own node"
    return "" if _selected(one.field_selector, "metadata.name") == node else "can only list and watch its own node"
