"""Server-side apply: a manager states the fields that it wants, all of them, and gets them or a conflict.

Fields that it stated before and states no more are removed unless another applier states them. The merge, the removal
and the conflicts follow upstream's structured-merge-diff; the messages its field manager. `kubectl` may take over
fields that its own client-side apply set, as told by the last-applied annotation.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from proa.meta.codec.json import encode
from proa.meta.errors import StatusError, bad_request
from proa.meta.gvk import split_api_version
from proa.meta.objects import Obj
from proa.meta.patch.fieldset import Node, difference, intersection, paths, recursive_difference, union
from proa.meta.patch.managed import (
    APPLY,
    UPDATE,
    Entry,
    Managers,
    Versions,
    Writer,
    adopted,
    disown,
    owned,
    read,
    with_entries,
    without_entries,
    writer,
)
from proa.meta.patch.shape import Shape
from proa.meta.patch.typed import Untyped, check, field_set, merge, remove, with_named_fields

LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


def apply(
    live: Obj | None,
    patch: Any,
    *,
    empty: Obj,
    manager: str,
    kind: str,
    api_version: str,
    versions: Versions,
    now: str,
    force: bool = False,
    subresource: str = "",
    ignored: Node | None = None,
) -> Obj:
    """Returns the object after an apply, with its managedFields; it still wants decoding and defaults.

    `live` is the stored object in `api_version`, None if there is none; `empty` one without content. `ignored` are
    fields that this way of writing resets. Raises StatusError: 400 for what is no apply of this kind, 500 for fields
    that do not fit the schema, 409 for conflicts.
    """
    _check_patch(patch, kind, api_version)
    shape = versions.shape(api_version)
    assert shape is not None
    try:
        check(shape, patch)
    except Untyped as problem:
        raise StatusError(500, "", f"failed to create typed patch object ({_identity(patch)}): {problem}") from None
    start = without_entries(live) if live is not None else empty
    try:
        managers = read((live or {}).get("metadata", {}).get("managedFields"))
    except ValueError as problem:
        raise StatusError(500, "", f"failed to decode managed fields: {problem}") from None
    if not managers:
        managers = adopted(start, empty, api_version, versions, now)
    key = writer(manager, APPLY, api_version, subresource)
    work = _Apply(shape, key, api_version, versions, ignored or {})
    new, managers, conflicts = work.run(start, patch, managers)
    if conflicts and not force:
        allowed = _client_side_applied(start, shape) if manager == "kubectl" else {}
        conflicts = {one: left for one, fields in conflicts.items() if (left := difference(fields, allowed))}
        if conflicts:
            raise _conflict(conflicts)
    if new != start and key in managers:
        managers[key] = Entry(managers[key].fields, managers[key].api_version, now)
    if manager == "kubectl" and LAST_APPLIED in (start.get("metadata", {}).get("annotations") or {}):
        new = _remember_applied(new, patch)
    return with_entries(new, managers)


def _check_patch(patch: Any, kind: str, api_version: str) -> None:
    if patch is not None and not isinstance(patch, dict):
        found = "array" if isinstance(patch, list) else "string" if isinstance(patch, str) else "number"
        prefix = "error decoding YAML: error unmarshaling JSON: while decoding JSON: json: cannot unmarshal"
        raise bad_request(f"{prefix} {found} into Go value of type map[string]interface {{}}")
    stated = patch or {}
    if (stated.get("apiVersion"), stated.get("kind")) != (api_version, kind):
        raise bad_request(f"invalid object type: {_kind_text(stated)}")
    meta = stated.get("metadata")
    if isinstance(meta, dict) and meta.get("managedFields") is not None:
        raise bad_request("metadata.managedFields must be nil")


def _kind_text(patch: Obj) -> str:
    try:
        group, version = split_api_version(str(patch.get("apiVersion") or ""))
    except ValueError:
        group, version = "", str(patch.get("apiVersion"))
    return f"{group}/{version}, Kind={patch.get('kind') or ''}"


def _identity(patch: Obj) -> str:
    meta = patch.get("metadata")
    meta = meta if isinstance(meta, dict) else {}
    return f"{meta.get('namespace') or ''}/{meta.get('name') or ''}; {_kind_text(patch)}"


class _Apply:
    """One apply in one version."""

    def __init__(self, shape: Shape, key: Writer, api_version: str, versions: Versions, ignored: Node) -> None:
        self._shape, self._key, self._api_version = shape, key, api_version
        self._versions, self._ignored = versions, ignored

    def run(self, live: Obj, config: Obj, managers: Managers) -> tuple[Obj, Managers, dict[Writer, Node]]:
        """Returns the new object, the managers, and what others would lose."""
        merged = merge(self._shape, live, config)
        last = managers.get(self._key)
        stated = recursive_difference(field_set(self._shape, config), self._ignored)
        managers = {**managers, self._key: Entry(stated, self._api_version, last.time if last else "")}
        new = self._prune(merged, managers, last)
        left, conflicts, _ = disown(managers, live, new, self._api_version, self._versions, self._ignored, self._key)
        mine = owned(left[self._key].fields)
        if mine:
            left[self._key] = left[self._key].with_fields(mine)
        else:
            del left[self._key]
        return new, left, conflicts

    def _prune(self, merged: Obj, managers: Managers, last: Entry | None) -> Obj:
        """Removes what the manager stated last time, gives back what appliers state now, and what nobody stated."""
        shape = self._versions.shape(last.api_version) if last and last.fields else None
        if last is None or shape is None:
            return merged
        merged = self._versions.convert(merged, last.api_version)
        dropped = with_named_fields(shape, last.fields)
        pruned = remove(shape, merged, dropped) or {}
        stated: dict[str, Node] = {}
        for key, entry in managers.items():
            if key.operation == APPLY:
                stated[entry.api_version] = union(stated.get(entry.api_version, {}), entry.fields)
        for version in sorted(stated, key=lambda one: one != last.api_version):
            merged, pruned = self._give_back(merged, pruned, version, stated[version])
        merged, pruned = (self._versions.convert(one, last.api_version) for one in (merged, pruned))
        present, kept = (with_named_fields(shape, field_set(shape, one)) for one in (merged, pruned))
        result = remove(shape, merged, intersection(difference(present, kept), dropped)) or {}
        return self._versions.convert(result, self._api_version)

    def _give_back(self, merged: Obj, pruned: Obj, version: str, stated: Node) -> tuple[Obj, Obj]:
        shape = self._versions.shape(version)
        if shape is None:
            return merged, pruned
        merged, pruned = (self._versions.convert(one, version) for one in (merged, pruned))
        present, kept = (with_named_fields(shape, field_set(shape, one)) for one in (merged, pruned))
        surplus = difference(present, union(kept, with_named_fields(shape, stated)))
        return merged, remove(shape, merged, surplus) or {}


# ---------------------------------------------------------------- conflicts


def _conflict(conflicts: Mapping[Writer, Node]) -> StatusError:
    """Returns the 409 that names each field and its owner."""
    found = sorted((_writer_text(key), path) for key, fields in conflicts.items() for path in paths(fields))
    causes = [
        {"reason": "FieldManagerConflict", "message": f"conflict with {owner}", "field": path} for owner, path in found
    ]
    if len(found) == 1:
        text = f"Apply failed with 1 conflict: conflict with {found[0][0]}: {found[0][1]}"
    else:
        by_owner: dict[str, list[str]] = {}
        for owner, path in found:
            by_owner.setdefault(owner, []).append(f"- {path}")
        parts = [f"conflicts with {owner}:\n" + "\n".join(lines) for owner, lines in by_owner.items()]
        text = f"Apply failed with {len(found)} conflicts: " + "\n".join(parts)
    return StatusError(409, "Conflict", text, {"causes": causes})


def _writer_text(key: Writer) -> str:
    text = encode(key.manager).decode()
    if key.subresource:
        text += f' with subresource "{key.subresource}"'
    return f"{text} using {key.api_version}" if key.operation == UPDATE else text


# ---------------------------------------------------------------- kubectl's client-side apply


def _client_side_applied(live: Obj, shape: Shape) -> Node:
    """Returns the fields that kubectl's last client-side apply stated and that still have its values."""
    text = (live.get("metadata", {}).get("annotations") or {}).get(LAST_APPLIED)
    try:
        config = json.loads(text) if text else None
        if not isinstance(config, dict):
            return {}
        check(shape, config)
    except (ValueError, RecursionError):
        return {}
    return field_set(shape, config)


def _remember_applied(obj: Obj, patch: Obj) -> Obj:
    """Returns the object with its last-applied annotation brought up to date, so that both ways of applying agree."""
    meta = dict(patch.get("metadata") or {})
    annotations = {key: value for key, value in (meta.get("annotations") or {}).items() if key != LAST_APPLIED}
    if "annotations" in meta:
        meta["annotations"] = annotations
    config = {**patch, "metadata": meta}
    text = json.dumps(config, separators=(",", ":"), sort_keys=True, ensure_ascii=False) + "\n"
    new_meta = obj.get("metadata") or {}
    changed = {**(new_meta.get("annotations") or {}), LAST_APPLIED: text}
    return {**obj, "metadata": {**new_meta, "annotations": changed}}
