"""ControllerRevisions: the templates that a DaemonSet or StatefulSet has had (pure). Upstream's history utilities.

`data` holds a strategic merge patch that brings the template back, as `kubectl rollout undo` expects.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from proa.controllers.pods import owner_reference
from proa.meta.gvk import GVK
from proa.meta.objects import Obj, annotations_of, copy_object, metadata, name_of, namespace_of

HASH_LABEL = "controller-revision-hash"
_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
_NAME_LENGTH_MAX = 253


def data_of(owner: Obj) -> Obj:
    """Returns what a revision of the owner's current template records.

    Clients compare it byte by byte with what they make of the template themselves: keys are sorted, as Go sorts them.
    """
    return {"spec": {"template": _sorted({**owner["spec"]["template"], "$patch": "replace"})}}


def _sorted(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _sorted(value[key]) for key in sorted(value) if value[key] is not None}
    return [_sorted(item) for item in value] if isinstance(value, list) else value


def safe_hash(value: Any, collisions: int | None) -> str:
    """Returns a label-safe FNV-1a hash of JSON data; another one for each number of collisions."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":")) + (f"/{collisions}" if collisions else "")
    state = 0x811C9DC5
    for byte in text.encode():
        state = ((state ^ byte) * 0x01000193) & 0xFFFFFFFF
    return "".join(_ALPHABET[ord(digit) % len(_ALPHABET)] for digit in str(state))


def same(one: Obj, data: Obj) -> bool:
    return bool(_clean(one.get("data")) == _clean(data))


def _clean(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _clean(item) for key, item in value.items() if item is not None and item != {}}
    return [_clean(item) for item in value] if isinstance(value, list) else value


def template_of(revision: Obj) -> Obj:
    """Returns the template that a revision records."""
    template = copy_object(revision["data"]["spec"]["template"])
    template.pop("$patch", None)
    return template  # type: ignore[no-any-return]


def number(revision: Obj) -> int:
    return int(revision.get("revision") or 0)


def ordered(revisions: Sequence[Obj]) -> list[Obj]:
    """Returns revisions from oldest to newest."""
    return sorted(revisions, key=lambda one: (number(one), metadata(one).get("creationTimestamp") or "", name_of(one)))


def make(owner: Obj, kind: GVK, labels: Mapping[str, str], revision: int, collisions: int | None) -> Obj:
    """Returns the revision of the owner's current template."""
    data = data_of(owner)
    hashed = safe_hash(_clean(data), collisions)
    base = name_of(owner)[: _NAME_LENGTH_MAX - len(hashed) - 1]
    return {
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": {
            "name": f"{base}-{hashed}",
            "namespace": namespace_of(owner),
            "labels": {**labels, HASH_LABEL: hashed},
            "annotations": dict(annotations_of(owner)),
            "ownerReferences": [owner_reference(owner, kind)],
        },
        "data": data,
        "revision": revision,
    }
