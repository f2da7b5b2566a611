"""Validation of horizontal pod autoscalers. Follows upstream's `pkg/apis/autoscaling/validation`."""

from __future__ import annotations

from proa.apis.apps.workloads import nonnegatives
from proa.apis.fields import Errors, label_selector, one_of, problems
from proa.meta import names
from proa.meta.errors import forbidden_field, invalid_field, required_field, unsupported_field
from proa.meta.objects import Obj
from proa.meta.quantity import parse

METRIC_TYPES = ("ContainerResource", "External", "Object", "Pods", "Resource")
_SOURCES = {
    "Object": "object",
    "Pods": "pods",
    "Resource": "resource",
    "ContainerResource": "containerResource",
    "External": "external",
}
_PERIOD_SECONDS_MAX, _WINDOW_SECONDS_MAX = 1800, 3600


def autoscaler_spec(spec: Obj) -> Errors:
    errors: Errors = []
    least, most = spec.get("minReplicas"), spec.get("maxReplicas") or 0
    if least is not None and least < 1:
        errors.append(invalid_field("spec.minReplicas", least, "must be greater than or equal to 1"))
    if most < 1:
        errors.append(required_field("spec.maxReplicas", "must be set and greater than 0"))
    if least is not None and most < least:
        detail = "must be greater than or equal to `minReplicas`"
        errors.append(invalid_field("spec.maxReplicas", most, detail))
    errors += _target_reference(spec.get("scaleTargetRef") or {}, "spec.scaleTargetRef")
    errors += _metrics(spec.get("metrics") or [], "spec.metrics", least)
    return errors + _behavior(spec.get("behavior"), "spec.behavior")


def _reference(reference: Obj, path: str) -> Errors:
    errors: Errors = []
    for key in ("kind", "name"):
        value = reference.get(key) or ""
        if not value:
            errors.append(required_field(f"{path}.{key}"))
        else:
            errors += problems(names.path_segment(value), f"{path}.{key}", value)
    return errors


def _target_reference(reference: Obj, path: str) -> Errors:
    errors = _reference(reference, path)
    version = reference.get("apiVersion") or ""
    if "/" not in version:
        detail = "apiVersion must specify API group"
        errors.append(invalid_field(f"{path}.apiVersion", version, detail))
    return errors


# ---------------------------------------------------------------- metrics


def _metrics(metrics: list[Obj], path: str, least: int | None) -> Errors:
    errors: Errors = []
    for index, metric in enumerate(metrics):
        errors += _metric(metric, f"{path}[{index}]")
    scales_to_zero = any(metric.get("type") in ("Object", "External") for metric in metrics)
    if least == 0 and not scales_to_zero:
        detail = "must specify at least one Object or External metric to support scaling to zero replicas"
        errors.append(forbidden_field(path, detail))
    return errors


def _metric(metric: Obj, path: str) -> Errors:
    kind = metric.get("type") or ""
    if not kind:
        return [required_field(f"{path}.type", "must specify a metric source type")]
    errors: Errors = []
    if kind not in METRIC_TYPES:
        # Upstream says it twice.
        errors += [unsupported_field(f"{path}.type", kind, METRIC_TYPES)] * 2
    present = [source for source in _SOURCES.values() if metric.get(source) is not None]
    expected = _SOURCES.get(kind, "")
    for source in present:
        errors += _SOURCE_CHECKS[source](metric[source], f"{path}.{source}")
    if expected and expected not in present:
        detail = "must populate information for the given metric source"
        errors.append(required_field(f"{path}.{expected}", detail))
    if len(present) > 1:
        detail = "must populate the given metric source only"
        errors += [forbidden_field(f"{path}.{source}", detail) for source in present if source != expected]
    return errors


def _target(target: Obj, path: str) -> Errors:
    errors: Errors = []
    kind = target.get("type") or ""
    if not kind:
        errors.append(required_field(f"{path}.type", "must specify a metric target type"))
    elif kind not in ("Utilization", "Value", "AverageValue"):
        detail = "must be either Utilization, Value, or AverageValue"
        errors.append(invalid_field(f"{path}.type", kind, detail))
    for key in ("value", "averageValue"):
        if target.get(key) is not None and parse(target[key]).nano <= 0:
            errors.append(invalid_field(f"{path}.{key}", str(parse(target[key])), "must be positive"))
    share = target.get("averageUtilization")
    if share is not None and share < 1:
        errors.append(invalid_field(f"{path}.averageUtilization", share, "must be greater than 0"))
    return errors


def _identifier(metric: Obj, path: str) -> Errors:
    name = metric.get("name") or ""
    if not name:
        return [required_field(f"{path}.name", "must specify a metric name")]
    errors = problems(names.path_segment(name), f"{path}.name", name)
    return errors + label_selector(metric.get("selector"), f"{path}.selector")


