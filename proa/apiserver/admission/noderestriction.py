"""NodeRestriction: a node writes its own Node, lease, and the pods that are bound to it, and nothing of others.

Follows upstream's plugin. Evictions and token requests are not written through admission, so their handlers call
`check_eviction` and `check_token`.
"""

from __future__ import annotations

from collections.abc import Callable

from proa.apis.storage.local_path import DIRECTORY_FINALIZER, is_local_path, is_on
from proa.apiserver.admission.base import Plugin, is_mirror, name_of_request, refusal
from proa.apiserver.authz.node import node_name, pod_references
from proa.apiserver.contracts import AdmissionRequest
from proa.apiserver.live import Live
from proa.client.interface import UserInfo
from proa.client.resources import NODES, PODS, SERVICEACCOUNTS
from proa.meta.errors import forbidden
from proa.meta.objects import Obj, labels_of, metadata, name_of, uid_of

_RESTRICTED_LABELS = "node-restriction.kubernetes.io"
_KUBELET_LABELS = frozenset(
    (
        "beta.kubernetes.io/arch",
        "beta.kubernetes.io/instance-type",
        "beta.kubernetes.io/os",
        "failure-domain.beta.kubernetes.io/region",
        "failure-domain.beta.kubernetes.io/zone",
        "kubernetes.io/arch",
        "kubernetes.io/hostname",
        "kubernetes.io/os",
        "node.kubernetes.io/instance-type",
        "node.kubernetes.io/windows-build",
        "topology.kubernetes.io/region",
        "topology.kubernetes.io/zone",
    )
)
_KUBELET_LABEL_DOMAINS = ("kubelet.kubernetes.io", "node.kubernetes.io")
_MIRROR_MAY_NOT = ("serviceaccounts", "secrets", "configmaps", "persistentvolumeclaims", "resourceclaims")


class NodeRestriction(Plugin):
    name = "NodeRestriction"

    def __init__(self, live: Live) -> None:
        self._live = live
        self._checks: dict[tuple[str, str, str], Callable[[AdmissionRequest, str], None]] = {
            ("", "pods", ""): self._pod,
            ("", "pods", "status"): self._pod_status,
            ("", "nodes", ""): self._node,
            ("", "nodes", "status"): self._node,
            ("", "persistentvolumeclaims", "status"): _claim_status,
            ("", "persistentvolumes", ""): _local_volume,
            ("coordination.k8s.io", "leases", ""): _own_name,
            ("storage.k8s.io", "csinodes", ""): _own_name,
            ("resource.k8s.io", "resourceslices", ""): _own_slice,
        }

    async def mutate(self, request: AdmissionRequest) -> None:
        node = node_name(request.user)
        if not node:
            return
        check = self._checks.get((request.resource.group, request.resource.plural, request.subresource))
        if check is not None:
            check(request, node)

    def _pod(self, request: AdmissionRequest, node: str) -> None:
        if request.operation == "DELETE":
            _require_bound(request, request.old or {}, node, "delete")
        elif request.operation == "CREATE" and request.obj is not None:
            self._mirror(request, request.obj, node)
        else:
            raise refusal(request, f"unexpected operation {request.operation} of node {node!r}")

    def _mirror(self, request: AdmissionRequest, pod: Obj, node: str) -> None:
        if not is_mirror(pod):
            raise refusal(request, f"pod does not have annotation, node {node!r} can only create mirror pods")
        _require_bound(request, pod, node, "create")
        owners = metadata(pod).get("ownerReferences") or ()
        found = self._live.get(NODES, node)
        if len(owners) > 1 or any(
            (one.get("kind"), one.get("name"), one.get("uid")) != ("Node", node, uid_of(found or {})) for one in owners
        ):
            raise refusal(request, f"node {node!r} can only create pods with an owner reference set to itself")
        spec = pod.get("spec") or {}
        for kind in _MIRROR_MAY_NOT:
            if kind == "serviceaccounts":
                names = [spec["serviceAccountName"]] if spec.get("serviceAccountName") else []
            else:
                names = [name for name in pod_references(pod, kind) if name]
            if names:
                raise refusal(request, f"node {node!r} can not create pods that reference {kind}")

    def _pod_status(self, request: AdmissionRequest, node: str) -> None:
        old, new = request.old or {}, request.obj or {}
        _require_bound(request, old, node, "update status for")
        if labels_of(old) != labels_of(new):
            raise refusal(request, f"node {node!r} cannot update labels through pod status")
        statuses = [(one.get("status") or {}).get("resourceClaimStatuses") or [] for one in (old, new)]
        if statuses[0] != statuses[1]:
            raise refusal(request, f"node {node!r} cannot update resource claim statuses")

    def _node(self, request: AdmissionRequest, node: str) -> None:
        if name_of_request(request) != node:
            raise refusal(request, f"node {node!r} is not allowed to modify node {name_of_request(request)!r}")
        obj, old = request.obj, request.old
        if obj is None:
            return
        modified = {
            key
            for key in labels_of(obj).keys() | (labels_of(old) if old else {}).keys()
            if labels_of(obj).get(key) != (labels_of(old).get(key) if old else None)
        }
        wrong = sorted(key for key in modified if not _may_set(key))
        if wrong:
            raise refusal(request, f"is not allowed to modify labels: {', '.join(wrong)}")
        if request.operation == "UPDATE" and old is not None:
            if ((obj.get("spec") or {}).get("taints") or []) != ((old.get("spec") or {}).get("taints") or []):
                raise refusal(request, f"node {node!r} is not allowed to modify taints")
            if metadata(obj).get("ownerReferences") != metadata(old).get("ownerReferences"):
                raise refusal(request, f"node {node!r} is not allowed to modify ownerReferences")


