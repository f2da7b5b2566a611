"""What pods and their resource claims need (pure). Follows upstream's resource claim controller."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from proa.apis.resource.resource_claim import FINALIZER
from proa.controllers.pods import is_finished, owner_reference
from proa.meta.gvk import GVK
from proa.meta.objects import Obj, annotations_of, controller_of, copy_object, is_deleted, metadata, name_of, uid_of

POD = GVK("", "v1", "Pod")
# Says for which of a pod's claims a claim was made.
POD_CLAIM = "resource.kubernetes.io/pod-claim-name"


@dataclass(frozen=True, slots=True)
class PodPlan:
    """Claims to make, as (name in the pod, name of the template), and what the pod's status says of those there are."""

    create: tuple[tuple[str, str], ...] = ()
    statuses: tuple[Obj, ...] = ()


@dataclass(frozen=True, slots=True)
class ClaimPlan:
    """A new `status` (None: as it is), whether the finalizer goes, and whether the claim goes with its pod."""

    status: Obj | None = None
    release: bool = False
    delete: bool = False


def needs_claims(pod: Obj) -> bool:
    """Tells whether a pod has claims that are made from templates."""
    return any(one.get("resourceClaimTemplateName") for one in (pod.get("spec") or {}).get("resourceClaims") or ())


def is_done(pod: Obj) -> bool:
    """Tells whether a pod will use its claims no more: it ended, or it goes and never got a node."""
    return is_finished(pod) or (is_deleted(pod) and not (pod.get("spec") or {}).get("nodeName"))


def plan_pod(pod: Obj, owned: Iterable[Obj]) -> PodPlan:
    """Compares the claims that a pod takes from templates with those of its own that there are."""
    if is_done(pod) or is_deleted(pod):
        return PodPlan()
    there = {annotations_of(one).get(POD_CLAIM): name_of(one) for one in owned if not is_deleted(one)}
    create: list[tuple[str, str]] = []
    statuses: list[Obj] = []
    for one in (pod.get("spec") or {}).get("resourceClaims") or ():
        template = one.get("resourceClaimTemplateName")
        if template and one["name"] in there:
            statuses.append({"name": one["name"], "resourceClaimName": there[one["name"]]})
        elif template:
            create.append((one["name"], template))
    return PodPlan(tuple(create), tuple(statuses))


def claim_from(pod: Obj, name: str, template: Obj) -> Obj:
    """Returns the claim of a pod that a template describes; the server makes up its name."""
    shape = template.get("spec") or {}
    base = metadata(shape)
    meta: Obj = {
        "generateName": f"{name_of(pod)}-{name}-",
        "namespace": metadata(pod).get("namespace"),
        "annotations": {**(base.get("annotations") or {}), POD_CLAIM: name},
        "ownerReferences": [owner_reference(pod, POD)],
    }
    if base.get("labels"):
        meta["labels"] = dict(base["labels"])
    spec = copy_object(shape.get("spec") or {})
    return {"apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaim", "metadata": meta, "spec": spec}


def pods_of(claim: Obj) -> dict[str, str]:
    """Returns the uids, by name, of the pods that have a claim reserved or own it."""
    reserved = (claim.get("status") or {}).get("reservedFor") or ()
    found = {one["name"]: one["uid"] for one in reserved if not one.get("apiGroup") and one["resource"] == "pods"}
    owner = controller_of(claim)
    if owner is not None and owner.get("kind") == POD.kind:
        found[owner["name"]] = owner["uid"]
    return found


def plan_claim(claim: Obj, pod_of: Callable[[str], Obj | None]) -> ClaimPlan:
    """Takes away what is reserved for pods that are done, and what was allocated once nobody has it reserved.

    `pod_of` finds a pod of the claim's namespace by name.
    """
    status = claim.get("status") or {}
    reserved: Sequence[Obj] = status.get("reservedFor") or ()
    kept = [one for one in reserved if not _is_gone(one, pod_of)]
    protected = FINALIZER in (metadata(claim).get("finalizers") or ())
    new: Obj | None = None
    if len(kept) < len(reserved):
        new = {key: value for key, value in status.items() if key != "reservedFor"}
        if kept:
            new["reservedFor"] = kept
    unused = not kept and protected and (new is not None or is_deleted(claim))
    if unused and "allocation" in status:
        new = {key: value for key, value in (status if new is None else new).items() if key != "allocation"}
    owner = controller_of(claim)
    finished = False
    if owner is not None and owner.get("kind") == POD.kind and not kept and not is_deleted(claim):
        pod = pod_of(owner["name"])
        finished = pod is None or uid_of(pod) != owner["uid"] or is_done(pod)
    return ClaimPlan(new, release=unused, delete=finished)


def _is_gone(user: Obj, pod_of: Callable[[str], Obj | None]) -> bool:
    if user.get("apiGroup") or user.get("resource") != "pods":
        return False
    pod = pod_of(user.get("name") or "")
    return pod is None or uid_of(pod) != user.get("uid") or is_done(pod)
