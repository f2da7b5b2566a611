"""The plugins by name, made from the arguments of a configuration file (`pluginConfig`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from proa.apis.podspec.scheduling import affinity
from proa.meta.objects import Obj
from proa.scheduler.durations import seconds_of
from proa.scheduler.framework import Plugin
from proa.scheduler.plugins.affinity import InterPodAffinity
from proa.scheduler.plugins.devices import DynamicResources
from proa.scheduler.plugins.nodes import (
    ImageLocality,
    NodeAffinity,
    NodeDeclaredFeatures,
    NodeName,
    NodePorts,
    NodeUnschedulable,
    SchedulingGates,
    TaintToleration,
)
from proa.scheduler.plugins.resources import (
    DEFAULT_RESOURCES,
    NodeResourcesBalancedAllocation,
    NodeResourcesFit,
    resource_weights,
)
from proa.scheduler.plugins.spread import PodTopologySpread
from proa.scheduler.plugins.volume_checks import NodeVolumeLimits, VolumeRestrictions, VolumeZone
from proa.scheduler.plugins.volumes import VolumeBinding
from proa.scheduler.pod import SYSTEM_SPREADS

Factory = Callable[..., Plugin]

STRATEGIES = ("LeastAllocated", "MostAllocated", "RequestedToCapacityRatio")


class ArgumentError(Exception):
    """A plugin's arguments are not valid; the text names the field."""


def _fit(
    ignoredResources: Sequence[str] = (),
    ignoredResourceGroups: Sequence[str] = (),
    scoringStrategy: Obj | None = None,
) -> Plugin:
    strategy = scoringStrategy or {}
    kind = strategy.get("type") or "LeastAllocated"
    if kind not in STRATEGIES:
        supported = ", ".join(f'"{one}"' for one in STRATEGIES)
        raise ArgumentError(f'scoringStrategy.type: Unsupported value: "{kind}": supported values: {supported}')
    for group in ignoredResourceGroups:
        if "/" in group:
            raise ArgumentError(
                f"ignoredResourceGroups: Invalid value: \"{group}\": resource group name can't contain '/'"
            )
    resources = strategy.get("resources") or ()
    for index, one in enumerate(resources):
        weight = one.get("weight") or 1
        if not 0 < weight <= 100:
            text = f"resource weight of {one.get('name') or ''} not in valid range (0, 100]"
            raise ArgumentError(f"scoringStrategy.resources[{index}].weight: Invalid value: {weight}: {text}")
    ratio = strategy.get("requestedToCapacityRatio")
    where = "scoringStrategy.requestedToCapacityRatio"
    shape = [(one.get("utilization") or 0, one.get("score") or 0) for one in (ratio or {}).get("shape") or ()]
    if kind == "RequestedToCapacityRatio":
        if ratio is None:
            raise ArgumentError(f"{where}: Required value: must be specified when type is RequestedToCapacityRatio")
        _check_shape(shape)
    elif ratio is not None:
        raise ArgumentError(f"{where}: Forbidden: must be nil when type is not RequestedToCapacityRatio")
    return NodeResourcesFit(
        kind, resource_weights(resources) or DEFAULT_RESOURCES, shape, ignoredResources, ignoredResourceGroups
    )


def _check_shape(shape: Sequence[tuple[int, int]]) -> None:
    path = "scoringStrategy.requestedToCapacityRatio.shape"
    if not shape:
        raise ArgumentError(f"{path}: Required value: at least one point must be specified")
    for index in range(1, len(shape)):
        if shape[index - 1][0] >= shape[index][0]:
            where = f"{path}[{index}].utilization: Invalid value: {shape[index][0]}"
            raise ArgumentError(f"{where}: values must be sorted in increasing order")
    for index, (utilization, score) in enumerate(shape):
        if not 0 <= utilization <= 100:
            where = f"{path}[{index}].utilization: Invalid value: {utilization}"
            raise ArgumentError(f"{where}: not in valid range [0, 100]")
        if not 0 <= score <= 10:
            raise ArgumentError(f"{path}[{index}].score: Invalid value: {score}: not in valid range [0, 10]")


def _balanced(resources: Sequence[Obj] = ()) -> Plugin:
    return NodeResourcesBalancedAllocation(resource_weights(resources) or DEFAULT_RESOURCES)


def _node_affinity(addedAffinity: Obj | None = None) -> Plugin:
    return NodeAffinity(addedAffinity)


def _inter_pod(hardPodAffinityWeight: int = 1, ignorePreferredTermsOfExistingPods: bool = False) -> Plugin:
    return InterPodAffinity(hardPodAffinityWeight, ignorePreferredTermsOfExistingPods)


def _spread(defaultConstraints: Sequence[Obj] = (), defaultingType: str = "") -> Plugin:
    if (defaultingType or ("List" if defaultConstraints else "System")) == "System":
        return PodTopologySpread(SYSTEM_SPREADS, system=True)
    return PodTopologySpread(defaultConstraints, system=False)


def _volume_binding(bindTimeoutSeconds: int = 600) -> Plugin:
    return VolumeBinding(float(bindTimeoutSeconds))


def _devices(filterTimeout: Any = None, bindingTimeout: Any = None) -> Plugin:
    seconds = seconds_of(bindingTimeout) if bindingTimeout is not None else None
    return DynamicResources() if seconds is None else DynamicResources(seconds)


# ---------------------------------------------------------------- what is wrong with arguments


def validate(name: str, arguments: Obj) -> None:
    """Raises ArgumentError for arguments of a default plugin that upstream refuses before it makes plugins."""
    rule = _RULES.get(name)
    if rule is not None:
        rule(arguments)


