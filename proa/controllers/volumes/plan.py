"""Which volume a claim gets (pure). Follows upstream's persistent volume binder."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from proa.meta.objects import Obj, annotations_of, is_deleted, labels_of, metadata, name_of, namespace_of, uid_of
from proa.meta.quantity import parse
from proa.meta.selectors import from_object

BOUND_BY = "pv.kubernetes.io/bound-by-controller"
BIND_COMPLETED = "pv.kubernetes.io/bind-completed"
CLASS_ANNOTATION = "volume.beta.kubernetes.io/storage-class"
SELECTED_NODE = "volume.kubernetes.io/selected-node"
PROVISIONED_BY = "pv.kubernetes.io/provisioned-by"
IS_DEFAULT = ("storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class")
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


def _requested(claim: Obj) -> int:
    return parse(((claim["spec"].get("resources") or {}).get("requests") or {}).get("storage") or "0").nano


def wants_growth(claim: Obj) -> bool:
    """Tells whether a bound claim asks for more than it has."""
    status = claim.get("status") or {}
    has = parse((status.get("capacity") or {}).get("storage") or "0").nano
    return status.get("phase") == "Bound" and _requested(claim) > has


def _fits(claim: Obj, volume: Obj) -> bool:
    spec = claim["spec"]
    selector = spec.get("selector")
    return (
        not volume["spec"].get("claimRef")
        and not metadata(volume).get("deletionTimestamp")
        and (volume.get("status") or {}).get("phase") in (None, "", "Pending", "Available")
        and class_of(volume) == class_of(claim)
        and mode_of(volume) == mode_of(claim)
        and set(spec.get("accessModes") or ()) <= set(volume["spec"].get("accessModes") or ())
        and (spec.get("volumeAttributesClassName") or "") == (volume["spec"].get("volumeAttributesClassName") or "")
        and _capacity(volume) >= _requested(claim)
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
    """Returns the status that a claim should have, None if it has. Without a volume it has no modes and no capacity."""
    old = claim.get("status") or {}
    new = {**old, "phase": phase}
    if volume is None:
        new.pop("accessModes", None)
        new.pop("capacity", None)
    else:
        new["accessModes"] = volume["spec"].get("accessModes") or []
        if old.get("phase") != phase:
            # Later the capacity is for whoever lets the volume grow.
            new["capacity"] = volume["spec"].get("capacity") or {}
            attributes = volume["spec"].get("volumeAttributesClassName")
            if attributes:
                new["currentVolumeAttributesClassName"] = attributes
    return None if new == old else new


def mismatch(claim: Obj, volume: Obj) -> str:
    """Returns why a volume that a claim asks for by name can't be its, or nothing."""
    spec, offered = claim["spec"], volume["spec"]
    if _capacity(volume) < _requested(claim):
        return "requested PV is too small"
    if class_of(volume) != class_of(claim):
        return "storageClassName does not match"
    if (offered.get("volumeAttributesClassName") or "") != (spec.get("volumeAttributesClassName") or ""):
        return "VolumeAttributesClassName does not match"
    if mode_of(volume) != mode_of(claim):
        return "incompatible volumeMode"
    modes = set(spec.get("accessModes") or ())
    return "" if modes <= set(offered.get("accessModes") or ()) else "incompatible accessMode"


def unbound_volume(volume: Obj) -> Obj | None:
    """Returns a volume that its claim does not want: free again if the binder chose it, else reserved as it was."""
    reference = volume["spec"].get("claimRef")
    if not reference or not reference.get("uid"):
        return None
    if BOUND_BY not in annotations_of(volume):
        kept = {key: value for key, value in reference.items() if key not in ("uid", "resourceVersion")}
        return {**volume, "spec": {**volume["spec"], "claimRef": kept}}
    annotations = {key: value for key, value in annotations_of(volume).items() if key != BOUND_BY}
    spec = {key: value for key, value in volume["spec"].items() if key != "claimRef"}
    return {**volume, "metadata": {**metadata(volume), "annotations": annotations}, "spec": spec}


def is_unclassed(claim: Obj) -> bool:
    """Tells whether a claim says nothing of a class: it gets the default one, even if that comes later."""
    return claim["spec"].get("storageClassName") is None and CLASS_ANNOTATION not in annotations_of(claim)


def default_class(classes: Iterable[Obj]) -> str:
    """Returns the class that is marked as default; of several the newest, then the first by name. Empty for none."""
    marked = [one for one in classes if any(annotations_of(one).get(key) == "true" for key in IS_DEFAULT)]
    marked.sort(key=name_of)
    marked.sort(key=lambda one: metadata(one).get("creationTimestamp") or "", reverse=True)
    return name_of(marked[0]) if marked else ""


def pods_to_schedule(claim: str, pods: Iterable[Obj]) -> list[str]:
    """Returns the names of the pods that use a claim and have no node yet."""
    return sorted(
        name_of(pod)
        for pod in pods
        if not (pod.get("spec") or {}).get("nodeName") and not is_deleted(pod) and is_used_by(pod, claim)
    )


# ---------------------------------------------------------------- what becomes of a volume without its claim


@dataclass(frozen=True, slots=True)
class Failure:
    """A volume can't be given back: it is Failed, with this message and an event of this reason."""

    reason: str
    message: str


class Deletion:
    """The object of a volume goes; nothing is to be deleted beside it."""


def reclaim(volume: Obj) -> Failure | Deletion | None:
    """Decides what becomes of a released volume; None leaves it to an administrator or its own provisioner."""
    spec, name = volume["spec"], name_of(volume)
    policy = spec.get("persistentVolumeReclaimPolicy")
    if policy == "Recycle":
        return Failure("VolumeFailedRecycle", "No recycler plugin found for the volume!")
    provisioner = annotations_of(volume).get(PROVISIONED_BY) or ""
    external = spec.get("csi") or (provisioner and not provisioner.startswith("kubernetes.io/"))
    if policy != "Delete" or external or is_deleted(volume):
        return None
    path = (spec.get("hostPath") or {}).get("path")
    if path is None:
        why = "no deletable volume plugin matched"
        return Failure("VolumeFailedDelete", f'error getting deleter volume plugin for volume "{name}": {why}')
    if not path.startswith("/tmp/") or path == "/tmp/":
        return Failure("VolumeFailedDelete", f"host_path deleter only supports /tmp/.+ but received provided {path}")
    return Deletion()


def is_used_by(pod: Obj, claim: str) -> bool:
    """Tells whether a pod mounts a claim of its namespace, ephemeral volumes included."""
    for volume in (pod.get("spec") or {}).get("volumes") or ():
        if (volume.get("persistentVolumeClaim") or {}).get("claimName") == claim:
            return True
        if volume.get("ephemeral") and f"{name_of(pod)}-{volume['name']}" == claim:
            return True
    return False
