"""Discovery documents, built from resource definitions: what `/api`, `/apis` and below answer.

Two forms exist: the plain one (APIVersions, APIGroupList, APIGroup, APIResourceList) and the aggregated one
(APIGroupDiscoveryList of apidiscovery.k8s.io/v2, the only version that v1.36 serves). Which resources exist is an
argument, so that custom resources and aggregated servers appear like built-in ones. Serving, ETags and negotiation
are the API server's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from proa.apis.registry import ResourceDef
from proa.meta.gvk import GVK
from proa.meta.objects import Obj

# Upstream's priorities of built-in groups: higher ones come first in discovery. They also stand in the APIServices.
GROUP_PRIORITIES = {
    "": 18000,
    "apiregistration.k8s.io": 18000,
    "apps": 17800,
    "events.k8s.io": 17750,
    "authentication.k8s.io": 17700,
    "authorization.k8s.io": 17600,
    "autoscaling": 17500,
    "batch": 17400,
    "certificates.k8s.io": 17300,
    "networking.k8s.io": 17200,
    "policy": 17100,
    "rbac.authorization.k8s.io": 17000,
    "storage.k8s.io": 16800,
    "admissionregistration.k8s.io": 16700,
    "apiextensions.k8s.io": 16700,
    "scheduling.k8s.io": 16600,
    "coordination.k8s.io": 16500,
    "node.k8s.io": 16300,
    "discovery.k8s.io": 16200,
    "resource.k8s.io": 16200,
    "flowcontrol.apiserver.k8s.io": 16100,
}
CUSTOM_GROUP_PRIORITY = 1000
CUSTOM_VERSION_PRIORITY = 100
_VERSION_PRIORITIES = {
    ("", "v1"): 1,
    ("autoscaling", "v2"): 30,
    ("flowcontrol.apiserver.k8s.io", "v1"): 21,
    ("resource.k8s.io", "v1"): 21,
}


def version_priority(group: str, version: str) -> int:
    """Returns the priority of a built-in version within its group, as its APIService shows it."""
    return _VERSION_PRIORITIES.get((group, version), 15)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedVersion:
    """One version of one group: with the resources it serves, or, for an aggregated server, that server's own
    APIVersionDiscovery in `remote` (None as long as the server has never answered), which is `stale` if the server
    does not answer now."""

    group: str
    version: str
    group_priority: int = CUSTOM_GROUP_PRIORITY
    version_priority: int = CUSTOM_VERSION_PRIORITY
    resources: tuple[ResourceDef, ...] = ()
    aggregated: bool = False
    remote: Obj | None = None
    stale: bool = False

    @property
    def group_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version


_KUBE_VERSION = re.compile(r"v([1-9][0-9]*)(?:(alpha|beta)([1-9][0-9]*))?")
_STAGES = {None: 0, "beta": 1, "alpha": 2}


def version_sort_key(version: str) -> tuple[int, int, int, str]:
    """Sorts versions as upstream does, the most stable and newest first: v2, v1, v1beta2, v1alpha1, then the others."""
    match = _KUBE_VERSION.fullmatch(version)
    if not match:
        return (3, 0, 0, version)
    major, stage, minor = match.groups()
    return (_STAGES[stage], -int(major), -int(minor or 0), "")


def _default_priorities(group: str, version: str) -> tuple[int, int]:
    if group in GROUP_PRIORITIES:
        return GROUP_PRIORITIES[group], version_priority(group, version)
    return CUSTOM_GROUP_PRIORITY, CUSTOM_VERSION_PRIORITY


def served_versions(
    resources: Iterable[ResourceDef],
    aggregated: Iterable[ServedVersion] = (),
    priorities: Mapping[tuple[str, str], tuple[int, int]] | None = None,
) -> list[ServedVersion]:
    """Groups resources (built-in and custom) by version and sorts them with the aggregated ones, as discovery does.

    Within a version the resources keep the order in which they are given. An aggregated version hides one of our own.
    `priorities` are the group's and the version's by group and version, where they differ from upstream's.
    """
    made = list(aggregated)
    hidden = {(one.group, one.version) for one in made}
    grouped: dict[tuple[str, str], list[ResourceDef]] = {}
    for one in resources:
        if (one.group, one.version) not in hidden:
            grouped.setdefault((one.group, one.version), []).append(one)
    for (group, version), defs in grouped.items():
        group_priority, priority = (priorities or {}).get((group, version)) or _default_priorities(group, version)
        made.append(
            ServedVersion(
                group=group,
                version=version,
                group_priority=group_priority,
                version_priority=priority,
                resources=tuple(defs),
            )
        )
    highest: dict[str, int] = {}
    for served in made:
        highest[served.group] = max(highest.get(served.group, 0), served.group_priority)
    return sorted(
        made,
        key=lambda one: (-highest[one.group], one.group, -one.version_priority, version_sort_key(one.version)),
    )


def _by_group(served: Sequence[ServedVersion]) -> dict[str, list[ServedVersion]]:
    groups: dict[str, list[ServedVersion]] = {}
    for one in served:
        if one.group:
            groups.setdefault(one.group, []).append(one)
    return groups


# ---------------------------------------------------------------- plain form


def api_versions(served: Sequence[ServedVersion], address: str) -> Obj:
    """`/api`: the versions of the core group; `address` is the server's host and port, as clients reach it."""
    return {
        "kind": "APIVersions",
        "versions": [one.version for one in served if not one.group],
        "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": address}],
    }


