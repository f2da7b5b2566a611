"""What every cluster of ours holds beside upstream's bootstrap objects: the agents' rights, the service kube-dns, the
default storage class, and the APIService of metrics.k8s.io (one that leads to a metrics-server is left alone).

As with kubeadm, a bootstrap token lets a new node ask for its certificates, and nodes renew them without being asked.
"""

from __future__ import annotations

import asyncio

from proa.apis.metrics import resources as metrics
from proa.apis.storage import local_path
from proa.client.interface import MERGE_PATCH, Client
from proa.client.resources import APISERVICES, CLUSTERROLEBINDINGS, CLUSTERROLES, SERVICES, STORAGECLASSES
from proa.cluster.state import AGENTS_GROUP
from proa.meta.errors import StatusError
from proa.meta.gvk import GVR
from proa.meta.objects import Obj

_RBAC = "rbac.authorization.k8s.io"
_CERTIFICATES = "certificates.k8s.io"
_READ = ["get", "list", "watch"]


_ROLES: dict[str, list[Obj]] = {
    # What an agent reads for proxy, DNS and network policy, beyond what a kubelet may.
    "proa:agent": [
        {"apiGroups": [""], "resources": ["services", "namespaces", "nodes", "pods"], "verbs": _READ},
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": _READ},
        {"apiGroups": ["networking.k8s.io"], "resources": ["networkpolicies", "servicecidrs"], "verbs": _READ},
    ],
    # The cloud controllers as a process of their own: to lead, to watch, and to get their service accounts' tokens.
    "proa:cloud-controller-manager": [
        {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["create"]},
        {
            "apiGroups": ["coordination.k8s.io"],
            "resources": ["leases"],
            "resourceNames": ["cloud-controller-manager"],
            "verbs": ["get", "update"],
        },
        {"apiGroups": [""], "resources": ["services", "nodes"], "verbs": _READ},
        {"apiGroups": [""], "resources": ["serviceaccounts"], "verbs": ["get", "create"]},
        {"apiGroups": [""], "resources": ["serviceaccounts/token"], "verbs": ["create"]},
    ],
    "proa:kubelet-serving-approver": [
        {"apiGroups": [_CERTIFICATES], "resources": ["certificatesigningrequests/approval"], "verbs": ["update"]},
        {
            "apiGroups": [_CERTIFICATES],
            "resources": ["signers"],
            "resourceNames": ["kubernetes.io/kubelet-serving"],
            "verbs": ["approve"],
        },
    ],
    "proa:local-path-provisioner": local_path.rules(),
}
_BOOTSTRAPPERS = {"apiGroup": _RBAC, "kind": "Group", "name": "system:bootstrappers:proa"}
_REQUESTS = "system:certificates.k8s.io:certificatesigningrequests"
# Who has upstream's roles: binding -> (role, subject).
_BINDINGS: dict[str, tuple[str, Obj]] = {
    "proa:node-bootstrap": ("system:node-bootstrapper", _BOOTSTRAPPERS),
    "proa:node-autoapprove-bootstrap": (f"{_REQUESTS}:nodeclient", _BOOTSTRAPPERS),
    "proa:node-autoapprove-renewal": (
        f"{_REQUESTS}:selfnodeclient",
        {"apiGroup": _RBAC, "kind": "Group", "name": "system:nodes"},
    ),
}
_SUBJECTS = {
    "proa:agent": {"apiGroup": _RBAC, "kind": "Group", "name": AGENTS_GROUP},
    "proa:cloud-controller-manager": {"apiGroup": _RBAC, "kind": "User", "name": "system:cloud-controller-manager"},
    "proa:kubelet-serving-approver": {
        "kind": "ServiceAccount",
        "name": "kubelet-serving-approver",
        "namespace": "kube-system",
    },
    "proa:local-path-provisioner": {
        "kind": "ServiceAccount",
        "name": "local-path-provisioner",
        "namespace": "kube-system",
    },
}


def role(name: str) -> Obj:
    return {"apiVersion": f"{_RBAC}/v1", "kind": "ClusterRole", "metadata": {"name": name}, "rules": _ROLES[name]}


def binding(name: str) -> Obj:
    role_name, subject = _BINDINGS.get(name) or (name, _SUBJECTS[name])
    return {
        "apiVersion": f"{_RBAC}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": name},
        "roleRef": {"apiGroup": _RBAC, "kind": "ClusterRole", "name": role_name},
        "subjects": [subject],
    }


def dns_service(address: str) -> Obj:
    """The usual service of the cluster's DNS. It selects nothing: each node answers on its address itself."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": "kube-dns",
            "namespace": "kube-system",
            "labels": {
                "k8s-app": "kube-dns",
                "kubernetes.io/cluster-service": "true",
                "kubernetes.io/name": "CoreDNS",
            },
        },
        "spec": {
            "clusterIP": address,
            "clusterIPs": [address],
            "ports": [
                {"name": "dns", "port": 53, "protocol": "UDP", "targetPort": 53},
                {"name": "dns-tcp", "port": 53, "protocol": "TCP", "targetPort": 53},
            ],
        },
    }


async def ensure(client: Client, dns_address: str) -> None:
    """Creates what is missing and renews the rights; raises StatusError."""
    rights = [(CLUSTERROLES, role(name)) for name in _ROLES]
    rights += [(CLUSTERROLEBINDINGS, binding(name)) for name in (*_ROLES, *_BINDINGS)]
    # All at once: the store commits what waits together.
    await asyncio.gather(
        *(_renew(client, resource, obj) for resource, obj in rights),
        _create(client, SERVICES, dns_service(dns_address)),
        _create(client, CLUSTERROLES, metrics.reader_role()),
        _create(client, APISERVICES, metrics.api_service()),
        _create(client, STORAGECLASSES, local_path.storage_class()),
    )


async def _renew(client: Client, resource: GVR, obj: Obj) -> None:
    if not await _create(client, resource, obj):
        await client.patch(resource, obj["metadata"]["name"], obj, patch_type=MERGE_PATCH)


async def _create(client: Client, resource: GVR, obj: Obj) -> bool:
    """Returns whether it was missing."""
    try:
        await client.create(resource, obj, obj["metadata"].get("namespace", ""))
    except StatusError as error:
        if error.reason == "AlreadyExists" or (resource == SERVICES and error.reason == "Invalid"):
            return False
        raise
    return True
