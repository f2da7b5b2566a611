"""What the garbage collector does with one object (pure). Follows upstream's garbage collector.

An owner is solid (it exists), waiting (it is being deleted in the foreground, after its dependents) or absent. An
object goes when it has owners and none is solid; else its references to the others go.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from proa.meta.objects import Obj, is_deleted, metadata

ORPHAN = "orphan"
FOREGROUND = "foregroundDeletion"


class Owner(Enum):
    SOLID = "solid"
    WAITING = "waiting"
    ABSENT = "absent"


@dataclass(frozen=True, slots=True)
class Plan:
    """Any of: orphan the dependents; look at the dependents again; take finalizers off; set the owner references;
    delete with a propagation policy; let dependents no longer block their owner (a circle)."""

    orphan_dependents: bool = False
    visit_dependents: bool = False
    finalizers: tuple[str, ...] | None = None
    owner_references: tuple[Obj, ...] | None = None
    delete: str | None = None
    unblock: bool = False


NOTHING = Plan()


def is_waiting(obj: Obj) -> bool:
    """Tells whether an object is being deleted in the foreground."""
    return is_deleted(obj) and FOREGROUND in finalizers(obj)


def finalizers(obj: Obj) -> list[str]:
    return metadata(obj).get("finalizers") or []


def references(obj: Obj) -> list[Obj]:
    return metadata(obj).get("ownerReferences") or []


def blocks(dependent: Obj, uid: str) -> bool:
    """Tells whether a dependent holds up its owner's foreground deletion."""
    return any(one.get("uid") == uid and one.get("blockOwnerDeletion") for one in references(dependent))


def plan(obj: Obj, owners: Sequence[Owner], dependents: Sequence[Obj]) -> Plan:
    """`owners`: the state of each owner reference, in their order. `dependents`: of this object, in all resources."""
    if is_deleted(obj):
        return _plan_deleted(obj, dependents)
    if not owners or all(owner is Owner.SOLID for owner in owners):
        return NOTHING
    listed = references(obj)
    if Owner.SOLID in owners:
        kept = tuple(one for one, owner in zip(listed, owners, strict=True) if owner is Owner.SOLID)
        return Plan(owner_references=kept)
    if Owner.WAITING in owners and dependents:
        circle = any(is_waiting(one) for one in dependents)
        return Plan(delete="Foreground", unblock=circle)
    held = finalizers(obj)
    policy = "Orphan" if ORPHAN in held else "Foreground" if FOREGROUND in held else "Background"
    return Plan(delete=policy)


def _plan_deleted(obj: Obj, dependents: Sequence[Obj]) -> Plan:
    held = finalizers(obj)
    if ORPHAN in held:
        return Plan(orphan_dependents=True, finalizers=tuple(one for one in held if one != ORPHAN))
    if FOREGROUND in held:
        uid = metadata(obj)["uid"]
        if any(blocks(one, uid) for one in dependents):
            return Plan(visit_dependents=True)
        remaining = tuple(one for one in held if one != FOREGROUND)
        return Plan(visit_dependents=True, finalizers=remaining)
    return NOTHING