def _group(name: str, versions: Sequence[ServedVersion]) -> Obj:
    shown = [{"groupVersion": one.group_version, "version": one.version} for one in versions]
    return {"name": name, "versions": shown, "preferredVersion": dict(shown[0])}


def api_group_list(served: Sequence[ServedVersion]) -> Obj:
    """`/apis`: all groups but the core one."""
    groups = [_group(name, versions) for name, versions in _by_group(served).items()]
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}


def api_group(served: Sequence[ServedVersion], group: str) -> Obj | None:
    """`/apis/G`; None if nothing serves the group."""
    versions = _by_group(served).get(group)
    return {"kind": "APIGroup", "apiVersion": "v1", **_group(group, versions)} if versions else None


def api_resource_list(version: ServedVersion) -> Obj:
    """`/api/v1` or `/apis/G/V`: the resources and subresources of a version that this server serves itself."""
    resources = [entry for one in version.resources for entry in _resource_entries(one)]
    head: Obj = {"kind": "APIResourceList"}
    if version.group:  # upstream leaves apiVersion out for the core group
        head["apiVersion"] = "v1"
    return {**head, "groupVersion": version.group_version, "resources": resources}


def _resource_entries(one: ResourceDef) -> list[Obj]:
    entry: Obj = {
        "name": one.plural,
        "singularName": one.singular,
        "namespaced": one.namespaced,
        "kind": one.kind,
        "verbs": list(one.verbs),
    }
    if one.short_names:
        entry["shortNames"] = list(one.short_names)
    if one.categories:
        entry["categories"] = list(one.categories)
    if one.storage_version_hash:
        entry["storageVersionHash"] = one.storage_version_hash
    entries = [entry]
    for sub in one.subresources:
        shown: Obj = {"name": f"{one.plural}/{sub.name}", "singularName": "", "namespaced": one.namespaced}
        if (sub.kind.group, sub.kind.version) != (one.group, one.version):
            shown |= {"group": sub.kind.group, "version": sub.kind.version}
        entries.append({**shown, "kind": sub.kind.kind, "verbs": list(sub.verbs)})
    return entries


# ---------------------------------------------------------------- aggregated form


def aggregated_discovery(served: Sequence[ServedVersion], *, core: bool) -> Obj:
    """The APIGroupDiscoveryList (v2) of `/api` (`core`) or `/apis`."""
    groups = {"": [one for one in served if not one.group]} if core else _by_group(served)
    items = [
        {"metadata": {"name": name} if name else {}, "versions": [_version_discovery(one) for one in versions]}
        for name, versions in groups.items()
    ]
    return {"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items}


def _version_discovery(one: ServedVersion) -> Obj:
    if one.aggregated:
        known = one.remote or {"version": one.version}
        return {**known, "freshness": "Stale" if one.stale or one.remote is None else "Current"}
    shown: Obj = {"version": one.version}
    if one.resources:
        shown["resources"] = [_resource_discovery(resource) for resource in one.resources]
    return {**shown, "freshness": "Current"}


def _resource_discovery(one: ResourceDef) -> Obj:
    entry: Obj = {
        "resource": one.plural,
        "responseKind": _response_kind(one.gvk, one),
        "scope": "Namespaced" if one.namespaced else "Cluster",
        "singularResource": one.singular,
        "verbs": list(one.verbs),
    }
    if one.short_names:
        entry["shortNames"] = list(one.short_names)
    if one.categories:
        entry["categories"] = list(one.categories)
    if one.subresources:
        entry["subresources"] = [
            {"subresource": sub.name, "responseKind": _response_kind(sub.kind, one), "verbs": list(sub.verbs)}
            for sub in one.subresources
        ]
    return entry


def _response_kind(kind: GVK, one: ResourceDef) -> Obj:
    # A kind of the version at hand is shown with empty group and version.
    same = (kind.group, kind.version) == (one.group, one.version)
    return {"group": "" if same else kind.group, "version": "" if same else kind.version, "kind": kind.kind}
