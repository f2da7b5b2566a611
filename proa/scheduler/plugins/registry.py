"""The plugins by name, made from the arguments of a configuration file (`pluginConfig`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

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
    for one in resources:
        if not 1 <= (one.get("weight") or 1) <= 100:
            where = f"scoringStrategy.resources[{one['name']}].weight"
            raise ArgumentError(f"{where}: Invalid value: {one['weight']}: not in valid range [1-100]")
    shape = [
        (one.get("utilization") or 0, one.get("score") or 0)
        for one in (strategy.get("requestedToCapacityRatio") or {}).get("shape") or ()
    ]
    if kind == "RequestedToCapacityRatio":
        _check_shape(shape)
    return NodeResourcesFit(
        kind, resource_weights(resources) or DEFAULT_RESOURCES, shape, ignoredResources, ignoredResourceGroups
    )


def _check_shape(shape: Sequence[tuple[int, int]]) -> None:
    path = "scoringStrategy.requestedToCapacityRatio.shape"
    if not shape:
        raise ArgumentError(f"{path}: Required value: at least one point must be specified")
    for index, (utilization, score) in enumerate(shape):
        if not 0 <= utilization <= 100:
            raise ArgumentError(
                f"{path}[{index}].utilization: Invalid value: {utilization}: not in valid range [0-100]"
            )
        if not 0 <= score <= 10:
            raise ArgumentError(f"{path}[{index}].score: Invalid value: {score}: not in valid range [0-10]")
        if index and shape[index - 1][0] >= utilization:
            raise ArgumentError(
                f"{path}[{index}].utilization: Invalid value: {utilization}: utilization values must be sorted in "
                "increasing order"
            )


def _balanced(resources: Sequence[Obj] = ()) -> Plugin:
    return NodeResourcesBalancedAllocation(resource_weights(resources) or DEFAULT_RESOURCES)


def _node_affinity(addedAffinity: Obj | None = None) -> Plugin:
    return NodeAffinity(addedAffinity)


def _inter_pod(hardPodAffinityWeight: int = 1, ignorePreferredTermsOfExistingPods: bool = False) -> Plugin:
    if not 0 <= hardPodAffinityWeight <= 100:
        raise ArgumentError(
            f"hardPodAffinityWeight: Invalid value: {hardPodAffinityWeight}: not in valid range [0-100]"
        )
    return InterPodAffinity(hardPodAffinityWeight, ignorePreferredTermsOfExistingPods)


def _spread(defaultConstraints: Sequence[Obj] = (), defaultingType: str = "") -> Plugin:
    kind = defaultingType or ("List" if defaultConstraints else "System")
    if kind == "System":
        if defaultConstraints:
            raise ArgumentError('defaultingType: Invalid value: "System": when .defaultConstraints are not empty')
        return PodTopologySpread(SYSTEM_SPREADS, system=True)
    for index, one in enumerate(defaultConstraints):
        if one.get("labelSelector") is not None:
            raise ArgumentError(
                f"defaultConstraints[{index}].labelSelector: Forbidden: constraint must not define a selector, as they "
                "deduced for each pod"
            )
        if (one.get("maxSkew") or 0) <= 0:
            raise ArgumentError(
                f"defaultConstraints[{index}].maxSkew: Invalid value: {one.get('maxSkew') or 0}: not in valid range "
                "(0-inf)"
            )
    return PodTopologySpread(defaultConstraints, system=False)


def _volume_binding(bindTimeoutSeconds: int = 600, shape: Any = None) -> Plugin:
    if bindTimeoutSeconds < 0:
        raise ArgumentError(
            f"bindTimeoutSeconds: Invalid value: {bindTimeoutSeconds}: invalid BindTimeoutSeconds, should not be a "
            "negative value"
        )
    return VolumeBinding(float(bindTimeoutSeconds))


def _devices(filterTimeout: Any = None, bindingTimeout: Any = None) -> Plugin:
    if bindingTimeout is None:
        return DynamicResources()
    seconds = seconds_of(bindingTimeout)
    if seconds is None or seconds < 1:
        raise ArgumentError(f'bindingTimeout: Invalid value: "{bindingTimeout}": must be at least 1 second')
    return DynamicResources(seconds)


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
