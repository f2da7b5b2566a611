"""ControllerRevision: a past form of a StatefulSet's or DaemonSet's template. Follows upstream's `apps` validation."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from proa.apis.define import columns, resource
from proa.apis.fields import Errors, immutable, nonnegative
from proa.apis.registry import Strategy
from proa.apis.tables import NONE, age
from proa.meta.errors import required_field
from proa.meta.objects import Obj, controller_of, name_of


class ControllerRevisionStrategy(Strategy):
    def validate(self, obj: Obj) -> Errors:
        errors: Errors = []
        if obj.get("data") is None:
            errors.append(required_field("data", "data is mandatory"))
        return errors + nonnegative(obj.get("revision"), "revision")

    def validate_update(self, obj: Obj, old: Obj) -> Errors:
        return self.validate(obj) + immutable(obj.get("data"), old.get("data"), "data")


def _cells(obj: Obj, now: datetime) -> list[Any]:
    owner = controller_of(obj)
    shown = NONE
    if owner:
        group, _, _ = (owner.get("apiVersion") or "").rpartition("/")
        kind = (owner.get("kind") or "").lower()
        shown = f"{kind}.{group}/{owner.get('name')}" if group else f"{kind}/{owner.get('name')}"
    return [name_of(obj), shown, obj.get("revision") or 0, age(obj, now)]


CONTROLLER_REVISION = resource(
    "apps",
    "v1",
    "ControllerRevision",
    "controllerrevisions",
    columns=columns("Name", "Controller", "Revision", "Age"),
    cells=_cells,
    strategy=ControllerRevisionStrategy(),
    storage_version_hash="85nkx63pcBU=",
)
