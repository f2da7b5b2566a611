"""RuntimeClass, as of node.k8s.io/v1: which container runtime handles a pod."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from proa.apis import fields, tables
from proa.apis.define import columns, resource
from proa.apis.fields import Errors, problems
from proa.apis.podspec.scheduling import tolerations
from proa.apis.registry import Strategy
from proa.meta import names, quantity
from proa.meta.errors import invalid_field, required_field
from proa.meta.metadata import validate_labels
from proa.meta.objects import Obj, name_of


class RuntimeClassStrategy(Strategy):
    def validate(self, obj: Obj) -> Errors:
        handler = obj.get("handler") or ""
        errors = problems(names.dns1123_label(handler), "handler", handler) if handler else [required_field("handler")]
        for name, amount in ((obj.get("overhead") or {}).get("podFixed") or {}).items():
            if quantity.parse(amount).nano < 0:
                errors.append(invalid_field(f"overhead.limits[{name}]", str(amount), fields.NEGATIVE))
        scheduling = obj.get("scheduling") or {}
        errors += validate_labels(scheduling.get("nodeSelector") or {}, "scheduling.nodeSelector")
        return errors + tolerations(scheduling.get("tolerations"), "scheduling.tolerations")

    def validate_update(self, obj: Obj, old: Obj) -> Errors:
        return fields.immutable(obj.get("handler"), old.get("handler"), "handler")


def cells(obj: Obj, now: datetime) -> Sequence[Any]:
    return name_of(obj), obj.get("handler", ""), tables.age(obj, now)


RUNTIME_CLASS = resource(
    "node.k8s.io",
    "v1",
    "RuntimeClass",
    "runtimeclasses",
    columns=columns("Name", "Handler", "Age"),
    cells=cells,
    strategy=RuntimeClassStrategy(),
    namespaced=False,
    storage_version_hash="WQTu1GL3T2Q=",
)