def _range(arguments: Obj, key: str, low: int, high: float, text: str) -> None:
    value = arguments.get(key)
    if value is not None and not low <= value <= high:
        raise ArgumentError(f"{key}: Invalid value: {value}: {text}")


def _check_preemption(arguments: Obj) -> None:
    percentage, absolute = "minCandidateNodesPercentage", "minCandidateNodesAbsolute"
    _range(arguments, percentage, 0, 100, "not in valid range [0, 100]")
    _range(arguments, absolute, 0, float("inf"), "not in valid range [0, inf)")
    if arguments.get(percentage) == 0 == arguments.get(absolute):
        raise ArgumentError(f"{percentage}: Invalid value: 0: cannot be zero at the same time as {absolute}")


def _check_balanced(arguments: Obj) -> None:
    seen: set[str] = set()
    for index, one in enumerate(arguments.get("resources") or ()):
        name, weight = one.get("name") or "", one.get("weight") or 1
        if name in seen:
            raise ArgumentError(f'resources[{index}].name: Duplicate value: "{name}"')
        seen.add(name)
        if weight != 1:
            raise ArgumentError(f"resources[{index}].weight: Invalid value: {weight}: must be 1")


def _check_spread(arguments: Obj) -> None:
    constraints = arguments.get("defaultConstraints") or ()
    kind = arguments.get("defaultingType") or ("List" if constraints else "System")
    if kind not in ("System", "List"):
        raise ArgumentError(f'defaultingType: Unsupported value: "{kind}": supported values: "System", "List"')
    if kind == "System" and constraints:
        raise ArgumentError('defaultingType: Invalid value: "System": when .defaultConstraints are not empty')
    seen: set[tuple[str, str]] = set()
    for index, one in enumerate(constraints):
        where = f"defaultConstraints[{index}]"
        skew, key, when = one.get("maxSkew") or 0, one.get("topologyKey") or "", one.get("whenUnsatisfiable") or ""
        if not isinstance(skew, int) or skew <= 0:
            raise ArgumentError(f"{where}.maxSkew: Invalid value: {skew}: not in valid range (0, inf)")
        if not key:
            raise ArgumentError(f"{where}.topologyKey: Required value: can not be empty")
        if not when:
            raise ArgumentError(f"{where}.whenUnsatisfiable: Required value: can not be empty")
        if when not in ("DoNotSchedule", "ScheduleAnyway"):
            supported = 'supported values: "DoNotSchedule", "ScheduleAnyway"'
            raise ArgumentError(f'{where}.whenUnsatisfiable: Unsupported value: "{when}": {supported}')
        if one.get("labelSelector") is not None:
            text = "constraint must not define a selector, as they deduced for each pod"
            raise ArgumentError(f"{where}.labelSelector: Forbidden: {text}")
        if (key, when) in seen:
            raise ArgumentError(f'{where}: Duplicate value: "{{{key}, {when}}}"')
        seen.add((key, when))


def _check_node_affinity(arguments: Obj) -> None:
    errors = affinity({"nodeAffinity": arguments.get("addedAffinity") or {}}, "")
    if errors:
        path = errors[0].path.removeprefix(".nodeAffinity.")
        raise ArgumentError(f"addedAffinity.{path}: {errors[0].message}")


def _check_volumes(arguments: Obj) -> None:
    text = "invalid BindTimeoutSeconds, should not be a negative value"
    _range(arguments, "bindTimeoutSeconds", 0, float("inf"), text)
    if arguments.get("shape") is not None:
        text = "unexpected field `shape`, remove it or turn on the feature gate StorageCapacityScoring"
        raise ArgumentError(f"shape: Invalid value: {text}")


def _check_devices(arguments: Obj) -> None:
    binding = arguments.get("bindingTimeout")
    if binding is not None and (seconds_of(binding) or 0) < 1:
        raise ArgumentError(f'bindingTimeout: Invalid value: "{binding}": must be at least 1 second')


_RULES: dict[str, Callable[[Obj], None]] = {
    "DefaultPreemption": _check_preemption,
    "DynamicResources": _check_devices,
    "InterPodAffinity": lambda arguments: _range(
        arguments, "hardPodAffinityWeight", 0, 100, "not in valid range [0, 100]"
    ),
    "NodeAffinity": _check_node_affinity,
    "NodeResourcesBalancedAllocation": _check_balanced,
    "PodTopologySpread": _check_spread,
    "VolumeBinding": _check_volumes,
}


# In upstream's default order. The implied ones are no objects here: the queue sorts by priority, the binder binds, and
# preemption is a step of the cycle that a profile has or has not.
REGISTRY: dict[str, Factory] = {
    "SchedulingGates": SchedulingGates,
    "NodeUnschedulable": NodeUnschedulable,
    "NodeName": NodeName,
    "TaintToleration": TaintToleration,
    "NodeAffinity": _node_affinity,
    "NodePorts": NodePorts,
    "NodeResourcesFit": _fit,
    "VolumeRestrictions": VolumeRestrictions,
    "NodeVolumeLimits": NodeVolumeLimits,
    "VolumeBinding": _volume_binding,
    "VolumeZone": VolumeZone,
    "PodTopologySpread": _spread,
    "InterPodAffinity": _inter_pod,
    "DynamicResources": _devices,
    "NodeResourcesBalancedAllocation": _balanced,
    "ImageLocality": ImageLocality,
    "NodeDeclaredFeatures": NodeDeclaredFeatures,
}
IMPLIED = frozenset(("PrioritySort", "DefaultPreemption", "DefaultBinder"))
ORDER = (*REGISTRY, *sorted(IMPLIED))
