"""Which volume a claim gets (pure). Follows upstream's persistent volume binder."""

from __future__ import annotations

from collections.abc import Sequence

from proa.meta.objects import Obj, annotations_of, labels_of, metadata, name_of, namespace_of, uid_of
from proa.meta.quantity import parse
from proa.meta.selectors import from_object

BOUND_BY = "pv.kubernetes.io/bound-by-controller"
BIND_COMPLETED = "pv.kubernetes.io/bind-completed"
CLASS_ANNOTATION = "volume.beta.kubernetes.io/storage-class"
SELECTED_NODE = "volume.kubernetes.io/selected-node"
PROVISIONERS = ("volume.kubernetes.io/storage-provisioner", "volume.beta.kubernetes.io/storage-provisioner")


def class_of(obj: Obj) -> str:
    """Returns the storage class of a claim or volume, empty for none."""
    annotation = annotations_of(obj).get(CLASS_ANNOTATION)
    return annotation if annotation is not None else obj["spec"].get("storageClassName") or ""


def mode_of(obj: Obj) -> str:
    return obj["spec"].get("volumeMode") or "Filesystem"


def claims(volume: Obj, claim: Obj) -> bool:
    """Tells whether a volume's claimRef names this very claim (or one of its name, not yet bound)."""
    reference = volume["spec"].get("claimRef")
    if not reference:
        return False
    same_name = (reference.get("namespace"), reference.get("name")) == (namespace_of(claim), name_of(claim))
    return same_name and reference.get("uid") in (None, "", uid_of(claim))


def find_match(claim: Obj, volumes: Sequence[Obj]) -> Obj | None:
    """Returns the smallest volume that satisfies a claim; one reserved for it first."""
    reserved = [one for one in volumes if claims(one, claim)]
    if reserved:
        return reserved[0]
    fitting = [one for one in volumes if _fits(claim, one)]
    return min(fitting, key=lambda one: (_capacity(one), name_of(one)), default=None)


def _capacity(volume: Obj) -> int:
    return parse((volume["spec"].get("capacity") or {}).get("storage") or "0").nano


def _fits(claim: Obj, volume: Obj) -> bool:
    spec = claim["spec"]
    wanted = parse(((spec.get("resources") or {}).get("requests") or {}).get("storage") or "0").nano
    selector = spec.get("selector")
    return (
        not volume["spec"].get("claimRef")
        and not metadata(volume).get("deletionTimestamp")
        and (volume.get("status") or {}).get("phase") in (None, "", "Pending", "Available")
        and class_of(volume) == class_of(claim)
        and mode_of(volume) == mode_of(claim)
        and set(spec.get("accessModes") or ()) <= set(volume["spec"].get("accessModes") or ())
        and (spec.get("volumeAttributesClassName") or "") == (volume["spec"].get("volumeAttributesClassName") or "")
        and _capacity(volume) >= wanted
        and (selector is None or from_object(selector).matches(labels_of(volume)))
    )


def bound_volume(volume: Obj, claim: Obj) -> Obj | None:
    """Returns the volume as bound to the claim, None if it is."""
    reference = {
        "kind": "PersistentVolumeClaim",
        "namespace": namespace_of(claim),
        "name": name_of(claim),
        "uid": uid_of(claim),
        "apiVersion": "v1",
        "resourceVersion": metadata(claim).get("resourceVersion"),
    }
    old = volume["spec"].get("claimRef") or {}
    if old.get("uid") == uid_of(claim):
        return None
    meta = metadata(volume)
    if not old:
        meta = {**meta, "annotations": {**annotations_of(volume), BOUND_BY: "yes"}}
    return {**volume, "metadata": meta, "spec": {**volume["spec"], "claimRef": reference}}


def bound_claim(claim: Obj, volume: Obj) -> Obj | None:
    """Returns the claim as bound to the volume, None if it is."""
    annotations = {**annotations_of(claim), BIND_COMPLETED: "yes"}
    if not claim["spec"].get("volumeName"):
        annotations[BOUND_BY] = "yes"
    if claim["spec"].get("volumeName") == name_of(volume) and annotations == annotations_of(claim):
        return None
    meta = {**metadata(claim), "annotations": annotations}
    return {**claim, "metadata": meta, "spec": {**claim["spec"], "volumeName": name_of(volume)}}


def claim_status(claim: Obj, volume: Obj | None, phase: str) -> Obj | None:
    """Returns the status that a claim should have, None if it has."""
    old = claim.get("status") or {}
    new = {**old, "phase": phase}
    if phase == "Bound" and volume is not None:
        new["accessModes"] = volume["spec"].get("accessModes") or []
        new["capacity"] = volume["spec"].get("capacity") or {}
    return None if new == old else new


def is_used_by(pod: Obj, claim: str) -> bool:
    """Tells whether a pod mounts a claim of its namespace, ephemeral volumes included."""
    for volume in (pod.get("spec") or {}).get("volumes") or ():
        if (volume.get("persistentVolumeClaim") or {}).get("claimName") == claim:
            return True
        if volume.get("ephemeral") and f"{name_of(pod)}-{volume['name']}" == claim:
            return True
    return False
