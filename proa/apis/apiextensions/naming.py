"""Which names a CustomResourceDefinition gets, and the conditions that say so. Pure; a controller writes them down.

Names are taken within a group: plural, singular and short names share one set, kind and list kind another. A
definition keeps what it was once given; established stays established.
"""

from __future__ import annotations

from collections.abc import Iterable

from proa.meta.objects import Obj, copy_object, name_of

NAMES_ACCEPTED = "NamesAccepted"
ESTABLISHED = "Established"
# Holds a definition that is being deleted until its objects are gone.
CLEANUP = "customresourcecleanup.apiextensions.k8s.io"


def _taken(others: Iterable[Obj], group: str, name: str) -> tuple[set[str], set[str]]:
    """Returns the resource names and kinds that other definitions of the group were given."""
    resources: set[str] = set()
    kinds: set[str] = set()
    for other in others:
        if (other.get("spec") or {}).get("group") != group or name_of(other) == name:
            continue
        accepted = (other.get("status") or {}).get("acceptedNames") or {}
        resources |= {accepted.get("plural") or "", accepted.get("singular") or "", *(accepted.get("shortNames") or ())}
        kinds |= {accepted.get("kind") or "", accepted.get("listKind") or ""}
    return resources - {""}, kinds - {""}


def names_status(definition: Obj, others: Iterable[Obj], now: str) -> Obj:
    """Returns the definition's status with accepted names and both conditions brought up to date.

    `others` are all definitions (the one at hand may be among them); `now` is an RFC 3339 time for transitions.
    """
    spec = definition.get("spec") or {}
    wanted: Obj = spec.get("names") or {}
    status: Obj = copy_object(definition.get("status") or {})
    before: Obj = status.get("acceptedNames") or {}
    resources, kinds = _taken(others, spec.get("group") or "", name_of(definition))
    accepted = {key: value for key, value in before.items() if key != "categories"}
    reason = message = ""

    for key, taken, conflict in (
        ("plural", resources, "PluralConflict"),
        ("singular", resources, "SingularConflict"),
        ("shortNames", resources, "ShortNamesConflict"),
        ("kind", kinds, "KindConflict"),
        ("listKind", kinds, "ListKindConflict"),
    ):
        asked, had = wanted.get(key), before.get(key)
        names = asked if isinstance(asked, list) else [asked] if asked else []
        kept = had if isinstance(had, list) else [had]
        clashes = [name for name in names if name in taken and name not in kept]
        if clashes:
            reason, message = conflict, ", ".join(f'"{name}" is already in use' for name in clashes)
        elif names:
            accepted[key] = asked
        else:
            accepted.pop(key, None)
    if wanted.get("categories"):
        accepted["categories"] = wanted["categories"]
    accepted.setdefault("plural", "")
    accepted.setdefault("kind", "")

    conditions: list[Obj] = status.get("conditions") or []
    if reason:
        conditions = with_condition(conditions, NAMES_ACCEPTED, "False", reason, message, now)
    else:
        conditions = with_condition(conditions, NAMES_ACCEPTED, "True", "NoConflicts", "no conflicts found", now)
    if not is_true(conditions, ESTABLISHED):
        if reason:
            why = "NotAccepted", "not all names are accepted"
            conditions = with_condition(conditions, ESTABLISHED, "False", *why, now)
        else:
            why = "InitialNamesAccepted", "the initial names have been accepted"
            conditions = with_condition(conditions, ESTABLISHED, "True", *why, now)
    status["acceptedNames"] = accepted
    status["conditions"] = conditions
    return status


def is_true(conditions: Iterable[Obj], kind: str) -> bool:
    return any(one.get("type") == kind and one.get("status") == "True" for one in conditions)


def is_established(definition: Obj) -> bool:
    """Tells whether the definition's resources are served."""
    return is_true((definition.get("status") or {}).get("conditions") or [], ESTABLISHED)


def with_condition(conditions: list[Obj], kind: str, status: str, reason: str, message: str, now: str) -> list[Obj]:
    """Returns the conditions with one set; its transition time changes only with its status."""
    was = next((one for one in conditions if one.get("type") == kind), None)
    same = was is not None and was.get("status") == status
    made = {
        "type": kind,
        "status": status,
        "lastTransitionTime": was.get("lastTransitionTime", now) if was is not None and same else now,
        "reason": reason,
        "message": message,
    }
    if was is None:
        return [*conditions, made]
    return [made if one.get("type") == kind else one for one in conditions]
