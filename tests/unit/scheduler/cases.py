"""Makers of nodes and pods for the scheduler's tests."""

from __future__ import annotations

from typing import Any

from proa.meta.objects import Obj
from proa.scheduler.columns import Columns
from proa.scheduler.cycle import Placed, Unplaced, schedule
from proa.scheduler.plugins import default_profile
from proa.scheduler.pod import PodInfo, parse_pod


def node(
    name: str, cpu: str = "4", memory: str = "8Gi", pods: int = 110, labels: dict[str, str] | None = None, **spec: Any
) -> Obj:
    return {
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, **(labels or {})}},
        "spec": spec,
        "status": {"allocatable": {"cpu": cpu, "memory": memory, "pods": str(pods)}},
    }


def pod(
    name: str,
    cpu: str = "",
    memory: str = "",
    labels: dict[str, str] | None = None,
    on: str = "",
    namespace: str = "default",
    **spec: Any,
) -> Obj:
    requests = {key: value for key, value in (("cpu", cpu), ("memory", memory)) if value}
    container: Obj = {"name": "c", "image": "i", "resources": {"requests": requests}}
    container.update(spec.pop("container", {}))
    return {
        "metadata": {"name": name, "namespace": namespace, "uid": f"uid-{name}", "labels": labels or {}},
        "spec": {"containers": [container], **({"nodeName": on} if on else {}), **spec},
        "status": {},
    }


def cluster(nodes: list[Obj], pods: list[Obj] = []) -> Columns:  # noqa: B006
    columns = Columns(capacity=2)
    for one in nodes:
        columns.set_node(one)
    for one in pods:
        columns.add_pod(parse_pod(one))
    return columns


def place(columns: Columns, wanted: Obj, seed: int = 0, nominated: list[PodInfo] = []) -> str:  # noqa: B006
    """Returns the chosen node, or the message that says why there is none."""
    outcome = schedule(parse_pod(wanted), columns, default_profile(), seed, nominated)
    if isinstance(outcome, Placed):
        return outcome.node
    assert isinstance(outcome, Unplaced)
    return outcome.message
