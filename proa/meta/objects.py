"""What an object is in Proa: a plain dict, as decoded from JSON.

Decoded objects are shared between API server, informers and controllers, so nobody mutates one that came from a
client: make a copy first (`copy_object`). The accessors below read the parts that every object has.
"""

from __future__ import annotations

from typing import Any

Obj = dict[str, Any]


def copy_object(value: Any) -> Any:
    """Returns a deep copy of JSON data (dicts, lists and scalars); several times faster than copy.deepcopy."""
    if type(value) is dict:
        return {key: copy_object(item) if type(item) in (dict, list) else item for key, item in value.items()}
    if type(value) is list:
        return [copy_object(item) if type(item) in (dict, list) else item for item in value]
    return value


def copy_for_change(obj: Obj) -> Obj:
    """Returns a deep copy of an object but for the field sets of its managedFields: most of many objects' parts, and
    never changed in place."""
    return {
        key: _copy_metadata(item)
        if key == "metadata" and type(item) is dict
        else copy_object(item)
        if type(item) in (dict, list)
        else item
        for key, item in obj.items()
    }


def _copy_metadata(meta: Obj) -> Obj:
    managed = meta.get("managedFields")
    if type(managed) is not list:
        copied: Obj = copy_object(meta)
        return copied
    copied = copy_object({key: item for key, item in meta.items() if key != "managedFields"})
    entries = [dict(entry) if type(entry) is dict else entry for entry in managed]
    return {key: entries if key == "managedFields" else copied[key] for key in meta}


def metadata(obj: Obj) -> Obj:
    """Returns the object's metadata, empty if it has none."""
    return obj.get("metadata") or {}


def name_of(obj: Obj) -> str:
    return metadata(obj).get("name") or ""


def namespace_of(obj: Obj) -> str:
    return metadata(obj).get("namespace") or ""


def uid_of(obj: Obj) -> str:
    return metadata(obj).get("uid") or ""


def resource_version_of(obj: Obj) -> str:
    return metadata(obj).get("resourceVersion") or ""


def labels_of(obj: Obj) -> dict[str, str]:
    return metadata(obj).get("labels") or {}


def annotations_of(obj: Obj) -> dict[str, str]:
    return metadata(obj).get("annotations") or {}


def key_of(obj: Obj) -> str:
    """Returns `namespace/name`, or `name` for a cluster-scoped object: the key of caches and work queues."""
    namespace = namespace_of(obj)
    return f"{namespace}/{name_of(obj)}" if namespace else name_of(obj)


def split_key(key: str) -> tuple[str, str]:
    """Splits a `key_of` into (namespace, name)."""
    namespace, _, name = key.rpartition("/")
    return namespace, name


def is_deleted(obj: Obj) -> bool:
    """Tells whether the object is being deleted (has a deletionTimestamp)."""
    return bool(metadata(obj).get("deletionTimestamp"))


def controller_of(obj: Obj) -> Obj | None:
    """Returns the owner reference whose `controller` is true, or None."""
    for reference in metadata(obj).get("ownerReferences") or []:
        if reference.get("controller"):
            return reference  # type: ignore[no-any-return]
    return None
