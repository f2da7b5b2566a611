"""Who owns which field: `metadata.managedFields`, kept for every write.

`track` returns the entries after an update, a patch or a creation; `apply` uses the same parts. The order of work and
the rules are upstream's field manager's: a change takes fields from all other managers, an update never conflicts, at
most ten updaters are kept apart, metadata that the server owns belongs to nobody, and an object without entries stays
so until its first apply (entries can be reset by writing an empty list, or one empty entry).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from proa.meta.objects import Obj
from proa.meta.patch.fieldset import (
    Node,
    difference,
    from_paths,
    intersection,
    parse,
    union,
)
from proa.meta.patch.shape import Shape
from proa.meta.patch.typed import Comparison, compare

APPLY, UPDATE = "Apply", "Update"
UPDATERS_MAX = 10
ANCIENT = "ancient-changes"
BEFORE_FIRST_APPLY = "before-first-apply"

_OWNERLESS = from_paths(
    "apiVersion",
    "kind",
    "metadata",
    "metadata.name",
    "metadata.namespace",
    "metadata.creationTimestamp",
    "metadata.selfLink",
    "metadata.uid",
    "metadata.clusterName",
    "metadata.generation",
    "metadata.managedFields",
    "metadata.resourceVersion",
)


class Writer(NamedTuple):
    """Who writes: appliers are the same in every version, so theirs is empty."""

    manager: str
    operation: str
    api_version: str
    subresource: str


@dataclass(frozen=True, slots=True)
class Entry:
    """What one writer owns, as paths of `api_version`."""

    fields: Node
    api_version: str
    time: str = ""

    def with_fields(self, fields: Node) -> Entry:
        return Entry(fields, self.api_version, self.time)


Managers = dict[Writer, Entry]


class Versions(Protocol):
    """The versions in which a resource is served: entries of other versions are compared in theirs."""

    def shape(self, api_version: str) -> Shape | None:
        """Returns the shape of a version, None if it is not served."""
        ...

    def convert(self, obj: Obj, api_version: str) -> Obj:
        """Returns the object in another served version; leaves its argument alone."""
        ...


class OneVersion:
    """The usual case: the resource is served in one version."""

    def __init__(self, api_version: str, shape: Shape) -> None:
        self._api_version, self._shape = api_version, shape

    def shape(self, api_version: str) -> Shape | None:
        return self._shape if api_version == self._api_version else None

    def convert(self, obj: Obj, api_version: str) -> Obj:
        return obj


def writer(manager: str, operation: str, api_version: str, subresource: str = "") -> Writer:
    return Writer(manager or "unknown", operation, "" if operation == APPLY else api_version, subresource)


# ---------------------------------------------------------------- reading and writing entries


def read(entries: Iterable[Obj] | None, *, trusted: bool = True) -> Managers:
    """Reads entries; raises ValueError if one cannot be understood. Those in a stored object are `trusted` to hold
    well-formed field sets."""
    managers: Managers = {}
    for entry in entries or ():
        operation, api_version = entry.get("operation"), entry.get("apiVersion") or ""
        if operation not in (APPLY, UPDATE):
            raise ValueError("operation must be `Apply` or `Update`")
        if not api_version:
            raise ValueError("apiVersion must not be empty")
        if entry.get("fieldsType") != "FieldsV1":
            raise ValueError("fieldsType must be FieldsV1")
        key = writer(entry.get("manager") or "", operation, api_version, entry.get("subresource") or "")
        fields = entry.get("fieldsV1") or {}
        managers[key] = Entry(fields if trusted else parse(fields), api_version, entry.get("time") or "")
    return managers


def write(managers: Mapping[Writer, Entry]) -> list[Obj]:
    """Writes entries in upstream's order: appliers first, then by time and name."""
    entries: list[Obj] = []
    for key, entry in managers.items():
        written: Obj = {"manager": key.manager, "operation": key.operation, "apiVersion": entry.api_version}
        if entry.time:
            written["time"] = entry.time
        written |= {"fieldsType": "FieldsV1", "fieldsV1": entry.fields}
        if key.subresource:
            written["subresource"] = key.subresource
        entries.append(written)
    if len(entries) > 1:
        entries.sort(key=_order)
    return entries


def _order(entry: Obj) -> tuple[str, ...]:
    get = entry.get
    return entry["operation"], get("time", ""), entry["manager"], entry["apiVersion"], get("subresource", "")


def read_leniently(entries: Iterable[Obj] | None, *, trusted: bool = True) -> Managers:
    """Reads entries; none if one of them cannot be understood."""
    try:
        return read(entries, trusted=trusted)
    except (ValueError, RecursionError):
        return {}


def with_entries(obj: Obj, managers: Mapping[Writer, Entry]) -> Obj:
    """Returns the object with these entries in its metadata, and otherwise itself."""
    meta = {key: value for key, value in (obj.get("metadata") or {}).items() if key != "managedFields"}
    if managers:
        meta["managedFields"] = write(managers)
    return {**obj, "metadata": meta}


