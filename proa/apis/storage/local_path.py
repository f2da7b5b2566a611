"""Local-path volumes: directories on a node, given to claims by Proa's own provisioner (pure: names, class, rights).

The provisioner (`controllers/localpath`) makes and gives back PersistentVolumes; the node that a volume is on makes its
directory when a pod first mounts it, and removes it when the volume goes (`kubelet/volumes/local_path.py`). In between
stands `DIRECTORY_FINALIZER`: the node puts it on the volume before it makes the directory and takes it away after it
has removed it, so a volume that is deleted while its node is away waits for the node.
"""

from __future__ import annotations

import hashlib

from proa.apis.storage.storage_class import IS_DEFAULT
from proa.meta.names import label_value
from proa.meta.objects import Obj, annotations_of, labels_of, name_of

PROVISIONER = "proa.dev/local-path"
PROVISIONED_BY = "pv.kubernetes.io/provisioned-by"
CLASS_NAME = "local-path"
# On a Node: the folder below which the node keeps the directories. Nodes without it have no local-path volumes.
FOLDER_ANNOTATION = "local-path.proa.dev/folder"
# On a PersistentVolume: whose it is, so that a node sees its own and no others.
NODE_LABEL = "local-path.proa.dev/node"
DIRECTORY_FINALIZER = "local-path.proa.dev/directory"
_FILE_NAME_LENGTH_MAX = 255


def storage_class() -> Obj:
    """Returns the class that clusters of ours have as their default."""
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": CLASS_NAME, "annotations": {IS_DEFAULT: "true"}},
        "provisioner": PROVISIONER,
        "reclaimPolicy": "Delete",
        "volumeBindingMode": "WaitForFirstConsumer",
        "allowVolumeExpansion": True,
    }


def rules() -> list[Obj]:
    """Returns the RBAC rules of the provisioner's service account."""
    read = ["get", "list", "watch"]
    return [
        {"apiGroups": [""], "resources": ["persistentvolumes"], "verbs": [*read, "create", "delete", "update"]},
        {"apiGroups": [""], "resources": ["persistentvolumeclaims"], "verbs": [*read, "update"]},
        {"apiGroups": [""], "resources": ["persistentvolumeclaims/status"], "verbs": ["update"]},
        {"apiGroups": [""], "resources": ["nodes"], "verbs": read},
        {"apiGroups": ["storage.k8s.io"], "resources": ["storageclasses"], "verbs": read},
        {"apiGroups": [""], "resources": ["events"], "verbs": ["create", "patch", "update"]},
    ]


def is_local_path(volume: Obj) -> bool:
    """Tells whether a PersistentVolume is the provisioner's."""
    return annotations_of(volume).get(PROVISIONED_BY) == PROVISIONER


def node_label(node: str) -> str:
    """Returns a node's name as a label's value; a hash of one that is too long for that."""
    return node if not label_value(node) else hashlib.sha256(node.encode()).hexdigest()[:40]


def is_on(volume: Obj, node: str) -> bool:
    """Tells whether a volume is one of the node's own."""
    return labels_of(volume).get(NODE_LABEL) == node_label(node)


def directory_name(volume: str, namespace: str, claim: str) -> str:
    """Returns the name of a volume's directory; volume names don't contain underscores, so it starts with its own."""
    return f"{volume}_{namespace}_{claim}"[:_FILE_NAME_LENGTH_MAX]


def directory_of(volume: Obj, folder: str) -> str:
    """Returns a volume's directory if that is where the node keeps this volume, right below `folder`; else nothing."""
    path: str = ((volume.get("spec") or {}).get("local") or {}).get("path") or ""
    parent, _, name = path.rpartition("/")
    return path if parent == folder and name.startswith(f"{name_of(volume)}_") else ""
