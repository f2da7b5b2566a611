"""ResourceClaim, as of resource.k8s.io/v1: a request for devices, and what was allocated for it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from proa.apis import fields, tables
from proa.apis.define import columns, resource
from proa.apis.fields import Errors
from proa.apis.registry import StatusStrategy, Strategy
from proa.apis.resource.devices import claim_spec, default_claim_spec
from proa.apis.shape import child, children, drop_zero, keep_status
from proa.meta.errors import invalid_field, required_field, too_many_field
from proa.meta.objects import Obj, is_deleted, metadata, name_of

# Keeps an allocated claim until what it holds was given back.
FINALIZER = "resource.kubernetes.io/delete-protection"
_RESERVED_FOR_MAX = 256


class ResourceClaimStrategy(Strategy):
    def default(self, obj: Obj) -> None:
        default_claim_spec(child(obj, "spec"))
        drop_zero(child(obj, "status"), "reservedFor", "devices")

    def prepare_create(self, obj: Obj) -> None:
        obj["status"] = {}

    def prepare_update(self, obj: Obj, old: Obj) -> None:
        keep_status(obj, old)

    def validate(self, obj: Obj) -> Errors:
        return claim_spec(obj.get("spec") or {}, "spec")

    def validate_update(self, obj: Obj, old: Obj) -> Errors:
        if fields.same(obj.get("spec"), old.get("spec")):
            return []
        return [invalid_field("spec", obj.get("spec"), fields.IMMUTABLE)]


class ResourceClaimStatusStrategy(StatusStrategy):
    def validate_update(self, obj: Obj, old: Obj) -> Errors:
        status, before = obj.get("status") or {}, old.get("status") or {}
        reserved = children(status, "reservedFor")
        errors = fields.unique(reserved, "status.reservedFor", lambda one: one.get("uid"))
        if len(reserved) > _RESERVED_FOR_MAX:
            errors.append(too_many_field("status.reservedFor", len(reserved), _RESERVED_FOR_MAX))
        for index, one in enumerate(reserved):
            path = f"status.reservedFor[{index}]"
            errors += [required_field(f"{path}.{key}") for key in ("resource", "name", "uid") if not one.get(key)]
        allocated = status.get("allocation") is not None
        if reserved and not allocated:
            detail = "may not be reserved if not allocated"
            errors.append(invalid_field("status.reservedFor", reserved, detail))
        is_new = reserved and not fields.same(reserved, before.get("reservedFor"))
        if is_new and is_deleted(obj) and len(reserved) > len(children(before, "reservedFor")):
            detail = "new entries may not be added while the claim is meant to be deallocated"
            errors.append(invalid_field("status.reservedFor", reserved, detail))
        if allocated and before.get("allocation") is not None:
            new = status["allocation"]
            if not fields.same(new, before["allocation"]):
                errors.append(invalid_field("status.allocation", new, fields.IMMUTABLE))
        return errors


def cells(obj: Obj, now: datetime) -> Sequence[Any]:
    status = obj.get("status") or {}
    states = []
    if metadata(obj).get("deletionTimestamp"):
        states.append("deleted")
    if status.get("allocation") is None:
        states += [] if states else ["pending"]
    else:
        states.append("allocated")
        if status.get("reservedFor"):
            states.append("reserved")
    return name_of(obj), ",".join(states), tables.age(obj, now)


_STRATEGY = ResourceClaimStrategy()

RESOURCE_CLAIM = resource(
    "resource.k8s.io",
    "v1",
    "ResourceClaim",
    "resourceclaims",
    columns=columns("Name", "State", "Age"),
    cells=cells,
    strategy=_STRATEGY,
    status=ResourceClaimStatusStrategy(_STRATEGY),
    storage_version_hash="wgAZaHcZxUg=",
)
