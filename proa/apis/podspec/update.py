"""What of a pod's spec may change, through the pod itself and through its ephemeralcontainers and resize subresources.

Follows upstream's `pkg/apis/core/validation` (ValidatePodUpdate, ValidatePodEphemeralContainersUpdate,
ValidatePodResize).
"""

from __future__ import annotations

from proa.apis.fields import ROOT, Errors, same
from proa.apis.pod_resources import qos_class
from proa.meta.errors import forbidden_field, invalid_field, required_field
from proa.meta.objects import Obj, annotations_of, copy_object

_INT32_MAX = 2**31 - 1
_ALLOWED = (
    "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,"
    "`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),"
    "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"
)


def pod_update(new: Obj, old: Obj) -> Errors:
    """Checks a changed spec against the old one, beyond the checks of the new spec itself."""
    spec, before = new.get("spec") or {}, old.get("spec") or {}
    errors: Errors = []
    for key in ("containers", "initContainers"):
        found, stop = _images(spec.get(key) or [], before.get(key) or [], f"spec.{key}")
        errors += found
        if stop:
            return errors
    found = _deadline(spec.get("activeDeadlineSeconds"), before.get("activeDeadlineSeconds"))
    if found:
        return errors + found
    errors += _tolerations(spec.get("tolerations") or [], before.get("tolerations") or [])
    errors += _gates(spec.get("schedulingGates") or [], before.get("schedulingGates") or [])
    if errors or same(spec, before):
        return errors
    gated = bool(before.get("schedulingGates"))
    if gated:
        errors += _node_selector(spec.get("nodeSelector") or {}, before.get("nodeSelector") or {})
        errors += _node_affinity(spec, before)
    if not same(_without_mutable(spec, before, gated), before):
        errors.append(forbidden_field("spec", _ALLOWED))
    return errors


def _images(new: list[Obj], old: list[Obj], path: str) -> tuple[Errors, bool]:
    if len(new) != len(old):
        return [forbidden_field(path, "pod updates may not add or remove containers")], True
    return [required_field(f"{path}[{index}].image") for index, one in enumerate(new) if not one.get("image")], False


def _deadline(new: int | None, old: int | None) -> Errors:
    path = "spec.activeDeadlineSeconds"
    if new is None:
        return (
            [] if old is None else [invalid_field(path, None, "must not update from a positive integer to nil value")]
        )
    if not 0 <= new <= _INT32_MAX:
        return [invalid_field(path, new, f"must be between 0 and {_INT32_MAX}, inclusive")]
    if old is not None and old < new:
        return [invalid_field(path, new, "must be less than or equal to previous value")]
    return []


def _tolerations(new: list[Obj], old: list[Obj]) -> Errors:
    def identity(one: Obj) -> Obj:
        return {key: value for key, value in one.items() if key != "tolerationSeconds" and value}

    kept = [identity(one) for one in new]
    if all(identity(one) in kept for one in old):
        return []
    detail = "existing toleration can not be modified except its tolerationSeconds"
    return [forbidden_field("spec.tolerations", detail)]


def _gates(new: list[Obj], old: list[Obj]) -> Errors:
    before = {gate.get("name") for gate in old}
    return [
        forbidden_field(
            f"spec.schedulingGates[{index}].name",
            f"only deletion is allowed, but found new scheduling gate '{gate.get('name')}'",
        )
        for index, gate in enumerate(new)
        if gate.get("name") not in before
    ]


def _node_selector(new: Obj, old: Obj) -> Errors:
    if all(new.get(key) == value for key, value in old.items()):
        return []
    detail = "only additions to spec.nodeSelector are allowed (no mutations or deletions)"
    return [invalid_field("spec.nodeSelector", new, detail)]


_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"


def _required_terms(spec: Obj) -> list[Obj]:
    node = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    return (node.get(_REQUIRED) or {}).get("nodeSelectorTerms") or []


def _node_affinity(spec: Obj, before: Obj) -> Errors:
    """Of a gated pod's required terms, none may go, and each may only become narrower."""
    new, old = _required_terms(spec), _required_terms(before)
    path = f"spec.affinity.nodeAffinity.{_REQUIRED}.nodeSelectorTerms"
    if not old:
        return []
    if len(new) != len(old):
        return [invalid_field(path, new, "no additions/deletions to non-empty NodeSelectorTerms list are allowed")]
    errors: Errors = []
    for index, (term, previous) in enumerate(zip(new, old, strict=True)):
        for key in ("matchExpressions", "matchFields"):
            was, now = previous.get(key) or [], term.get(key) or []
            if now[: len(was)] != was:
                detail = "only additions are allowed (no mutations or deletions)"
                errors.append(invalid_field(f"{path}[{index}].{key}", now, detail))
    return errors


