"""Lease: who leads, and that a node is alive. Follows upstream's `pkg/registry/coordination/lease`."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from proa.apis.define import columns, resource
from proa.apis.fields import Errors, nonnegative, positive
from proa.apis.registry import Strategy
from proa.apis.tables import age
from proa.meta.objects import Obj, name_of

# Fields of coordinated leader election, which is off by default.
_OFF = ("strategy", "preferredHolder")


class LeaseStrategy(Strategy):
    allow_create_on_update = True
    allow_unconditional_update = False

    def prepare_create(self, obj: Obj) -> None:
        for key in _OFF:
            (obj.get("spec") or {}).pop(key, None)

    def prepare_update(self, obj: Obj, old: Obj) -> None:
        for key in _OFF:
            if key not in (old.get("spec") or {}):
                (obj.get("spec") or {}).pop(key, None)

    def validate(self, obj: Obj) -> Errors:
        spec = obj.get("spec") or {}
        errors = positive(spec.get("leaseDurationSeconds"), "spec.leaseDurationSeconds")
        return errors + nonnegative(spec.get("leaseTransitions"), "spec.leaseTransitions")


def _cells(obj: Obj, now: datetime) -> list[Any]:
    return [name_of(obj), (obj.get("spec") or {}).get("holderIdentity") or "", age(obj, now)]


LEASE = resource(
    "coordination.k8s.io",
    "v1",
    "Lease",
    "leases",
    columns=columns("Name", "Holder", "Age"),
    cells=_cells,
    strategy=LeaseStrategy(),
    storage_version_hash="gqkMMb/YqFM=",
)
