"""HorizontalPodAutoscaler between autoscaling/v1 and v2, the stored form. What v1 has no fields for travels in
annotations, as upstream's `pkg/apis/autoscaling/v1/conversion.go` has it.
"""

from __future__ import annotations

from typing import Any

import msgspec

from proa.meta.objects import Obj, copy_object

_METRICS = "autoscaling.alpha.kubernetes.io/metrics"
_CURRENT = "autoscaling.alpha.kubernetes.io/current-metrics"
_CONDITIONS = "autoscaling.alpha.kubernetes.io/conditions"
_BEHAVIOR = "autoscaling.alpha.kubernetes.io/behavior"
_ANNOTATIONS = (_METRICS, _CURRENT, _CONDITIONS, _BEHAVIOR)


def _text(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _read(text: str) -> Any:
    try:
        return msgspec.json.decode(text.encode())
    except msgspec.DecodeError:
        return None


def v2_to_v1(stored: Obj) -> Obj:
    """Returns the v1 form of a v2 object."""
    obj: Obj = copy_object(stored)
    obj["apiVersion"] = "autoscaling/v1"
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    annotations = {
        key: value for key, value in (obj["metadata"].get("annotations") or {}).items() if key not in _ANNOTATIONS
    }
    metrics = spec.pop("metrics", None) or []
    cpu = next((one for one in metrics if _is_cpu_share(one)), None)
    if cpu is not None:
        spec["targetCPUUtilizationPercentage"] = cpu["resource"]["target"]["averageUtilization"]
    others = [_metric_to_v1(one) for one in metrics if one is not cpu]
    if others:
        annotations[_METRICS] = _text(others)
    behavior = spec.pop("behavior", None)
    if behavior is not None:
        annotations[_BEHAVIOR] = _text(_behavior_to_internal(behavior))
    current = status.pop("currentMetrics", None) or []
    shown = next((one for one in current if _is_cpu_status(one)), None)
    if shown is not None:
        status["currentCPUUtilizationPercentage"] = shown["resource"]["current"]["averageUtilization"]
    if current:
        annotations[_CURRENT] = _text([_metric_status_to_v1(one) for one in current])
    conditions = status.pop("conditions", None)
    if conditions:
        annotations[_CONDITIONS] = _text(conditions)
    status.setdefault("currentReplicas", 0)
    status.setdefault("desiredReplicas", 0)
    obj["spec"], obj["status"] = spec, status
    _set_annotations(obj, annotations)
    return obj


def v1_to_v2(given: Obj) -> Obj:
    """Returns the v2 form of a v1 object."""
    obj: Obj = copy_object(given)
    obj["apiVersion"] = "autoscaling/v2"
    spec, status = obj.setdefault("spec", {}), obj.setdefault("status", {})
    annotations = dict(obj["metadata"].get("annotations") or {})
    metrics = [_metric_to_v2(one) for one in _read(annotations.get(_METRICS, "[]")) or []]
    share = spec.pop("targetCPUUtilizationPercentage", None)
    if share is not None:
        target = {"type": "Utilization", "averageUtilization": share}
        metrics.insert(0, {"type": "Resource", "resource": {"name": "cpu", "target": target}})
    if metrics:
        spec["metrics"] = metrics
    behavior = _read(annotations.get(_BEHAVIOR, "null"))
    if behavior is not None:
        spec["behavior"] = _behavior_to_v2(behavior)
    current = _read(annotations.get(_CURRENT, "[]")) or []
    status["currentMetrics"] = [_metric_status_to_v2(one) for one in current] or None
    share = status.pop("currentCPUUtilizationPercentage", None)
    if share is not None and not current:
        shown = {"name": "cpu", "current": {"averageUtilization": share}}
        status["currentMetrics"] = [{"type": "Resource", "resource": shown}]
    conditions = _read(annotations.get(_CONDITIONS, "null"))
    if conditions:
        status["conditions"] = conditions
    if not status.get("currentReplicas"):
        status.pop("currentReplicas", None)
    status.setdefault("desiredReplicas", 0)
    _set_annotations(obj, {key: value for key, value in annotations.items() if key not in _ANNOTATIONS})
    return obj


def _set_annotations(obj: Obj, annotations: dict[str, str]) -> None:
    if annotations:
        obj["metadata"]["annotations"] = dict(sorted(annotations.items()))
    else:
        obj["metadata"].pop("annotations", None)


def _is_cpu_share(metric: Obj) -> bool:
    resource = metric.get("resource") or {}
    target = resource.get("target") or {}
    return metric.get("type") == "Resource" and resource.get("name") == "cpu" and "averageUtilization" in target


def _is_cpu_status(metric: Obj) -> bool:
    resource = metric.get("resource") or {}
    current = resource.get("current") or {}
    return metric.get("type") == "Resource" and resource.get("name") == "cpu" and "averageUtilization" in current


# ---------------------------------------------------------------- metrics

# By metric type: where it is, and (v1 field, path in v2) of its parts.
_SPECS: dict[str, tuple[str, tuple[tuple[str, tuple[str, ...]], ...]]] = {
    "Object": (
        "object",
        (
            ("target", ("describedObject",)),
            ("metricName", ("metric", "name")),
            ("targetValue", ("target", "value")),
            ("selector", ("metric", "selector")),
            ("averageValue", ("target", "averageValue")),
        ),
    ),
    "Pods": (
        "pods",
        (
            ("metricName", ("metric", "name")),
            ("targetAverageValue", ("target", "averageValue")),
            ("selector", ("metric", "selector")),
        ),
    ),
    "Resource": (
        "resource",
        (
            ("name", ("name",)),
            ("targetAverageUtilization", ("target", "averageUtilization")),
            ("targetAverageValue", ("target", "averageValue")),
        ),
    ),
    "ContainerResource": (
        "containerResource",
        (
            ("name", ("name",)),
            ("targetAverageUtilization", ("target", "averageUtilization")),
            ("targetAverageValue", ("target", "averageValue")),
            ("container", ("container",)),
        ),
    ),
    "External": (
        "external",
        (
            ("metricName", ("metric", "name")),
            ("metricSelector", ("metric", "selector")),
            ("targetValue", ("target", "value")),
            ("targetAverageValue", ("target", "averageValue")),
        ),
    ),
}
_STATUSES: dict[str, tuple[str, tuple[tuple[str, tuple[str, ...]], ...]]] = {
    "Object": (
        "object",
        (
            ("target", ("describedObject",)),
            ("metricName", ("metric", "name")),
            ("currentValue", ("current", "value")),
            ("selector", ("metric", "selector")),
            ("averageValue", ("current", "averageValue")),
        ),
    ),
    "Pods": (
        "pods",
        (
            ("metricName", ("metric", "name")),
            ("currentAverageValue", ("current", "averageValue")),
            ("selector", ("metric", "selector")),
        ),
    ),
    "Resource": (
        "resource",
        (
            ("name", ("name",)),
            ("currentAverageUtilization", ("current", "averageUtilization")),
            ("currentAverageValue", ("current", "averageValue")),
        ),
    ),
    "ContainerResource": (
        "containerResource",
        (
            ("name", ("name",)),
            ("currentAverageUtilization", ("current", "averageUtilization")),
            ("currentAverageValue", ("current", "averageValue")),
            ("container", ("container",)),
        ),
    ),
    "External": (
        "external",
        (
            ("metricName", ("metric", "name")),
            ("metricSelector", ("metric", "selector")),
            ("currentValue", ("current", "value")),
            ("currentAverageValue", ("current", "averageValue")),
        ),
    ),
}
_Table = dict[str, tuple[str, tuple[tuple[str, tuple[str, ...]], ...]]]


def _flat(metric: Obj, table: _Table) -> Obj:
    kind = metric.get("type") or ""
    made: Obj = {"type": kind}
    if kind in table:
        field, parts = table[kind]
        source = metric.get(field) or {}
        flat: Obj = {}
        for name, path in parts:
            value: Any = source
            for step in path:
                value = (value or {}).get(step)
            if value is not None:
                flat[name] = value
        made[field] = flat
    return made


def _nested(metric: Obj, table: _Table) -> Obj:
    kind = metric.get("type") or ""
    made: Obj = {"type": kind}
    if kind in table:
        field, parts = table[kind]
        flat = metric.get(field) or {}
        nested: Obj = {}
        for name, path in parts:
            if flat.get(name) is not None:
                holder = nested
                for step in path[:-1]:
                    holder = holder.setdefault(step, {})
                holder[path[-1]] = flat[name]
        made[field] = nested
    return made


def _metric_to_v1(metric: Obj) -> Obj:
    return _flat(metric, _SPECS)


def _metric_to_v2(metric: Obj) -> Obj:
    made = _nested(metric, _SPECS)
    source = made.get((_SPECS.get(made["type"]) or ("",))[0])
    if source is not None:
        target = source.setdefault("target", {})
        target["type"] = (
            "Utilization" if "averageUtilization" in target else "AverageValue" if "averageValue" in target else "Value"
        )
    return made


def _metric_status_to_v1(metric: Obj) -> Obj:
    return _flat(metric, _STATUSES)


def _metric_status_to_v2(metric: Obj) -> Obj:
    return _nested(metric, _STATUSES)


# ---------------------------------------------------------------- behavior


def _behavior_to_internal(behavior: Obj) -> Obj:
    """Returns the form of upstream's internal types, whose fields have no JSON names of their own."""
    return {
        shown: None if behavior.get(key) is None else _rules_to_internal(behavior[key])
        for key, shown in (("scaleUp", "ScaleUp"), ("scaleDown", "ScaleDown"))
    }


def _rules_to_internal(rules: Obj) -> Obj:
    policies = [
        {"Type": one.get("type"), "Value": one.get("value"), "PeriodSeconds": one.get("periodSeconds")}
        for one in rules.get("policies") or []
    ]
    return {
        "StabilizationWindowSeconds": rules.get("stabilizationWindowSeconds"),
        "SelectPolicy": rules.get("selectPolicy"),
        "Policies": policies or None,
        "Tolerance": rules.get("tolerance"),
    }


def _behavior_to_v2(behavior: Obj) -> Obj:
    made: Obj = {}
    for key, shown in (("scaleUp", "ScaleUp"), ("scaleDown", "ScaleDown")):
        rules = behavior.get(shown)
        if rules is not None:
            made[key] = {
                name: value
                for name, value in (
                    ("stabilizationWindowSeconds", rules.get("StabilizationWindowSeconds")),
                    ("selectPolicy", rules.get("SelectPolicy")),
                    ("policies", _policies_to_v2(rules.get("Policies"))),
                    ("tolerance", rules.get("Tolerance")),
                )
                if value is not None
            }
    return made


def _policies_to_v2(policies: list[Obj] | None) -> list[Obj] | None:
    if not policies:
        return None
    return [
        {"type": one.get("Type"), "value": one.get("Value"), "periodSeconds": one.get("PeriodSeconds")}
        for one in policies
    ]
