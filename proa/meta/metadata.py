"""The metadata that every object has: what the server fills in, what may change, what is valid.

Follows upstream's `apimachinery/pkg/api/validation/objectmeta.go` and the registry's BeforeCreate and BeforeUpdate.
Functions that change an object say so; they take the caller's own copy. Time, uid and random suffix are arguments.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from proa.meta import names
from proa.meta.errors import FieldError, forbidden_field, invalid_field, required_field, too_long_field
from proa.meta.gvk import split_api_version
from proa.meta.objects import Obj

NameCheck = Callable[[str, bool], list[str]]

ANNOTATIONS_SIZE_MAX = 256 * 1024
GENERATED_LENGTH_MAX = 63
SUFFIX_LENGTH = 5
SUFFIX_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"  # no vowels, no look-alikes
MANAGER_LENGTH_MAX = 128
SUBRESOURCE_LENGTH_MAX = 256

ORPHAN = "orphan"
FOREGROUND = "foregroundDeletion"
_STANDARD_FINALIZERS = frozenset({"kubernetes", ORPHAN, FOREGROUND})
_IMMUTABLE = ("name", "namespace", "uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds")


# ---------------------------------------------------------------- what the server fills in


def generate_name(base: str, suffix: str) -> str:
    """Returns the name for a generateName: its first 58 characters and `suffix`, five from SUFFIX_ALPHABET."""
    return base[: GENERATED_LENGTH_MAX - SUFFIX_LENGTH] + suffix


def prepare_create(obj: Obj, *, now: str, uid: str, suffix: str) -> None:
    """Fills in what the server owns in a new object's metadata, in place; `now` is an RFC 3339 time."""
    meta = obj.get("metadata")
    if not isinstance(meta, dict):
        meta = obj["metadata"] = {}
    for owned in ("deletionTimestamp", "deletionGracePeriodSeconds", "selfLink", "resourceVersion"):
        meta.pop(owned, None)
    if not meta.get("name") and meta.get("generateName"):
        meta["name"] = generate_name(meta["generateName"], suffix)
    meta["uid"] = uid
    meta["creationTimestamp"] = now


def prepare_update(obj: Obj, old: Obj) -> None:
    """Carries over from `old` what an update cannot change in metadata; changes `obj` in place."""
    meta, before = obj["metadata"], old["metadata"]
    meta.pop("selfLink", None)
    _set(meta, "generation", before.get("generation"))
    _set(meta, "creationTimestamp", before.get("creationTimestamp"))
    if not meta.get("uid"):
        _set(meta, "uid", before.get("uid"))
    if before.get("deletionTimestamp"):
        meta["deletionTimestamp"] = before["deletionTimestamp"]
    if before.get("deletionGracePeriodSeconds") is not None:
        meta.setdefault("deletionGracePeriodSeconds", before["deletionGracePeriodSeconds"])


def _set(meta: Obj, key: str, value: object) -> None:
    if value:
        meta[key] = value
    else:
        meta.pop(key, None)


def drop_duplicate_owners(obj: Obj, *, after_admission: bool = False) -> list[str]:
    """Removes owner references that repeat an earlier one, in place; returns the warning to send, if any."""
    meta = obj.get("metadata") or {}
    references = meta.get("ownerReferences") or []
    if len(references) < 2:
        return []
    kept: list[Obj] = []
    seen: set[str] = set()
    repeated: list[str] = []
    for reference in references:
        uid = reference.get("uid", "")
        if uid in seen:
            if uid not in repeated:
                repeated.append(uid)
            if reference in kept:
                continue
        seen.add(uid)
        kept.append(reference)
    if not repeated:
        return []
    if len(kept) < len(references):
        meta["ownerReferences"] = kept
    when = " after mutating admission happens" if after_admission else ""
    return [
        f".metadata.ownerReferences contains duplicate entries{when}; API server dedups owner references in 1.20+, "
        "and may reject such requests as early as 1.24; please fix your requests; "
        f"duplicate UID(s) observed: {', '.join(repeated)}"
    ]


# ---------------------------------------------------------------- validation