def _may_set(label: str) -> bool:
    """Whether a kubelet may set or change a label of its own node."""
    domain = label.partition("/")[0] if "/" in label else ""
    if domain == _RESTRICTED_LABELS or domain.endswith(f".{_RESTRICTED_LABELS}"):
        return False
    if not (domain in ("kubernetes.io", "k8s.io") or domain.endswith((".kubernetes.io", ".k8s.io"))):
        return True
    return label in _KUBELET_LABELS or any(
        domain == one or domain.endswith(f".{one}") for one in _KUBELET_LABEL_DOMAINS
    )


def _require_bound(request: AdmissionRequest, pod: Obj, node: str, what: str) -> None:
    if (pod.get("spec") or {}).get("nodeName") != node:
        raise refusal(request, f"node {node!r} can only {what} pods with spec.nodeName set to itself")


def _own_name(request: AdmissionRequest, node: str) -> None:
    if name_of_request(request) != node:
        kind = request.resource.singular
        raise refusal(request, f"can only access node {kind} with the same name as the requesting node")


def _own_slice(request: AdmissionRequest, node: str) -> None:
    for obj in (request.obj, request.old):
        if obj is not None and (obj.get("spec") or {}).get("nodeName") != node:
            raise refusal(request, "can only create, update and delete ResourceSlices of its own node")


def _claim_status(request: AdmissionRequest, node: str) -> None:
    """A node may only say how far a claim's resize has come."""
    resizing = ("capacity", "conditions", "allocatedResources", "allocatedResourceStatuses")
    rest = [
        {key: value for key, value in ((one or {}).get("status") or {}).items() if key not in resizing}
        for one in (request.obj, request.old)
    ]
    specs = [(one or {}).get("spec") for one in (request.obj, request.old)]
    if rest[0] != rest[1] or specs[0] != specs[1]:
        allowed = "status.capacity and status.conditions"
        raise refusal(request, f"node {node!r} is not allowed to update fields other than {allowed}")


def _local_volume(request: AdmissionRequest, node: str) -> None:
    """A node may say that it holds a local-path volume's directory, or holds it no longer."""
    old, new = request.old or {}, request.obj or {}
    held = [set(metadata(one).get("finalizers") or ()) for one in (old, new)]
    own = request.operation == "UPDATE" and is_local_path(old) and is_on(old, node)
    if not own or (held[0] ^ held[1]) - {DIRECTORY_FINALIZER} or _without_finalizers(old) != _without_finalizers(new):
        allowed = f"the finalizer {DIRECTORY_FINALIZER} of volumes of its own"
        raise refusal(request, f"node {node!r} is not allowed to change anything but {allowed}")


def _without_finalizers(obj: Obj) -> Obj:
    bookkeeping = ("finalizers", "managedFields", "resourceVersion")
    kept = {key: value for key, value in metadata(obj).items() if key not in bookkeeping}
    return {**obj, "metadata": kept}


def check_eviction(user: UserInfo, pod: Obj) -> None:
    """Raises the 403 if a node evicts a pod of another one."""
    node = node_name(user)
    if node and (pod.get("spec") or {}).get("nodeName") != node:
        raise forbidden(PODS, name_of(pod), f"node {node!r} can only evict pods with spec.nodeName set to itself")


def check_token(user: UserInfo, account: str, reference: Obj | None, pod: Obj | None) -> None:
    """Raises the 403 unless a node asks for a token that is bound to a pod of its own."""
    node = node_name(user)
    if not node:
        return
    problem = ""
    if not reference or reference.get("kind") != "Pod":
        problem = "node requested token not bound to a pod"
    elif not reference.get("uid"):
        problem = "node requested token with a pod binding without a uid"
    elif pod is None or (pod.get("spec") or {}).get("nodeName") != node:
        problem = "node requested token bound to a pod scheduled on a different node"
    if problem:
        raise forbidden(SERVICEACCOUNTS, account, problem)
