"""What becomes of claims for local-path volumes, and of the volumes (pure).

Follows the protocol of upstream's external provisioners and resizers: annotations, finalizer, order.
"""

from __future__ import annotations

from dataclasses import dataclass

from proa.apis.storage.local_path import (
    DIRECTORY_FINALIZER,
    FOLDER_ANNOTATION,
    NODE_LABEL,
    PROVISIONED_BY,
    PROVISIONER,
    directory_name,
    is_local_path,
    node_label,
)
from proa.meta.objects import (
    Obj,
    annotations_of,
    is_deleted,
    labels_of,
    metadata,
    name_of,
    namespace_of,
    resource_version_of,
    uid_of,
)
from proa.meta.quantity import parse

SELECTED_NODE = "volume.kubernetes.io/selected-node"
_ASKED = ("volume.kubernetes.io/storage-provisioner", "volume.beta.kubernetes.io/storage-provisioner")
# Keeps a volume that is deleted before its claim until what it stands for is deleted, too.
PROVISIONER_FINALIZER = "external-provisioner.volume.kubernetes.io/finalizer"
SIMULATED_ANNOTATION = "proa.dev/simulated"
_SIMULATED_FOLDER = "/var/lib/proa/local-path"
_HOSTNAME = "kubernetes.io/hostname"
_MODES = {"ReadWriteOnce", "ReadWriteOncePod"}
_RESIZE_CONDITIONS = ("Resizing", "FileSystemResizePending", "ControllerResizeError", "NodeResizeError")


class Refused(Exception):
    """A claim can't be provisioned as it is."""


class Elsewhere(Exception):
    """A claim can't be provisioned on the node that was selected: the scheduler has to choose again."""


def is_asked_for(claim: Obj) -> bool:
    """Tells whether a claim was given to this provisioner."""
    return any(annotations_of(claim).get(key) == PROVISIONER for key in _ASKED)


def is_waiting(claim: Obj) -> bool:
    """Tells whether a claim waits to be provisioned."""
    return is_asked_for(claim) and not claim["spec"].get("volumeName") and not is_deleted(claim)


def volume_name(claim: Obj) -> str:
    return f"pvc-{uid_of(claim)}"