def validate_create(
    obj: Obj, namespaced: bool, check_name: NameCheck, *, path: str = "metadata", builtin: bool = True
) -> list[FieldError]:
    """Returns what is wrong with a new object's metadata.

    `check_name` is the strategy's name rule. `builtin` types demand that finalizers are qualified or standard ones.
    """
    meta = obj.get("metadata") or {}
    errors: list[FieldError] = []
    base, name, namespace = meta.get("generateName") or "", meta.get("name") or "", meta.get("namespace") or ""
    if base:
        errors += [invalid_field(f"{path}.generateName", base, problem) for problem in check_name(base, True)]
    if name:
        errors += [invalid_field(f"{path}.name", name, problem) for problem in check_name(name, False)]
    else:
        errors.append(required_field(f"{path}.name", "name or generateName is required"))
    if not namespaced and namespace:
        errors.append(forbidden_field(f"{path}.namespace", "not allowed on this type"))
    elif namespaced and not namespace:
        errors.append(required_field(f"{path}.namespace"))
    elif namespaced:
        problems = names.dns1123_label(namespace)
        errors += [invalid_field(f"{path}.namespace", namespace, problem) for problem in problems]
    generation = meta.get("generation") or 0
    if generation < 0:
        errors.append(invalid_field(f"{path}.generation", generation, "must be greater than or equal to 0"))
    return errors + shared_errors(meta, path, builtin)


def validate_update(obj: Obj, old: Obj, *, path: str = "metadata", builtin: bool = True) -> list[FieldError]:
    """Returns what is wrong with a changed object's metadata, compared with its old form."""
    meta, before = obj.get("metadata") or {}, old.get("metadata") or {}
    errors: list[FieldError] = []
    if before.get("deletionTimestamp"):
        added = sorted(set(meta.get("finalizers") or ()) - set(before.get("finalizers") or ()))
        if added:
            listed = ", ".join(f'"{one}"' for one in added)
            why = "no new finalizers can be added if the object is being deleted, found new finalizers"
            errors.append(forbidden_field(f"{path}.finalizers", f"{why} []string{{{listed}}}"))
    if not meta.get("resourceVersion"):
        errors.append(invalid_field(f"{path}.resourceVersion", 0, "must be specified for an update"))
    generation = meta.get("generation") or 0
    if generation < (before.get("generation") or 0):
        errors.append(invalid_field(f"{path}.generation", generation, "must not be decremented"))
    errors += [
        invalid_field(f"{path}.{key}", meta.get(key), "field is immutable")
        for key in _IMMUTABLE
        if meta.get(key) != before.get(key)
    ]
    return errors + shared_errors(meta, path, builtin)


def shared_errors(meta: Obj, path: str = "metadata", builtin: bool = True) -> list[FieldError]:
    """Returns what is wrong with the parts of metadata that a create and an update check alike."""
    errors: list[FieldError] = []
    if meta.get("labels"):
        errors += validate_labels(meta["labels"], f"{path}.labels")
    if meta.get("annotations"):
        errors += validate_annotations(meta["annotations"], f"{path}.annotations")
    if meta.get("ownerReferences"):
        errors += validate_owner_references(meta["ownerReferences"], f"{path}.ownerReferences")
    if meta.get("finalizers"):
        errors += validate_finalizers(meta["finalizers"], f"{path}.finalizers", builtin)
    if meta.get("managedFields"):
        errors += validate_managed_fields(meta["managedFields"], f"{path}.managedFields")
    return errors


def validate_label_key(key: str, path: str) -> list[FieldError]:
    return [invalid_field(path, key, problem) for problem in names.qualified_name(key)]


def validate_labels(labels: dict[str, str], path: str) -> list[FieldError]:
    """Checks keys and values; the errors name the map, not the key, as upstream's do."""
    errors: list[FieldError] = []
    for key in sorted(labels):
        value = labels[key]
        errors += validate_label_key(key, path)
        errors += [invalid_field(path, value, problem) for problem in names.label_value(value)]
    return errors


