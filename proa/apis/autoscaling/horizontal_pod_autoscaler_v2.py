"""HorizontalPodAutoscaler in autoscaling/v2, the stored form. Follows upstream's
`pkg/registry/autoscaling/horizontalpodautoscaler`."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from proa.apis.autoscaling.checks import autoscaler_spec, autoscaler_status
from proa.apis.define import columns, resource
from proa.apis.fields import Errors
from proa.apis.strategies import SpecKept, WithStatus
from proa.apis.tables import UNKNOWN, UNSET, age
from proa.meta.objects import Obj, copy_object, name_of

_UP: Obj = {
    "stabilizationWindowSeconds": 0,
    "selectPolicy": "Max",
    "policies": [
        {"type": "Pods", "value": 4, "periodSeconds": 15},
        {"type": "Percent", "value": 100, "periodSeconds": 15},
    ],
}
_DOWN: Obj = {"selectPolicy": "Max", "policies": [{"type": "Percent", "value": 100, "periodSeconds": 15}]}
CPU_SHARE_DEFAULT = 80


class AutoscalerStrategy(WithStatus):
    schema = "io.k8s.api.autoscaling.v2.HorizontalPodAutoscaler"

    def default(self, obj: Obj) -> None:
        spec = obj.setdefault("spec", {})
        if spec.get("minReplicas") is None:
            spec["minReplicas"] = 1
        if not spec.get("metrics"):
            target = {"type": "Utilization", "averageUtilization": CPU_SHARE_DEFAULT}
            spec["metrics"] = [{"type": "Resource", "resource": {"name": "cpu", "target": target}}]
        behavior = spec.get("behavior")
        if behavior is not None:
            for key, defaults in (("scaleUp", _UP), ("scaleDown", _DOWN)):
                rules = behavior.setdefault(key, {})
                for name, value in defaults.items():
                    if rules.get(name) is None:
                        rules[name] = copy_object(value)

    def validate(self, obj: Obj) -> Errors:
        return autoscaler_spec(obj.get("spec") or {})


class AutoscalerStatusStrategy(SpecKept):
    def validate_update(self, obj: Obj, old: Obj) -> Errors:
        return autoscaler_status(obj.get("status") or {})


# ---------------------------------------------------------------- table


def targets_text(spec: Obj, status: Obj) -> str:
    """Returns the cell Targets: current and wanted value of each metric."""
    metrics, current = spec.get("metrics") or [], status.get("currentMetrics") or []
    if not metrics:
        return "<none>"
    shown = [_target_text(one, current[index] if index < len(current) else {}) for index, one in enumerate(metrics)]
    if len(shown) > 2:
        return f"{', '.join(shown[:2])} + {len(shown) - 2} more..."
    return ", ".join(shown)


def _target_text(metric: Obj, current: Obj) -> str:
    kind = metric.get("type") or ""
    field = kind[:1].lower() + kind[1:]
    source, now = metric.get(field) or {}, (current.get(field) or {}).get("current") or {}
    target = source.get("target") or {}
    if kind in ("Resource", "ContainerResource"):
        if target.get("averageValue") is not None:
            text = f"{now.get('averageValue') or UNKNOWN}/{target['averageValue']}"
        else:
            share = now.get("averageUtilization")
            wanted = target.get("averageUtilization")
            text = f"{UNKNOWN if share is None else f'{share}%'}/{'<auto>' if wanted is None else f'{wanted}%'}"
        return f"{source.get('name')}: {text}"
    if kind in ("Pods", "Object", "External"):
        key, suffix = ("averageValue", " (avg)" if kind != "Pods" else "")
        if target.get(key) is None:
            key, suffix = "value", ""
        value = now.get(key)
        return f"{UNKNOWN if value is None else value}/{target.get(key)}{suffix}"
    return "<unknown type>"


def autoscaler_cells(obj: Obj, now: datetime) -> list[Any]:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    reference = spec.get("scaleTargetRef") or {}
    least = spec.get("minReplicas")
    return [
        name_of(obj),
        f"{reference.get('kind')}/{reference.get('name')}",
        targets_text(spec, status),
        UNSET if least is None else str(least),
        spec.get("maxReplicas") or 0,
        status.get("currentReplicas") or 0,
        age(obj, now),
    ]


COLUMNS = columns("Name", "Reference", "Targets", "MinPods", "MaxPods", "Replicas", "Age")
STORAGE_VERSION_HASH = "qwQve8ut294="

HORIZONTAL_POD_AUTOSCALER_V2 = resource(
    "autoscaling",
    "v2",
    "HorizontalPodAutoscaler",
    "horizontalpodautoscalers",
    columns=COLUMNS,
    cells=autoscaler_cells,
    strategy=AutoscalerStrategy(),
    short_names=("hpa",),
    categories=("all",),
    status=AutoscalerStatusStrategy,
    storage_version_hash=STORAGE_VERSION_HASH,
)
