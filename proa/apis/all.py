"""The one list of built-in resources, in discovery order, and look-ups in it.

Groups stand in the order of upstream's group priorities; within a group the preferred version comes first, and
within a version resources are sorted by name.
"""

from __future__ import annotations

from collections.abc import Sequence

from proa.apis import (
    admissionregistration,
    apiextensions,
    apiregistration,
    apps,
    authentication,
    authorization,
    autoscaling,
    batch,
    certificates,
    coordination,
    core,
    discovery,
    events,
    flowcontrol,
    networking,
    node,
    policy,
    rbac,
    resource,
    scheduling,
    storage,
)
from proa.apis.registry import ResourceDef
from proa.meta.gvk import GVK, GVR

RESOURCES: tuple[ResourceDef, ...] = (
    *core.RESOURCES,
    *apiregistration.RESOURCES,
    *apps.RESOURCES,
    *events.RESOURCES,
    *authentication.RESOURCES,
    *authorization.RESOURCES,
    *autoscaling.RESOURCES,
    *batch.RESOURCES,
    *certificates.RESOURCES,
    *networking.RESOURCES,
    *policy.RESOURCES,
    *rbac.RESOURCES,
    *storage.RESOURCES,
    *admissionregistration.RESOURCES,
    *apiextensions.RESOURCES,
    *scheduling.RESOURCES,
    *coordination.RESOURCES,
    *node.RESOURCES,
    *discovery.RESOURCES,
    *resource.RESOURCES,
    *flowcontrol.RESOURCES,
)

# Served only where they are asked for.
OPTIONAL: tuple[ResourceDef, ...] = certificates.OPTIONAL

BY_GVR: dict[GVR, ResourceDef] = {one.gvr: one for one in RESOURCES}
BY_GVK: dict[GVK, ResourceDef] = {one.gvk: one for one in RESOURCES}

# The versions of each group, preferred first; groups in discovery order.
GROUP_VERSIONS: dict[str, tuple[str, ...]] = {
    group: tuple(dict.fromkeys(one.version for one in RESOURCES if one.group == group))
    for group in dict.fromkeys(one.group for one in RESOURCES)
}

# Each (group, plural) and (group, kind) in the group's preferred version of it.
_PREFERRED: dict[tuple[str, str], ResourceDef] = {}
_PREFERRED_KINDS: dict[tuple[str, str], ResourceDef] = {}
for _one in RESOURCES:
    _PREFERRED.setdefault((_one.group, _one.plural), _one)
    _PREFERRED_KINDS.setdefault((_one.group, _one.kind), _one)


def preferred(group: str, plural: str) -> ResourceDef | None:
    """Returns the resource in the version that discovery prefers, or None if there is no such resource."""
    return _PREFERRED.get((group, plural))


def preferred_kind(group: str, kind: str) -> ResourceDef | None:
    """Returns the resource of a kind in the version that discovery prefers, or None if there is no such kind."""
    return _PREFERRED_KINDS.get((group, kind))


def served(runtime_config: Sequence[str]) -> tuple[ResourceDef, ...]:
    """Returns the built-in resources, with those that `runtime_config` asks for: `api/all`, `group/version` or
    `group/version/resource`, each perhaps with `=true`. Raises ValueError for what cannot be had."""
    wanted: list[ResourceDef] = []
    for item in runtime_config:
        name, _, value = item.partition("=")
        if value not in ("", "true"):
            raise ValueError(f"--runtime-config {item}: what is served by default cannot be switched off")
        found = [one for one in OPTIONAL if name in ("api/all", one.api_version, f"{one.api_version}/{one.plural}")]
        if not found and not any(name == one.api_version for one in RESOURCES):
            names = ", ".join(f"{one.api_version}/{one.plural}" for one in OPTIONAL)
            raise ValueError(f"--runtime-config {item}: no such API; beside the usual ones there are {names}")
        wanted += [one for one in found if one not in wanted]
    made = list(RESOURCES)
    for one in wanted:
        last = max(index for index, other in enumerate(made) if other.group == one.group)
        made.insert(last + 1, one)
    return tuple(made)