def validate_annotations(annotations: dict[str, str], path: str) -> list[FieldError]:
    """Checks keys (in any case) and the total size."""
    errors: list[FieldError] = []
    size = 0
    for key in sorted(annotations):
        errors += [invalid_field(path, key, problem) for problem in names.qualified_name(key.lower())]
        size += len(key.encode()) + len(annotations[key].encode())
    if size > ANNOTATIONS_SIZE_MAX:
        errors.append(too_long_field(path, "", ANNOTATIONS_SIZE_MAX))
    return errors


def validate_owner_references(references: list[Obj], path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    controller = ""
    for reference in references:
        api_version, kind = reference.get("apiVersion") or "", reference.get("kind") or ""
        try:
            group, version = split_api_version(api_version)
        except ValueError:
            group, version = "", ""
        if not version:
            errors.append(invalid_field(f"{path}.apiVersion", api_version, "version must not be empty"))
        errors += [
            invalid_field(f"{path}.{key}", "", "must not be empty")
            for key in ("kind", "name", "uid")
            if not reference.get(key)
        ]
        if (group, version, kind) == ("", "v1", "Event"):
            errors.append(invalid_field(path, reference, "/v1, Kind=Event is disallowed from being an owner"))
        if reference.get("controller"):
            this = f"{kind}/{reference.get('name') or ''}"
            if controller:
                why = "Only one reference can have Controller set to true. Found"
                detail = f'{why} "true" in references for {controller} and {this}'
                errors.append(invalid_field(path, references, detail))
            controller = controller or this
    return errors


def validate_finalizers(finalizers: list[str], path: str, builtin: bool = True) -> list[FieldError]:
    errors: list[FieldError] = []
    for finalizer in finalizers:
        errors += [invalid_field(path, finalizer, problem) for problem in names.qualified_name(finalizer)]
    if ORPHAN in finalizers and FOREGROUND in finalizers:
        errors.append(invalid_field(path, finalizers, "finalizer orphan and foregroundDeletion cannot be both set"))
    if builtin:
        why = "name is neither a standard finalizer name nor is it fully qualified"
        errors += [
            invalid_field(f"{path}[{index}]", finalizer, why)
            for index, finalizer in enumerate(finalizers)
            if _is_bare(finalizer)
        ]
    return errors


def _is_bare(finalizer: str) -> bool:
    return "/" not in finalizer and finalizer not in _STANDARD_FINALIZERS


def finalizer_warnings(finalizers: Iterable[str]) -> list[str]:
    """Returns the warnings for a custom resource's finalizers that lack a domain."""
    why = "prefer a domain-qualified finalizer name including a path (/) to avoid accidental conflicts"
    return [
        f'metadata.finalizers: "{finalizer}": {why} with other finalizer writers'
        for finalizer in finalizers
        if _is_bare(finalizer)
    ]


def validate_field_manager(manager: str, path: str) -> list[FieldError]:
    """A field manager's name: at most 128 bytes, all printable."""
    errors: list[FieldError] = []
    if len(manager.encode()) > MANAGER_LENGTH_MAX:
        errors.append(too_long_field(path, manager, MANAGER_LENGTH_MAX))
    if not manager.isprintable():
        errors.append(invalid_field(path, manager, "should only contain printable characters"))
    return errors


def validate_managed_fields(entries: list[Obj], path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    for index, entry in enumerate(entries):
        at = f"{path}[{index}]"
        if entry.get("operation") not in ("Apply", "Update"):
            errors.append(invalid_field(f"{at}.operation", entry.get("operation") or "", "must be `Apply` or `Update`"))
        if entry.get("fieldsType") not in (None, "", "FieldsV1"):
            errors.append(invalid_field(f"{at}.fieldsType", entry["fieldsType"], "must be `FieldsV1`"))
        errors += validate_field_manager(entry.get("manager") or "", f"{at}.manager")
        if len(entry.get("subresource") or "") > SUBRESOURCE_LENGTH_MAX:
            errors.append(too_long_field(f"{at}.subresource", entry["subresource"], SUBRESOURCE_LENGTH_MAX))
    return errors
