"""Which names a CustomResourceDefinition gets, and the conditions that say so. Pure; a controller writes them down.

Names are taken within a group: plural, singular and short names share one set, kind and list kind another. A
definition keeps what it was once given; established stays established. As upstream, one that gets its names is first
`Installing`, and established by a second write, when it is served.
"""

from __future__ import annotations

from collections.abc import Iterable

from proa.meta.objects import Obj, annotations_of, copy_object, name_of

NAMES_ACCEPTED = "NamesAccepted"
ESTABLISHED = "Established"
TERMINATING = "Terminating"
APPROVED = "api-approved.kubernetes.io"
APPROVAL = "KubernetesAPIApprovalPolicyConformant"
# Holds a definition that is being deleted until its objects are gone.
CLEANUP = "customresourcecleanup.apiextensions.k8s.io"
_APPROVAL_MISSING = (
    f'protected groups must have approval annotation "{APPROVED}", see '
    "https://github.com/kubernetes/enhancements/pull/1111"
)


class TakenNames:
    """The resource names and kinds that definitions were given, by group; a look-up costs the same for many of them."""

    def __init__(self, definitions: Iterable[Obj] = ()) -> None:
        self._owners: dict[tuple[str, str, str], set[str]] = {}
        self._of: dict[str, set[tuple[str, str, str]]] = {}
        for one in definitions:
            self.learn(one)

    def learn(self, definition: Obj) -> bool:
        """Takes note of a definition as it is now; tells whether its names are others than before."""
        group = (definition.get("spec") or {}).get("group") or ""
        accepted = (definition.get("status") or {}).get("acceptedNames") or {}
        resources = {accepted.get("plural"), accepted.get("singular"), *(accepted.get("shortNames") or ())}
        kinds = {accepted.get("kind"), accepted.get("listKind")}
        held = {(group, "resource", one) for one in resources if one} | {(group, "kind", one) for one in kinds if one}
        return self._hold(name_of(definition), held)

    def forget(self, owner: str) -> bool:
        """Gives the names of a definition free; tells whether it had any."""
        return self._hold(owner, set())

    def _hold(self, owner: str, held: set[tuple[str, str, str]]) -> bool:
        before = self._of.pop(owner, set())
        if held:
            self._of[owner] = held
        for one in before - held:
            self._owners[one].discard(owner)
            if not self._owners[one]:
                del self._owners[one]
        for one in held - before:
            self._owners.setdefault(one, set()).add(owner)
        return before != held

    def clashes(self, definition: Obj, kind: str, name: str) -> bool:
        """Tells whether another definition of the group has this name; `kind` is resource or kind."""
        group = (definition.get("spec") or {}).get("group") or ""
        return bool(self._owners.get((group, kind, name), set()) - {name_of(definition)})


_NAMES = (
    ("plural", "resource", "PluralConflict"),
    ("singular", "resource", "SingularConflict"),
    ("shortNames", "resource", "ShortNamesConflict"),
    ("kind", "kind", "KindConflict"),
    ("listKind", "kind", "ListKindConflict"),
)


def names_status(definition: Obj, taken: TakenNames, now: str) -> Obj:
    """Returns the definition's status with accepted names and conditions brought up to date.

    `now` is an RFC 3339 time for transitions.
    """
    wanted: Obj = (definition.get("spec") or {}).get("names") or {}
    status: Obj = copy_object(definition.get("status") or {})
    before: Obj = status.get("acceptedNames") or {}
    accepted = {key: value for key, value in before.items() if key != "categories"}
    reason = message = ""
    for key, kind, conflict in _NAMES:
        asked, had = wanted.get(key), before.get(key)
        names = asked if isinstance(asked, list) else [asked] if asked else []
        kept = had if isinstance(had, list) else [had]
        clashes = [name for name in names if name not in kept and taken.clashes(definition, kind, name)]
        if clashes:
            said = ", ".join(f'"{name}" is already in use' for name in clashes)
            reason, message = conflict, said if len(clashes) == 1 else f"[{said}]"
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
        else:
            why = "Installing", "the initial names have been accepted"
        conditions = with_condition(conditions, ESTABLISHED, "False", *why, now)
    status["acceptedNames"] = accepted
    status["conditions"] = _with_approval(definition, conditions, now)
    return status


def _with_approval(definition: Obj, conditions: list[Obj], now: str) -> list[Obj]:
    """Says of a definition in one of Kubernetes' own groups whether its API was approved."""
    if not is_protected((definition.get("spec") or {}).get("group") or ""):
        return conditions
    said = annotations_of(definition).get(APPROVED) or ""
    if not said:
        why = "False", "MissingAnnotation", _APPROVAL_MISSING
    elif said.startswith("unapproved"):
        why = "False", "UnapprovedAnnotation", f'not approved: "{said}"'
    else:
        why = "True", "ApprovedAnnotation", f"approved in {said}"
    return with_condition(conditions, APPROVAL, *why, now)


def is_protected(group: str) -> bool:
    """Tells whether a group is one of Kubernetes' own."""
    return any(group == zone or group.endswith(f".{zone}") for zone in ("k8s.io", "kubernetes.io"))


def established_status(status: Obj, now: str) -> Obj:
    """Returns the status of a definition that is served from now on."""
    why = "InitialNamesAccepted", "the initial names have been accepted"
    return {**status, "conditions": with_condition(status.get("conditions") or [], ESTABLISHED, "True", *why, now)}


def terminating_status(status: Obj, now: str, *, done: bool = False) -> Obj:
    """Returns the status of a definition whose objects are being deleted, or (`done`) were."""
    if done:
        why = "False", "InstanceDeletionCompleted", "removed all instances"
    else:
        why = "True", "InstanceDeletionInProgress", "CustomResource deletion is in progress"
    return {**status, "conditions": with_condition(status.get("conditions") or [], TERMINATING, *why, now)}


def is_true(conditions: Iterable[Obj], kind: str) -> bool:
    return any(one.get("type") == kind and one.get("status") == "True" for one in conditions)


def is_established(definition: Obj) -> bool:
    """Tells whether the definition was ever given its names and served."""
    return is_true((definition.get("status") or {}).get("conditions") or [], ESTABLISHED)


def is_served(definition: Obj) -> bool:
    """Tells whether the definition's resources are to be served: a moment before it says that it is established."""
    conditions = (definition.get("status") or {}).get("conditions") or []
    return is_true(conditions, NAMES_ACCEPTED) or is_true(conditions, ESTABLISHED)


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