def _object(source: Obj, path: str) -> Errors:
    target = source.get("target") or {}
    errors = _reference(source.get("describedObject") or {}, f"{path}.describedObject")
    errors += _identifier(source.get("metric") or {}, f"{path}.metric")
    errors += _target(target, f"{path}.target")
    if target.get("value") is None and target.get("averageValue") is None:
        detail = "must set either a target value or averageValue"
        errors.append(required_field(f"{path}.target.averageValue", detail))
    return errors


def _external(source: Obj, path: str) -> Errors:
    target = source.get("target") or {}
    errors = _identifier(source.get("metric") or {}, f"{path}.metric")
    errors += _target(target, f"{path}.target")
    if target.get("value") is None and target.get("averageValue") is None:
        detail = "must set either a target value for metric or a per-pod target"
        errors.append(required_field(f"{path}.target.averageValue", detail))
    if target.get("value") is not None and target.get("averageValue") is not None:
        detail = "may not set both a target value for metric and a per-pod target"
        errors.append(forbidden_field(f"{path}.target.value", detail))
    return errors


def _pods(source: Obj, path: str) -> Errors:
    target = source.get("target") or {}
    errors = _identifier(source.get("metric") or {}, f"{path}.metric")
    errors += _target(target, f"{path}.target")
    if target.get("averageValue") is None or parse(target["averageValue"]).nano <= 0:
        detail = "must specify a positive target averageValue"
        errors.append(required_field(f"{path}.target.averageValue", detail))
    return errors


def _resource(source: Obj, path: str) -> Errors:
    target = source.get("target") or {}
    errors: Errors = []
    if not source.get("name"):
        errors.append(required_field(f"{path}.name", "must specify a resource name"))
    errors += _target(target, f"{path}.target")
    share, value = target.get("averageUtilization"), target.get("averageValue")
    if share is None and value is None:
        detail = "must set either a target raw value or a target utilization"
        errors.append(required_field(f"{path}.target.averageUtilization", detail))
    if share is not None and value is not None:
        detail = "may not set both a target raw value and a target utilization"
        errors.append(forbidden_field(f"{path}.target.averageValue", detail))
    return errors


def _container_resource(source: Obj, path: str) -> Errors:
    errors: Errors = []
    container = source.get("container") or ""
    if not container:
        errors.append(required_field(f"{path}.container", "must specify a container for the metric"))
    else:
        errors += problems(names.path_segment(container), f"{path}.container", container)
    return errors + _resource(source, path)


_SOURCE_CHECKS = {
    "object": _object,
    "pods": _pods,
    "resource": _resource,
    "containerResource": _container_resource,
    "external": _external,
}


# ---------------------------------------------------------------- behavior


def _behavior(behavior: Obj | None, path: str) -> Errors:
    errors: Errors = []
    for key in ("scaleUp", "scaleDown"):
        rules = (behavior or {}).get(key)
        if rules is not None:
            errors += _rules(rules, f"{path}.{key}")
    return errors


def _rules(rules: Obj, path: str) -> Errors:
    errors = nonnegatives(rules, path, "stabilizationWindowSeconds")
    window = rules.get("stabilizationWindowSeconds") or 0
    if window > _WINDOW_SECONDS_MAX:
        detail = f"must be less than or equal to {_WINDOW_SECONDS_MAX}"
        errors.append(invalid_field(f"{path}.stabilizationWindowSeconds", window, detail))
    if rules.get("selectPolicy") is not None:
        errors += one_of(rules["selectPolicy"], f"{path}.selectPolicy", ("Disabled", "Max", "Min"))
    policies = rules.get("policies") or []
    if not policies:
        errors.append(required_field(f"{path}.policies", "must specify at least one Policy"))
    for index, policy in enumerate(policies):
        errors += _policy(policy, f"{path}.policies[{index}]")
    tolerance = rules.get("tolerance")
    if tolerance is not None and parse(tolerance).nano < 0:
        errors.append(invalid_field(f"{path}.tolerance", tolerance, "must be greater or equal to 0"))
    return errors


def _policy(policy: Obj, path: str) -> Errors:
    errors = one_of(policy.get("type") or "", f"{path}.type", ("Percent", "Pods"))
    if (policy.get("value") or 0) <= 0:
        errors.append(invalid_field(f"{path}.value", policy.get("value") or 0, "must be greater than zero"))
    period = policy.get("periodSeconds") or 0
    if period <= 0:
        errors.append(invalid_field(f"{path}.periodSeconds", period, "must be greater than zero"))
    if period > _PERIOD_SECONDS_MAX:
        detail = f"must be less than or equal to {_PERIOD_SECONDS_MAX}"
        errors.append(invalid_field(f"{path}.periodSeconds", period, detail))
    return errors


def autoscaler_status(status: Obj) -> Errors:
    return nonnegatives(status, "status", "currentReplicas", "desiredReplicas")
