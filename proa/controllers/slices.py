"""Fits endpoints into EndpointSlices with few writes (pure). Follows upstream's endpointslice reconciler.

Endpoints stay in the slice they are in; what is new fills slices that change anyway, then one with room, then new
slices. A service without endpoints keeps one empty slice, so that clients can tell "none" from "not known yet".
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from proa.meta.objects import Obj, annotations_of, is_deleted, labels_of, metadata

ENDPOINTS_MAX = 100


@dataclass(frozen=True, slots=True)
class Group:
    """Endpoints that share an address type and ports, and so may share slices."""

    address_type: str
    ports: tuple[Obj, ...]
    endpoints: tuple[Obj, ...]

    @property
    def key(self) -> str:
        return group_key(self.address_type, self.ports)


@dataclass(frozen=True, slots=True)
class Plan:
    """Slices to create, update (whole objects) and delete."""

    create: tuple[Obj, ...] = ()
    update: tuple[Obj, ...] = ()
    delete: tuple[Obj, ...] = ()


@dataclass(slots=True)
class _Draft:
    slice: Obj
    endpoints: list[Obj]
    changed: bool
    group: Group | None = field(default=None)


def group_key(address_type: str, ports: Sequence[Obj] | None) -> str:
    listed = sorted(
        (port.get("name") or "", port.get("protocol") or "TCP", port.get("port") or 0, port.get("appProtocol") or "")
        for port in ports or ()
    )
    return f"{address_type}{listed}"


def endpoint_key(endpoint: Obj) -> str:
    """Returns what makes an endpoint the same one when its conditions change."""
    target = endpoint.get("targetRef") or {}
    return target.get("uid") or json.dumps([target.get("name"), endpoint.get("addresses")])


def plan(
    groups: Sequence[Group],
    slices: Sequence[Obj],
    meta: Obj,
    *,
    placeholder: str = "IPv4",
    size_max: int = ENDPOINTS_MAX,
) -> Plan:
    """`meta` is what every slice must have: `labels`, `annotations` and, for new ones, the rest of metadata.

    `placeholder`: the address type of the empty slice that remains when there are no endpoints; empty: none remains.
    """
    wanted = {group.key: group for group in groups if group.endpoints}
    drafts: dict[str, list[_Draft]] = {}
    delete: list[Obj] = []
    for one in slices:
        if is_deleted(one):
            continue
        key = group_key(one["addressType"], one.get("ports"))
        drafts.setdefault(key, []).append(_Draft(one, list(one.get("endpoints") or []), False))
    create: list[Obj] = []
    for key, group in wanted.items():
        create += _fill(group, drafts.setdefault(key, []), meta, size_max)
    for key, listed in drafts.items():
        if key not in wanted:
            for draft in listed:
                draft.changed, draft.endpoints = bool(draft.endpoints), []
    remaining = [draft for listed in drafts.values() for draft in listed]
    empty = [draft for draft in remaining if not draft.endpoints]
    if len(empty) == len(remaining) and not create and placeholder:
        kept = next((draft for draft in empty if draft.slice["addressType"] == placeholder), None)
        if kept is None:
            create.append(_new(Group(placeholder, (), ()), [], meta))
        else:
            empty.remove(kept)
            kept.changed = kept.changed or bool(kept.slice.get("ports"))
            kept.group = Group(placeholder, (), ())
    delete += [draft.slice for draft in empty]
    update = [
        _updated(draft, meta) for draft in remaining if draft not in empty and (draft.changed or _stale(draft, meta))
    ]
    return Plan(tuple(create), tuple(update), tuple(delete))


def _fill(group: Group, drafts: list[_Draft], meta: Obj, size_max: int) -> list[Obj]:
    """Puts the group's endpoints into its slices; returns the new slices that it needs besides."""
    missing = {endpoint_key(endpoint): endpoint for endpoint in group.endpoints}
    for draft in drafts:
        kept = []
        for endpoint in draft.endpoints:
            current = missing.pop(endpoint_key(endpoint), None)
            if current is not None:
                kept.append(current)
        draft.changed = kept != draft.endpoints
        draft.endpoints = kept
    waiting = list(missing.values())

    def add(draft: _Draft) -> None:
        room = size_max - len(draft.endpoints)
        if room > 0 and waiting:
            draft.endpoints += waiting[:room]
            del waiting[:room]
            draft.changed = True

    for draft in drafts:
        if draft.changed:
            add(draft)
    # One more slice is written for the rest if it takes all of it; the fullest of those.
    fitting = [one for one in drafts if not one.changed and size_max - len(one.endpoints) >= len(waiting) % size_max]
    if len(waiting) % size_max and fitting:
        rest = len(waiting) % size_max
        chosen = max(fitting, key=lambda one: len(one.endpoints))
        chosen.endpoints += waiting[-rest:]
        del waiting[-rest:]
        chosen.changed = True
    return [_new(group, waiting[at : at + size_max], meta) for at in range(0, len(waiting), size_max)]


def _new(group: Group, endpoints: Sequence[Obj], meta: Obj) -> Obj:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {key: value for key, value in meta.items() if value},
        "addressType": group.address_type,
        "endpoints": list(endpoints) or None,
        "ports": list(group.ports) or None,
    }


def _stale(draft: _Draft, meta: Obj) -> bool:
    return labels_of(draft.slice) != meta["labels"] or not _includes(
        annotations_of(draft.slice), meta.get("annotations") or {}
    )


def _includes(have: Mapping[str, str], want: Mapping[str, str]) -> bool:
    return want.items() <= have.items()


def _updated(draft: _Draft, meta: Obj) -> Obj:
    changed: dict[str, Any] = {**metadata(draft.slice), "labels": meta["labels"]}
    if meta.get("annotations"):
        changed["annotations"] = {**annotations_of(draft.slice), **meta["annotations"]}
    result = {**draft.slice, "metadata": changed, "endpoints": draft.endpoints or None}
    if draft.group is not None:
        result["ports"] = None
    return result
