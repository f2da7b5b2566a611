"""Resizing running containers in place (KEP-1287): whether the node can, what must restart, what the status says. Pure.

A pod's wanted resources are its spec's. What a container has is the mark in its annotation (made when it was created),
or the mark of the last resize. A container whose `resizePolicy` says RestartContainer for something that changed is
replaced instead.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from proa.kubelet.admit import rejection
from proa.kubelet.configs import resources_mark
from proa.kubelet.cri.types import Container
from proa.kubelet.plan import Observed
from proa.kubelet.podspec import RESOURCES, ContainerSpec, by_kind
from proa.kubelet.resources import pod_requests
from proa.meta.objects import Obj, metadata
from proa.meta.quantity import parse


@dataclass(frozen=True, slots=True, kw_only=True)
class ResizePlan:
    """`update` are containers to change in place, `restart` names of those to replace. `actual` is what each running
    container has, by container id. `pending` is (reason, message) when the node can't do it: Infeasible or Deferred."""

    update: tuple[tuple[ContainerSpec, Container], ...] = ()
    restart: frozenset[str] = frozenset()
    actual: Mapping[str, Obj] = field(default_factory=dict)
    pending: tuple[str, str] | None = None


def plan_resize(
    pod: Obj, observed: Observed, marks: Mapping[str, str], others: Callable[[], Iterable[Obj]], node: Obj | None
) -> ResizePlan:
    """Decides about all running containers; `marks` are those of containers already resized, by id."""
    actual: dict[str, Obj] = {}
    update, restart = [], set()
    for container in by_kind(pod, "init", "sidecar", "main"):
        current = observed.current(container.name)
        if current is None or not current.running:
            continue
        wanted = resources_mark(container.spec)
        mark = marks.get(current.id) or current.annotations.get(RESOURCES) or wanted
        actual[current.id] = json.loads(mark)
        if mark == wanted:
            continue
        if _restarts(container, actual[current.id]):
            restart.add(container.name)
        else:
            update.append((container, current))
    if not (update or restart):
        return ResizePlan(actual=actual)
    pending = _refused(pod, others(), node)
    if pending:
        return ResizePlan(actual=actual, pending=pending)
    return ResizePlan(update=tuple(update), restart=frozenset(restart), actual=actual)


def _restarts(container: ContainerSpec, has: Obj) -> bool:
    wanted = container.spec.get("resources") or {}
    for policy in container.spec.get("resizePolicy") or []:
        if policy.get("restartPolicy") == "RestartContainer":
            name = policy.get("resourceName")
            if any(_amount(wanted, kind, name) != _amount(has, kind, name) for kind in ("requests", "limits")):
                return True
    return False


def _amount(resources: Obj, kind: str, name: Any) -> int:
    value = (resources.get(kind) or {}).get(name)
    return parse(value).milli_value if value is not None else -1


def _refused(pod: Obj, others: Iterable[Obj], node: Obj | None) -> tuple[str, str] | None:
    if node is None:
        return None
    allocatable = (node.get("status") or {}).get("allocatable") or {}
    for resource, amount in sorted(pod_requests(pod).items()):
        if amount > parse(allocatable.get(resource) or 0).milli_value:
            unit = 1 if resource == "cpu" else 1000
            capacity = parse(allocatable.get(resource) or 0).milli_value // unit
            return (
                "Infeasible",
                f"Node didn't have enough capacity: {resource}, requested: {amount // unit}, capacity: {capacity}",
            )
    rejected = rejection(pod, others, node)
    return ("Deferred", rejected[1].removeprefix("Pod was rejected: ")) if rejected else None


def resize_conditions(pod: Obj, plan: ResizePlan, resizing: bool, failure: str = "") -> list[Obj]:
    """Returns the conditions PodResizePending and PodResizeInProgress that hold, without times.

    `failure` is why what is to be done could not be done when it was last tried.
    """
    generation = metadata(pod).get("generation")
    shown: list[Obj] = []
    if plan.pending:
        reason, message = plan.pending
        shown.append({"type": "PodResizePending", "status": "True", "reason": reason, "message": message})
    if resizing or plan.update or plan.restart:
        error = {"reason": "Error", "message": failure} if failure else {}
        shown.append({"type": "PodResizeInProgress", "status": "True", **error})
    return [{**one, "observedGeneration": generation} if generation else one for one in shown]