def _without_mutable(spec: Obj, before: Obj, gated: bool) -> Obj:
    """Returns the new spec with what may change as it was before."""
    made: Obj = copy_object(spec)
    for key in ("containers", "initContainers"):
        for one, previous in zip(made.get(key) or [], before.get(key) or [], strict=True):
            one["image"] = previous.get("image")
    restored = ["activeDeadlineSeconds", "tolerations", "schedulingGates"]
    if gated:
        restored.append("nodeSelector")
        made["affinity"] = _with_node_affinity(made.get("affinity"), before.get("affinity"))
    if (before.get("terminationGracePeriodSeconds") or 0) < 0 and made.get("terminationGracePeriodSeconds") == 1:
        restored.append("terminationGracePeriodSeconds")
    for key in restored:
        made[key] = before.get(key)
    return made


def _with_node_affinity(new: Obj | None, old: Obj | None) -> Obj:
    return {**(new or {}), "nodeAffinity": (old or {}).get("nodeAffinity")}


# ---------------------------------------------------------------- ephemeral containers

MIRROR = "kubernetes.io/config.mirror"


def ephemeral_update(new: Obj, old: Obj) -> Errors:
    """Ephemeral containers are added, never changed or removed."""
    path = "spec.ephemeralContainers"
    if MIRROR in annotations_of(new):
        return [forbidden_field(ROOT, "static pods do not support ephemeral containers")]
    now = {one.get("name"): one for one in (new.get("spec") or {}).get("ephemeralContainers") or []}
    errors: Errors = []
    for one in (old.get("spec") or {}).get("ephemeralContainers") or []:
        name = one.get("name")
        if name not in now:
            errors.append(forbidden_field(path, f'existing ephemeral containers "{name}" may not be removed\n'))
        elif not same(now[name], one):
            errors.append(forbidden_field(path, f'existing ephemeral containers "{name}" may not be changed\n'))
    return errors


# ---------------------------------------------------------------- resize

_RESIZABLE = ("cpu", "memory")


def resized(new: Obj, old: Obj) -> Obj:
    """Returns the old spec with the new resources of its containers: all that a resize may set."""
    made: Obj = copy_object(old.get("spec") or {})
    wanted = new.get("spec") or {}
    for key in ("containers", "initContainers"):
        mine, theirs = made.get(key) or [], wanted.get(key) or []
        if len(mine) != len(theirs):
            continue
        for one, other in zip(mine, theirs, strict=True):
            if one.get("name") == other.get("name"):
                one["resources"] = copy_object(other.get("resources") or {})
                if other.get("resizePolicy"):
                    one["resizePolicy"] = copy_object(other["resizePolicy"])
    return made


def resize(new: Obj, old: Obj) -> Errors:
    """Checks a pod whose containers' resources change in place."""
    spec, before = new.get("spec") or {}, old.get("spec") or {}
    if MIRROR in annotations_of(new):
        return [forbidden_field(ROOT, "static pods cannot be resized")]
    if same(spec, before):
        return []
    if (spec.get("os") or {}).get("name") == "windows":
        return [forbidden_field(ROOT, "windows pods cannot be resized")]
    errors: Errors = []
    if qos_class(new) != (old.get("status") or {}).get("qosClass", qos_class(old)):
        errors.append(invalid_field("spec", qos_class(new), "Pod QOS Class may not change as a result of resizing"))
    for key in ("containers", "initContainers"):
        for index, (one, other) in enumerate(zip(spec.get(key) or [], before.get(key) or [], strict=False)):
            errors += _resources_change(one, other, f"spec.{key}[{index}].resources")
    mutable = {"containers", "initContainers"}
    rest, was = ({key: value for key, value in each.items() if key not in mutable} for each in (spec, before))
    if not same(rest, was):
        errors.append(forbidden_field("spec", "only cpu and memory resources are mutable"))
    return errors


def _resources_change(one: Obj, other: Obj, path: str) -> Errors:
    errors: Errors = []
    new, old = one.get("resources") or {}, other.get("resources") or {}
    for side in ("limits", "requests"):
        now, was = new.get(side) or {}, old.get(side) or {}
        if any(name in was and name not in now for name in _RESIZABLE):
            errors.append(forbidden_field(f"{path}.{side}", f"resource {side} cannot be removed"))
        if any(now.get(name) != was.get(name) for name in {*now, *was} if name not in _RESIZABLE):
            errors.append(forbidden_field("spec", "only cpu and memory resources are mutable"))
    return errors