def provisioned(claim: Obj, storage_class: Obj, node: Obj | None) -> Obj:
    """Returns the volume for a claim on its selected node; raises Refused or Elsewhere."""
    spec = claim["spec"]
    selected = annotations_of(claim).get(SELECTED_NODE)
    if not selected:
        raise Refused(f"{PROVISIONER} needs a storage class with volumeBindingMode WaitForFirstConsumer")
    if spec.get("selector") is not None:
        raise Refused("claim.Spec.Selector is not supported")
    if spec.get("volumeMode") == "Block":
        raise Refused("local-path volumes are directories: volumeMode Block is not supported")
    if spec.get("dataSource") or spec.get("dataSourceRef"):
        raise Refused("local-path volumes start empty: a data source is not supported")
    if not set(spec.get("accessModes") or ()) <= _MODES:
        raise Refused("local-path volumes are on one node: only ReadWriteOnce and ReadWriteOncePod are supported")
    if node is None:
        raise Elsewhere(f'node "{selected}" not found')
    folder = _folder(node)
    if not folder:
        raise Elsewhere(f'node "{selected}" keeps no local-path volumes')
    name = volume_name(claim)
    path = f"{folder}/{directory_name(name, namespace_of(claim), name_of(claim))}"
    hostname = labels_of(node).get(_HOSTNAME) or name_of(node)
    here = {"key": _HOSTNAME, "operator": "In", "values": [hostname]}
    made: Obj = {
        "capacity": {"storage": spec["resources"]["requests"]["storage"]},
        "accessModes": list(spec["accessModes"]),
        "claimRef": {
            "kind": "PersistentVolumeClaim",
            "apiVersion": "v1",
            "namespace": namespace_of(claim),
            "name": name_of(claim),
            "uid": uid_of(claim),
            "resourceVersion": resource_version_of(claim),
        },
        "persistentVolumeReclaimPolicy": storage_class.get("reclaimPolicy") or "Delete",
        "storageClassName": name_of(storage_class),
        "volumeMode": "Filesystem",
        "local": {"path": path},
        "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [here]}]}},
    }
    if storage_class.get("mountOptions"):
        made["mountOptions"] = list(storage_class["mountOptions"])
    meta: Obj = {
        "name": name,
        "labels": {NODE_LABEL: node_label(name_of(node))},
        "annotations": {PROVISIONED_BY: PROVISIONER},
    }
    if made["persistentVolumeReclaimPolicy"] == "Delete":
        meta["finalizers"] = [PROVISIONER_FINALIZER]
    return {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": meta, "spec": made}


def _folder(node: Obj) -> str:
    """Returns where a node keeps its directories; a simulated one has none, and a place where they would be."""
    folder = annotations_of(node).get(FOLDER_ANNOTATION) or ""
    return folder or (_SIMULATED_FOLDER if SIMULATED_ANNOTATION in annotations_of(node) else "")


def sent_back(claim: Obj) -> Obj:
    """Returns the claim without its selected node, so that the scheduler chooses again."""
    kept = {key: value for key, value in annotations_of(claim).items() if key != SELECTED_NODE}
    return {**claim, "metadata": {**metadata(claim), "annotations": kept}}


# ---------------------------------------------------------------- giving back


@dataclass(frozen=True, slots=True)
class Upkeep:
    """What to do with a volume: delete it, give it other finalizers (None: leave them), or nothing."""

    delete: bool = False
    finalizers: list[str] | None = None


NOTHING = Upkeep()


def upkeep(volume: Obj, node_exists: bool) -> Upkeep:
    """Decides what a local-path volume needs. Nobody can remove the directory on a node that is gone for good."""
    if not is_local_path(volume):
        return NOTHING
    held = metadata(volume).get("finalizers") or []
    phase = (volume.get("status") or {}).get("phase")
    dropped = volume["spec"].get("persistentVolumeReclaimPolicy") == "Delete"
    if not is_deleted(volume):
        if dropped and phase == "Released":
            return Upkeep(delete=True)
        if dropped == (PROVISIONER_FINALIZER in held):
            return NOTHING
        kept = [one for one in held if one != PROVISIONER_FINALIZER]
        return Upkeep(finalizers=[*kept, PROVISIONER_FINALIZER] if dropped else kept)
    kept = held if node_exists else [one for one in held if one != DIRECTORY_FINALIZER]
    if phase != "Bound" and DIRECTORY_FINALIZER not in kept:
        kept = [one for one in kept if one != PROVISIONER_FINALIZER]
    return NOTHING if kept == held else Upkeep(finalizers=kept)


# ---------------------------------------------------------------- growing


def _size(quantities: Obj | None) -> int:
    return parse((quantities or {}).get("storage") or "0").nano


def grown_volume(volume: Obj, claim: Obj) -> Obj | None:
    """Returns the volume as large as its claim asks, None if it is. A directory has no size: it grows at once."""
    wanted = claim["spec"]["resources"]["requests"]
    if _size(wanted) <= _size(volume["spec"].get("capacity")):
        return None
    capacity = {**volume["spec"]["capacity"], "storage": wanted["storage"]}
    return {**volume, "spec": {**volume["spec"], "capacity": capacity}}


def grown_status(claim: Obj, volume: Obj) -> Obj | None:
    """Returns the status of a bound claim whose volume has grown, None if it says so already."""
    status = claim.get("status") or {}
    if status.get("phase") != "Bound" or _size(volume["spec"].get("capacity")) <= _size(status.get("capacity")):
        return None
    size = volume["spec"]["capacity"]["storage"]
    kept = [one for one in status.get("conditions") or () if one.get("type") not in _RESIZE_CONDITIONS]
    made = {**status, "capacity": {**(status.get("capacity") or {}), "storage": size}}
    made["allocatedResources"] = {**(status.get("allocatedResources") or {}), "storage": size}
    made.pop("allocatedResourceStatuses", None)
    made.pop("conditions", None)
    return {**made, "conditions": kept} if kept else made
