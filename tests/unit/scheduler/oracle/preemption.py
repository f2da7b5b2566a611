"""Who would have to leave a node for a pod, and which node is the cheapest; no PodDisruptionBudgets here."""

from __future__ import annotations

from dataclasses import replace

from proa.meta.objects import Obj
from tests.unit.scheduler.oracle.filters import fits
from tests.unit.scheduler.oracle.world import World, name_of

Cost = tuple[int, int, int]


def victims(pod: Obj, node: Obj, world: World) -> list[Obj] | None:
    """Returns the pods that must leave the node, None if that does not help."""
    priority = pod["spec"]["priority"]
    lower = [one for one in world.on(node) if one["spec"]["priority"] < priority]
    staying = [one for one in world.placed if one not in lower]
    if not fits(pod, node, replace(world, placed=staying)):
        return None
    gone = []
    for one in sorted(lower, key=lambda other: (-other["spec"]["priority"], other["status"]["startTime"])):
        if fits(pod, node, replace(world, placed=[*staying, one])):
            staying.append(one)
        else:
            gone.append(one)
    return gone or None


def cost(gone: list[Obj]) -> Cost:
    """What is compared: the highest priority, the sum, the number of the victims."""
    priorities = [one["spec"]["priority"] for one in gone]
    return max(priorities), sum(priority + 2**31 for priority in priorities), len(gone)


def candidates(pod: Obj, world: World) -> dict[str, list[Obj]]:
    """Returns the victims by node."""
    found = {name_of(node): victims(pod, node, world) for node in world.nodes}
    return {name: gone for name, gone in found.items() if gone}
