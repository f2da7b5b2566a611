"""PriorityClass, as of scheduling.k8s.io/v1: names for pod priorities."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from proa.apis import fields, tables
from proa.apis.define import columns, resource
from proa.apis.fields import Errors
from proa.apis.registry import Strategy
from proa.apis.shape import child, drop_zero, set_default
from proa.meta.errors import forbidden_field
from proa.meta.objects import Obj, metadata, name_of

SYSTEM_PREFIX = "system-"
USER_VALUE_MAX = 1_000_000_000
SYSTEM_CLASSES = {"system-node-critical": 2_000_001_000, "system-cluster-critical": 2_000_000_000}


class PriorityClassStrategy(Strategy):
    def default(self, obj: Obj) -> None:
        set_default(obj, "value", 0)
        set_default(obj, "preemptionPolicy", "PreemptLowerPriority")
        drop_zero(obj, "globalDefault", "description")

    def prepare_create(self, obj: Obj) -> None:
        child(obj, "metadata")["generation"] = 1

    def prepare_update(self, obj: Obj, old: Obj) -> None:
        child(obj, "metadata")["generation"] = metadata(old).get("generation") or 1

    def validate(self, obj: Obj) -> Errors:
        name, value = name_of(obj), obj.get("value") or 0
        errors: Errors = []
        if name.startswith(SYSTEM_PREFIX):
            if SYSTEM_CLASSES.get(name) != value:
                detail = f"priority class names with '{SYSTEM_PREFIX}' prefix are reserved for system use only"
                errors.append(forbidden_field("metadata.name", detail))
        elif value > USER_VALUE_MAX:
            detail = f"maximum allowed value of a user defined priority is {USER_VALUE_MAX}"
            errors.append(forbidden_field("value", detail))
        policies = ("PreemptLowerPriority", "Never")
        return errors + fields.one_of(obj.get("preemptionPolicy"), "preemptionPolicy", policies)

    def validate_update(self, obj: Obj, old: Obj) -> Errors:
        errors: Errors = []
        if obj.get("value") != old.get("value"):
            errors.append(forbidden_field("value", "may not be changed in an update."))
        key = "preemptionPolicy"
        return errors + fields.immutable(obj.get(key), old.get(key), key)

    def deletion_refusal(self, obj: Obj) -> str:
        system = name_of(obj) in SYSTEM_CLASSES
        return "this is a system priority class and cannot be deleted" if system else ""


def cells(obj: Obj, now: datetime) -> Sequence[Any]:
    return (
        name_of(obj),
        obj.get("value", 0),
        bool(obj.get("globalDefault")),
        tables.age(obj, now),
        obj.get("preemptionPolicy", "PreemptLowerPriority"),
    )


PRIORITY_CLASS = resource(
    "scheduling.k8s.io",
    "v1",
    "PriorityClass",
    "priorityclasses",
    columns=columns("Name", "Value:integer", "Global-Default:boolean", "Age", "PreemptionPolicy"),
    cells=cells,
    strategy=PriorityClassStrategy(),
    namespaced=False,
    short_names=("pc",),
    storage_version_hash="1QwjyaZjj3Y=",
)
