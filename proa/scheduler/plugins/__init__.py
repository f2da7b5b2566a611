"""Upstream's default plugins over columns, and the default profile with upstream's weights."""

from __future__ import annotations

from proa.scheduler.framework import Plugin, Profile
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
from proa.scheduler.plugins.resources import NodeResourcesBalancedAllocation, NodeResourcesFit
from proa.scheduler.plugins.spread import PodTopologySpread
from proa.scheduler.plugins.volume_checks import NodeVolumeLimits, VolumeRestrictions, VolumeZone
from proa.scheduler.plugins.volumes import VolumeBinding

DEFAULT_SCHEDULER = "default-scheduler"

DEFAULT_WEIGHTS = {
    "TaintToleration": 3,
    "NodeAffinity": 2,
    "PodTopologySpread": 2,
    "InterPodAffinity": 2,
    "DynamicResources": 2,
    "NodeResourcesFit": 1,
    "NodeResourcesBalancedAllocation": 1,
    "ImageLocality": 1,
}


def default_plugins() -> tuple[Plugin, ...]:
    """Returns the default plugins in the order in which upstream asks them."""
    return (
        SchedulingGates(),
        NodeUnschedulable(),
        NodeName(),
        TaintToleration(),
        NodeAffinity(),
        NodePorts(),
        NodeResourcesFit(),
        VolumeRestrictions(),
        NodeVolumeLimits(),
        VolumeBinding(),
        VolumeZone(),
        PodTopologySpread(),
        InterPodAffinity(),
        DynamicResources(),
        NodeResourcesBalancedAllocation(),
        ImageLocality(),
        NodeDeclaredFeatures(),
    )


def default_profile(name: str = DEFAULT_SCHEDULER) -> Profile:
    return Profile(name, default_plugins(), DEFAULT_WEIGHTS)