def without_entries(obj: Obj) -> Obj:
    """Returns the object as it is compared: without managedFields."""
    meta = obj.get("metadata")
    return with_entries(obj, {}) if meta and "managedFields" in meta else obj


def _is_reset(entries: list[Obj] | None) -> bool:
    return entries is not None and (not entries or entries == [{}])


# ---------------------------------------------------------------- changes


def disown(
    managers: Managers, old: Obj, new: Obj, api_version: str, versions: Versions, ignored: Node, but: Writer | None
) -> tuple[Managers, dict[Writer, Node], Comparison]:
    """Compares two objects and takes what changed from all managers except `but`.

    Returns the managers left, the fields that each lost to a change (conflicts, if the writer applies), and the
    comparison.
    """
    shape = versions.shape(api_version)
    assert shape is not None
    comparisons = {api_version: compare(shape, old, new).without(ignored)}
    conflicts: dict[Writer, Node] = {}
    left: Managers = {}
    for key, entry in managers.items():
        if key == but:
            left[key] = entry
            continue
        changes = comparisons.get(entry.api_version)
        if changes is None:
            other = versions.shape(entry.api_version)
            if other is None:
                continue
            before, after = (versions.convert(one, entry.api_version) for one in (old, new))
            changes = comparisons[entry.api_version] = compare(other, before, after)
        conflict = intersection(entry.fields, changes.changed)
        if conflict:
            conflicts[key] = conflict
        kept = difference(difference(entry.fields, conflict), changes.removed)
        if kept:
            left[key] = entry.with_fields(kept)
    return left, conflicts, comparisons[api_version]


def owned(fields: Node) -> Node:
    """Returns the fields that a manager may own: not those of the server."""
    return difference(fields, _OWNERLESS)


def _updated(
    managers: Managers, old: Obj, new: Obj, key: Writer, api_version: str, versions: Versions, ignored: Node, now: str
) -> Managers:
    """Returns the managers after `key` has turned `old` into `new`."""
    left, _, changes = disown(managers, old, new, api_version, versions, ignored, None)
    gained = owned(changes.changed)
    if gained:
        before = left.get(key)
        left[key] = Entry(union(before.fields, gained) if before else gained, api_version, now)
    return left


def track(
    old: Obj | None,
    new: Obj,
    *,
    empty: Obj,
    manager: str,
    api_version: str,
    versions: Versions,
    now: str,
    subresource: str = "",
    ignored: Node | None = None,
) -> Obj:
    """Returns the new object of an update, patch or creation (`old` is None) with its managedFields.

    `empty` is an object of this kind without content (what Go's zero value looks like). `manager` is the fieldManager
    or the first part of the user agent. `ignored` are the fields that this way of writing resets, such as status.
    """
    given = (new.get("metadata") or {}).get("managedFields")
    before = ((old or {}).get("metadata") or {}).get("managedFields")
    bare = without_entries(new)
    if _is_reset(given) and not subresource:
        managers: Managers = {}
        if old is not None:
            return bare
    elif subresource:
        managers = read_leniently(before)
    else:
        managers = read_leniently(given, trusted=given == before) or read_leniently(before)
    if old is not None and not managers:
        return bare  # nobody tracks this object, and only an apply begins to
    key = writer(manager, UPDATE, api_version, subresource)
    live = without_entries(old) if old is not None else empty
    managers = _updated(managers, live, bare, key, api_version, versions, ignored or {}, now)
    return with_entries(new, _capped(managers))


def adopted(live: Obj, empty: Obj, api_version: str, versions: Versions, now: str) -> Managers:
    """Returns the managers of an object that nobody tracked, at its first apply."""
    key = writer(BEFORE_FIRST_APPLY, UPDATE, api_version)
    return _updated({}, empty, live, key, api_version, versions, {}, now)


def _capped(managers: Managers) -> Managers:
    """Joins the oldest updaters of each version while there are too many."""
    if len(managers) <= UPDATERS_MAX:
        return managers
    updaters = sorted((key for key in managers if key.operation == UPDATE), key=lambda key: (managers[key].time, key))
    surplus = len(updaters) - UPDATERS_MAX
    if surplus <= 0:
        return managers
    managers = dict(managers)
    first: dict[str, Writer] = {}
    for key in updaters:
        if surplus <= 0:
            break
        entry = managers[key]
        if entry.api_version not in first:
            first[entry.api_version] = key
            continue
        bucket = writer(ANCIENT, UPDATE, entry.api_version)
        if bucket not in managers:
            managers[bucket] = managers.pop(first[entry.api_version])
        fields = union(entry.fields, managers[bucket].fields)
        managers[bucket] = Entry(fields, entry.api_version, entry.time)
        if key != bucket:
            del managers[key]
        surplus -= 1
    return managers
