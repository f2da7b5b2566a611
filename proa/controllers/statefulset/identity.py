"""The names, labels and claims of a StatefulSet's pods (pure)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from proa.controllers.pods import owner_reference
from proa.controllers.revisions import HASH_LABEL, template_of
from proa.meta.gvk import GVK
from proa.meta.objects import Obj, copy_object, labels_of, metadata, name_of, namespace_of

KIND = GVK("apps", "v1", "StatefulSet")
NAME_LABEL = "statefulset.kubernetes.io/pod-name"
INDEX_LABEL = "apps.kubernetes.io/pod-index"
_ORDINAL = re.compile(r"^(.*)-(\d+)$")


def replicas(stateful_set: Obj) -> int:
    value = stateful_set["spec"].get("replicas")
    return 1 if value is None else int(value)


def first_ordinal(stateful_set: Obj) -> int:
    return int((stateful_set["spec"].get("ordinals") or {}).get("start") or 0)


def ordinal_of(stateful_set: Obj, pod: Obj) -> int:
    """Returns the pod's ordinal, -1 if its name is not one of the set's."""
    found = _ORDINAL.match(name_of(pod))
    return int(found[2]) if found and found[1] == name_of(stateful_set) else -1


def claim_templates(stateful_set: Obj) -> Sequence[Obj]:
    return stateful_set["spec"].get("volumeClaimTemplates") or ()


def claim_name(stateful_set: Obj, template: Obj, ordinal: int) -> str:
    return f"{name_of(template)}-{name_of(stateful_set)}-{ordinal}"


def retention(stateful_set: Obj) -> tuple[bool, bool]:
    """Returns whether claims go (when the set is deleted, when it is scaled down)."""
    policy = stateful_set["spec"].get("persistentVolumeClaimRetentionPolicy") or {}
    return policy.get("whenDeleted") == "Delete", policy.get("whenScaled") == "Delete"


def claims_for(stateful_set: Obj, ordinal: int) -> list[Obj]:
    """Returns the claims that the pod of an ordinal uses."""
    found = []
    for template in claim_templates(stateful_set):
        base = metadata(template)
        meta: Obj = {
            "name": claim_name(stateful_set, template, ordinal),
            "namespace": namespace_of(stateful_set),
            "labels": {
                **(base.get("labels") or {}),
                **((stateful_set["spec"].get("selector") or {}).get("matchLabels") or {}),
            },
        }
        if base.get("annotations"):
            meta["annotations"] = dict(base["annotations"])
        spec = copy_object(template.get("spec") or {})
        found.append({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": meta, "spec": spec})
    return found


def claim_owners(stateful_set: Obj, claim: Obj, pod: Obj | None, condemned: bool) -> list[Obj]:
    """Returns the owner references that a claim should have, by the retention policy."""
    when_deleted, when_scaled = retention(stateful_set)
    set_uid = metadata(stateful_set)["uid"]
    kept = [
        one
        for one in metadata(claim).get("ownerReferences") or []
        if one.get("uid") != set_uid and not (pod is not None and _is_of_pod(one, pod))
    ]
    if when_scaled and condemned and pod is not None:
        return [*kept, {"apiVersion": "v1", "kind": "Pod", "name": name_of(pod), "uid": metadata(pod)["uid"]}]
    if when_deleted:
        reference = owner_reference(stateful_set, KIND)
        plain = {key: reference[key] for key in ("apiVersion", "kind", "name", "uid")}
        return [*kept, {**plain, "controller": True}]
    return kept


def is_left(claim: Obj, pod: str) -> bool:
    """Tells whether a claim belongs to a pod of that name, when there is none."""
    return any(_is_of(one, pod) for one in metadata(claim).get("ownerReferences") or ())


def _is_of(reference: Obj, pod: str) -> bool:
    return (reference.get("apiVersion"), reference.get("kind"), reference.get("name")) == ("v1", "Pod", pod)


def _is_of_pod(reference: Obj, pod: Obj) -> bool:
    """Tells whether a reference is to this pod or to an earlier one of its name."""
    return _is_of(reference, name_of(pod))


def pod_for(stateful_set: Obj, ordinal: int, revision: Obj) -> Obj:
    """Returns the pod of an ordinal by the template that a revision records."""
    template = template_of(revision)
    base = metadata(template)
    name = f"{name_of(stateful_set)}-{ordinal}"
    labels = {
        **(base.get("labels") or {}),
        HASH_LABEL: name_of(revision),
        NAME_LABEL: name,
        INDEX_LABEL: str(ordinal),
    }
    meta: Obj = {
        "name": name,
        "generateName": f"{name_of(stateful_set)}-",
        "namespace": namespace_of(stateful_set),
        "labels": labels,
        "ownerReferences": [owner_reference(stateful_set, KIND)],
    }
    for part in ("annotations", "finalizers"):
        if base.get(part):
            meta[part] = copy_object(base[part])
    spec: dict[str, Any] = copy_object(template.get("spec") or {})
    spec["hostname"] = name
    if stateful_set["spec"].get("serviceName"):
        spec["subdomain"] = stateful_set["spec"]["serviceName"]
    spec["volumes"] = volumes(stateful_set, ordinal, spec.get("volumes") or [])
    if not spec["volumes"]:
        del spec["volumes"]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec}


def volumes(stateful_set: Obj, ordinal: int, given: Sequence[Obj]) -> list[Obj]:
    """Returns a pod's volumes with the set's claims in place of those of the same names."""
    claims: Mapping[str, str] = {
        name_of(template): claim_name(stateful_set, template, ordinal) for template in claim_templates(stateful_set)
    }
    claimed = [{"name": name, "persistentVolumeClaim": {"claimName": claim}} for name, claim in claims.items()]
    return [*claimed, *(one for one in given if one["name"] not in claims)]


def has_identity(stateful_set: Obj, pod: Obj) -> bool:
    """Tells whether a pod bears the labels of its name."""
    labels = labels_of(pod)
    ordinal = str(ordinal_of(stateful_set, pod))
    return labels.get(NAME_LABEL) == name_of(pod) and labels.get(INDEX_LABEL) == ordinal


def uses_its_claims(stateful_set: Obj, pod: Obj) -> bool:
    """Tells whether a pod mounts the claims of its ordinal."""
    mounted = {
        one["name"]: (one.get("persistentVolumeClaim") or {}).get("claimName")
        for one in (pod.get("spec") or {}).get("volumes") or ()
    }
    ordinal = ordinal_of(stateful_set, pod)
    return all(
        mounted.get(name_of(one)) == claim_name(stateful_set, one, ordinal) for one in claim_templates(stateful_set)
    )
