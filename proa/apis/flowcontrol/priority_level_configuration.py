"""PriorityLevelConfiguration, as of flowcontrol.apiserver.k8s.io/v1: a share of the server's concurrency."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from proa.apis import tables
from proa.apis.define import columns, resource
from proa.apis.fields import Errors
from proa.apis.registry import StatusStrategy, Strategy
from proa.apis.shape import child, keep_status, set_default, set_if_zero
from proa.meta.errors import forbidden_field, invalid_field, required_field, unsupported_field
from proa.meta.objects import Obj, name_of

_QUEUING = {"queues": 64, "handSize": 8, "queueLengthLimit": 50}
_QUEUES_MAX = 10_000_000
_ENTROPY_BITS_MAX = 60


class PriorityLevelConfigurationStrategy(Strategy):
    generation = True

    def default(self, obj: Obj) -> None:
        spec = child(obj, "spec")
        limited, exempt = spec.get("limited"), spec.get("exempt")
        if exempt is not None:
            set_default(exempt, "nominalConcurrencyShares", 0)
            set_default(exempt, "lendablePercent", 0)
        if limited is not None:
            set_default(limited, "nominalConcurrencyShares", 30)
            set_default(limited, "lendablePercent", 0)
            queuing = child(limited, "limitResponse").get("queuing")
            if queuing is not None:
                for key, value in _QUEUING.items():
                    set_if_zero(queuing, key, value)
        child(obj, "status")

    def prepare_create(self, obj: Obj) -> None:
        obj["status"] = {}

    def prepare_update(self, obj: Obj, old: Obj) -> None:
        keep_status(obj, old)

    def validate(self, obj: Obj) -> Errors:
        spec, is_exempt = obj.get("spec") or {}, name_of(obj) == "exempt"
        kind, limited, exempt = spec.get("type") or "", spec.get("limited"), spec.get("exempt")
        errors: Errors = []
        if kind in ("Exempt", "Limited") and is_exempt != (kind == "Exempt"):
            errors.append(invalid_field("spec.type", kind, "must be 'Exempt' if and only if `name` is 'exempt'"))
        if kind == "Exempt":
            if limited is not None:
                errors.append(forbidden_field("spec.limited", "must be nil if the type is not Limited"))
            errors += _shares(exempt or {}, "spec.exempt")
        elif kind == "Limited":
            if exempt is not None:
                errors.append(forbidden_field("spec.exempt", "must be nil if the type is Limited"))
            if limited is None:
                errors.append(required_field("spec.limited", "must not be empty when type is Limited"))
            else:
                errors += _limited(limited, "spec.limited")
        else:
            errors.append(unsupported_field("spec.type", kind, ("Exempt", "Limited")))
        return errors


def _shares(given: Obj, path: str) -> Errors:
    errors: Errors = []
    shares, lendable = given.get("nominalConcurrencyShares") or 0, given.get("lendablePercent") or 0
    if shares < 0:
        errors.append(invalid_field(f"{path}.nominalConcurrencyShares", shares, "must be a non-negative integer"))
    if not 0 <= lendable <= 100:
        errors.append(invalid_field(f"{path}.lendablePercent", lendable, "must be between 0 and 100, inclusive"))
    return errors


def _limited(limited: Obj, path: str) -> Errors:
    errors = _shares(limited, path)
    borrowing = limited.get("borrowingLimitPercent")
    if borrowing is not None and borrowing < 0:
        detail = "if specified, must be a non-negative integer"
        errors.append(invalid_field(f"{path}.borrowingLimitPercent", borrowing, detail))
    response = limited.get("limitResponse") or {}
    kind, queuing = response.get("type") or "", response.get("queuing")
    where = f"{path}.limitResponse.queuing"
    if kind == "Reject":
        if queuing is not None:
            detail = "must be nil if limited.limitResponse.type is not Limited"
            errors.append(forbidden_field(where, detail))
    elif kind == "Queue":
        if queuing is None:
            detail = "must not be empty if limited.limitResponse.type is Limited"
            errors.append(required_field(where, detail))
        else:
            errors += _queuing(queuing, where)
    else:
        errors.append(unsupported_field(f"{path}.limitResponse.type", kind, ("Queue", "Reject")))
    return errors


def _queuing(queuing: Obj, path: str) -> Errors:
    queues, hand, length = (queuing.get(key) or 0 for key in ("queues", "handSize", "queueLengthLimit"))
    errors: Errors = []
    if length <= 0:
        errors.append(invalid_field(f"{path}.queueLengthLimit", length, "must be positive"))
    if queues <= 0:
        errors.append(invalid_field(f"{path}.queues", queues, "must be positive"))
    elif queues > _QUEUES_MAX:
        errors.append(invalid_field(f"{path}.queues", queues, f"must not be greater than {_QUEUES_MAX}"))
    if hand <= 0:
        errors.append(invalid_field(f"{path}.handSize", hand, "must be positive"))
    elif hand > queues:
        detail = f"should not be greater than queues ({queues})"
        errors.append(invalid_field(f"{path}.handSize", hand, detail))
    elif _entropy_bits(queues, hand) > _ENTROPY_BITS_MAX:
        detail = f"the bits needed to deal handSize cards from queues must not be more than {_ENTROPY_BITS_MAX}"
        errors.append(invalid_field(f"{path}.handSize", hand, detail))
    return errors


def _entropy_bits(queues: int, hand: int) -> int:
    """The bits of hash that dealing a hand from so many queues takes."""
    return math.ceil(sum(math.log2(queues - index) for index in range(min(hand, 100))))


def cells(obj: Obj, now: datetime) -> Sequence[Any]:
    spec = obj.get("spec") or {}
    limits = spec.get("limited") or spec.get("exempt") or {}
    queuing = (limits.get("limitResponse") or {}).get("queuing") or {}
    return (
        name_of(obj),
        spec.get("type", ""),
        limits.get("nominalConcurrencyShares", tables.NONE),
        *(queuing.get(key, tables.NONE) for key in ("queues", "handSize", "queueLengthLimit")),
        tables.age(obj, now),
    )


PRIORITY_LEVEL_CONFIGURATION = resource(
    "flowcontrol.apiserver.k8s.io",
    "v1",
    "PriorityLevelConfiguration",
    "prioritylevelconfigurations",
    columns=columns("Name", "Type", "NominalConcurrencyShares", "Queues", "HandSize", "QueueLengthLimit", "Age"),
    cells=cells,
    strategy=PriorityLevelConfigurationStrategy(),
    namespaced=False,
    status=StatusStrategy,
    storage_version_hash="Kir5PVfvNeI=",
)
