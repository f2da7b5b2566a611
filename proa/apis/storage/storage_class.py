"""StorageClass, as of storage.k8s.io/v1: how volumes of one sort are provisioned."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from proa.apis import fields, tables
from proa.apis.define import columns, resource
from proa.apis.fields import Errors, problems
from proa.apis.registry import Strategy
from proa.apis.shape import children, drop_zero, set_default
from proa.meta import names
from proa.meta.errors import FieldError, duplicate_field, invalid_field, required_field
from proa.meta.objects import Obj, annotations_of, name_of

IS_DEFAULT = "storageclass.kubernetes.io/is-default-class"

_COUNT_MAX = 512
_SIZE_MAX = 256 * 1024


def parameters(value: dict[str, str] | None, path: str) -> Errors:
    """Checks a provisioner's parameters: at most 512, 256 KiB, no empty key."""
    given = value or {}
    if len(given) > _COUNT_MAX:
        return [FieldError("FieldValueTooLong", path, "", f"may not be more than {_COUNT_MAX} bytes")]
    if "" in given:
        return [invalid_field(path, "", "field can not be empty.")]
    size = sum(len(key.encode()) + len(text.encode()) for key, text in given.items())
    if size > _SIZE_MAX:
        return [FieldError("FieldValueTooLong", path, "", f"may not be more than {_SIZE_MAX} bytes")]
    return []


class StorageClassStrategy(Strategy):
    def default(self, obj: Obj) -> None:
        set_default(obj, "reclaimPolicy", "Delete")
        set_default(obj, "volumeBindingMode", "Immediate")
        drop_zero(obj, "parameters", "mountOptions", "allowedTopologies")

    def validate(self, obj: Obj) -> Errors:
        provisioner = obj.get("provisioner") or ""
        if provisioner:
            errors = problems(names.qualified_name(provisioner.lower()), "provisioner", provisioner)
        else:
            errors = [required_field("provisioner")]
        errors += parameters(obj.get("parameters"), "parameters")
        errors += fields.one_of(obj.get("reclaimPolicy"), "reclaimPolicy", ("Delete", "Retain"))
        modes = ("Immediate", "WaitForFirstConsumer")
        errors += fields.one_of(obj.get("volumeBindingMode"), "volumeBindingMode", modes, missing="required")
        return errors + _topologies(children(obj, "allowedTopologies"), "allowedTopologies")

    def validate_update(self, obj: Obj, old: Obj) -> Errors:
        errors = self.validate(obj)
        for key in ("parameters", "provisioner", "reclaimPolicy", "volumeBindingMode"):
            if not fields.same(obj.get(key), old.get(key)):
                errors.append(invalid_field(key, obj.get(key), fields.IMMUTABLE))
        return errors


def _topologies(terms: list[Obj], path: str) -> Errors:
    errors: Errors = []
    seen: list[dict[str, set[str]]] = []
    for index, term in enumerate(terms):
        where = f"{path}[{index}].matchLabelExpressions"
        found: dict[str, set[str]] = {}
        for number, one in enumerate(children(term, "matchLabelExpressions")):
            errors += _topology(one, f"{where}[{number}]", found)
        if found in seen:
            errors.append(duplicate_field(where, ""))
        seen.append(found)
    return errors


def _topology(one: Obj, path: str, found: dict[str, set[str]]) -> Errors:
    key, values = one.get("key") or "", one.get("values") or []
    errors = problems(names.qualified_name(key), f"{path}.key", key)
    if not values:
        errors.append(required_field(f"{path}.values"))
    errors += fields.unique(values, f"{path}.values", lambda value: value)
    if key in found:
        errors.append(duplicate_field(f"{path}.key", key))
    found[key] = set(values)
    return errors


def cells(obj: Obj, now: datetime) -> Sequence[Any]:
    is_default = annotations_of(obj).get(IS_DEFAULT) == "true"
    return (
        f"{name_of(obj)} (default)" if is_default else name_of(obj),
        obj.get("provisioner", ""),
        obj.get("reclaimPolicy", "Delete"),
        obj.get("volumeBindingMode", tables.UNSET),
        bool(obj.get("allowVolumeExpansion")),
        tables.age(obj, now),
    )


STORAGE_CLASS = resource(
    "storage.k8s.io",
    "v1",
    "StorageClass",
    "storageclasses",
    columns=columns("Name", "Provisioner", "ReclaimPolicy", "VolumeBindingMode", "AllowVolumeExpansion", "Age"),
    cells=cells,
    strategy=StorageClassStrategy(),
    namespaced=False,
    short_names=("sc",),
    storage_version_hash="K+m6uJwbjGY=",
)
