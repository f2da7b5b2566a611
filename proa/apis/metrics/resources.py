"""NodeMetrics and PodMetrics, as of metrics.k8s.io/v1beta1: measured when asked for, never stored."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from proa.apis.apiextensions.custom_resources import CustomResourceStrategy
from proa.apis.apiextensions.forms import Form
from proa.apis.registry import Column, ResourceDef
from proa.meta.gvk import GVK
from proa.meta.objects import Obj, name_of

GROUP, VERSION = "metrics.k8s.io", "v1beta1"
API_SERVICE = f"{VERSION}.{GROUP}"

_USAGE: Obj = {
    "type": "object",
    "description": "How much of each resource is used.",
    "additionalProperties": {"x-kubernetes-int-or-string": True},
}
_SPAN: Obj = {
    "timestamp": {"type": "string", "format": "date-time", "description": "The end of the time it was measured over."},
    "window": {"type": "string", "description": "How long it was measured for."},
}
_CONTAINER: Obj = {
    "type": "object",
    "required": ["name", "usage"],
    "properties": {"name": {"type": "string", "description": "The container's name."}, "usage": _USAGE},
}
_CONTAINERS: Obj = {"type": "array", "description": "What each container uses.", "items": _CONTAINER}


def api_service() -> Obj:
    """Returns the APIService that has the API server itself serve this group, as metrics-server's is prioritized."""
    return {
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": {"name": API_SERVICE, "labels": {"proa.dev/served-by": "apiserver"}},
        "spec": {"group": GROUP, "version": VERSION, "groupPriorityMinimum": 100, "versionPriority": 100},
    }


def reader_role() -> Obj:
    """Returns the role that adds the group to what viewers, editors and administrators of a namespace may read."""
    group = "rbac.authorization.k8s.io"
    labels = {f"{group}/aggregate-to-{role}": "true" for role in ("admin", "edit", "view")}
    return {
        "apiVersion": f"{group}/v1",
        "kind": "ClusterRole",
        "metadata": {"name": "system:aggregated-metrics-reader", "labels": labels},
        "rules": [{"apiGroups": [GROUP], "resources": ["pods", "nodes"], "verbs": ["get", "list", "watch"]}],
    }


def _total(obj: Obj, resource: str) -> Any:
    return (obj.get("usage") or {}).get(resource)


def _node_cells(obj: Obj, now: datetime) -> Sequence[Any]:
    return name_of(obj), _total(obj, "cpu"), _total(obj, "memory"), obj.get("window")


def _pod_cells(obj: Obj, now: datetime) -> Sequence[Any]:
    from proa.meta.quantity import parse, total

    used = [
        str(total(parse(value) for one in obj.get("containers") or () if (value := _total(one, resource)) is not None))
        for resource in ("cpu", "memory")
    ]
    return name_of(obj), *used, obj.get("window")


_COLUMNS = (
    Column("Name", format="name", description="Name of the resource"),
    Column("cpu"),
    Column("memory"),
    Column("Window", format="duration"),
)


def _resource(kind: str, plural: str, namespaced: bool, properties: Obj, cells: Any) -> ResourceDef:
    schema: Obj = {
        "type": "object",
        "description": f"{kind} sets resource usage metrics of a {plural.removesuffix('s')}.",
        "required": ["timestamp", "window", *properties],
        "properties": {**_SPAN, **properties},
    }
    gvk = GVK(GROUP, VERSION, kind)
    strategy = CustomResourceStrategy(
        gvk, schema, status=False, fingerprint=lambda: f"{GROUP}/{VERSION}/{kind}".encode()
    )
    return ResourceDef(
        group=GROUP,
        version=VERSION,
        kind=kind,
        plural=plural,
        singular="",
        namespaced=namespaced,
        verbs=("get", "list"),
        strategy=strategy,
        columns=_COLUMNS,
        cells=cells,
        storage=f"{GROUP}/{plural}",
        custom=True,
        form=Form(gvk.api_version, gvk.api_version, {gvk.api_version: lambda: schema}, None),
    )


def definitions() -> tuple[ResourceDef, ...]:
    """Returns the resources of the group, in discovery order."""
    return (
        _resource("NodeMetrics", "nodes", False, {"usage": _USAGE}, _node_cells),
        _resource("PodMetrics", "pods", True, {"containers": _CONTAINERS}, _pod_cells),
    )
