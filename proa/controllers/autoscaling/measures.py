"""Measures the metrics of one autoscaler: each becomes a proposal, or says in upstream's words why it cannot."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from proa.controllers.autoscaling.metrics import Metrics
from proa.controllers.autoscaling.plan import (
    NoMetrics,
    Proposal,
    Tolerances,
    by_share,
    by_utilization,
    by_value,
    by_whole,
    requested,
)
from proa.meta.objects import Obj
from proa.meta.quantity import NANO_PER_UNIT, Quantity, parse
from proa.meta.selectors import go_text

_FIELDS = {
    "Object": "object",
    "Pods": "pods",
    "Resource": "resource",
    "ContainerResource": "containerResource",
    "External": "external",
}


class Unmeasured(Exception):
    """`reason` and `cause` are the condition's and the event's; the message adds which metric it is."""

    def __init__(self, reason: str, cause: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.cause = cause


@dataclass(frozen=True, slots=True)
class Target:
    """What is scaled: `replicas` as set, `running` as reported; `pods` are those that `selector` admits."""

    namespace: str
    replicas: int
    running: int
    selector: str
    pods: Sequence[Obj]
    tolerances: Tolerances
    now: datetime


async def measure(metrics: Metrics, plural: Callable[[Obj], str], metric: Obj, target: Target) -> tuple[Proposal, Obj]:
    """Returns what a metric of the spec asks for, and its entry in status.currentMetrics; raises Unmeasured.

    `plural` returns the resource of a reference, such as `ingresses.networking.k8s.io`.
    """
    type = metric["type"]
    source = metric[_FIELDS[type]]
    if type == "Pods":
        made = await _pods(metrics, source, target)
        shown = {"metric": source["metric"]}
    elif type == "Object":
        made = await _object(metrics, plural(source["describedObject"]), source, target)
        shown = {"metric": source["metric"], "describedObject": source["describedObject"]}
    elif type == "External":
        made = await _external(metrics, source, target)
        shown = {"metric": source["metric"]}
    else:
        made = await _resource(metrics, type, source, target)
        shown = {key: source[key] for key in ("name", "container") if source.get(key)}
    return made, {"type": type, _FIELDS[type]: {**shown, "current": made.current}}


def _milli(value: int) -> str:
    return str(Quantity(value * NANO_PER_UNIT // 1000))


def _average(value: int | None) -> Obj:
    return {"averageValue": _milli(value or 0)}


async def _pods(metrics: Metrics, source: Obj, target: Target) -> Proposal:
    name = source["metric"]["name"]
    try:
        try:
            usage = await metrics.custom_of_pods(source["metric"], target.namespace, target.selector)
        except NoMetrics as error:
            raise NoMetrics(f"unable to get metric {name}: {error}") from error
        wanted = parse(source["target"]["averageValue"]).milli_value
        replicas, average = by_value(
            target.replicas,
            wanted,
            target.pods,
            usage,
            cpu=False,
            now=target.now,
            tolerances=target.tolerances,
        )
    except NoMetrics as error:
        raise Unmeasured("FailedGetPodsMetric", str(error), f"failed to get pods metric value: {error}") from error
    return Proposal(replicas, _average(average), f"pods metric {name}")


async def _object(metrics: Metrics, plural: str, source: Obj, target: Target) -> Proposal:
    metric, described, wanted = source["metric"], source["describedObject"], source["target"]
    name = metric["name"]
    average = wanted.get("type") == "AverageValue" or wanted.get("value") is None
    try:
        try:
            total = await metrics.custom_of_object(metric, target.namespace, plural, described["name"])
        except NoMetrics as error:
            # Upstream puts the object between the metric and the reason like this.
            where = f"{described['kind']} on {target.namespace} {described['name']}"
            raise NoMetrics(f"unable to get metric {name}: {where}/{error}") from error
        if average:
            return _shared(source, total, target, _selected("external", metric))
        replicas = by_whole(target.replicas, parse(wanted["value"]).milli_value, total, target.pods, target.tolerances)
    except NoMetrics as error:
        inner = f"failed to get {name} object metric: {error}" if average else str(error)
        text = f"failed to get object metric value: {inner}"
        raise Unmeasured("FailedGetObjectMetric", str(error), text) from error
    return Proposal(replicas, {"value": _milli(total)}, f"{described['kind']} metric {name}")


async def _external(metrics: Metrics, source: Obj, target: Target) -> Proposal:
    metric, wanted = source["metric"], source["target"]
    name = metric["name"]
    average = wanted.get("averageValue") is not None
    try:
        try:
            total = await metrics.external(metric, target.namespace)
        except NoMetrics as error:
            where = f"{target.namespace}/{name}/{go_text(metric.get('selector'))}"
            raise NoMetrics(f"unable to get external metric {where}: {error}") from error
        if average:
            return _shared(source, total, target, _selected("external", metric))
        replicas = by_whole(target.replicas, parse(wanted["value"]).milli_value, total, target.pods, target.tolerances)
    except NoMetrics as error:
        inner = f"failed to get {name} external metric: {error}"
        if not average:
            inner = f"failed to get external metric {name}: {error}"
        text = f"failed to get {name} external metric value: {inner}"
        raise Unmeasured("FailedGetExternalMetric", str(error), text) from error
    return Proposal(replicas, {"value": _milli(total)}, _selected("external", metric))


def _shared(source: Obj, total: int, target: Target, name: str) -> Proposal:
    wanted = parse(source["target"]["averageValue"]).milli_value
    replicas, average = by_share(target.running, wanted, total, target.tolerances)
    return Proposal(replicas, _average(average), name)


async def _resource(metrics: Metrics, type: str, source: Obj, target: Target) -> Proposal:
    name, container, wanted = source["name"], source.get("container") or "", source["target"]
    share = wanted.get("averageUtilization")
    what = "usage" if wanted.get("averageValue") is not None else "utilization"
    more: dict[str, Any] = {"cpu": name == "cpu", "now": target.now, "tolerances": target.tolerances}
    try:
        try:
            usage = await metrics.of_pods(name, target.namespace, target.selector, container)
        except NoMetrics as error:
            raise NoMetrics(f"unable to get metrics for resource {name}: {error}") from error
        if what == "usage":
            value = parse(wanted["averageValue"]).milli_value
            replicas, average = by_value(target.replicas, value, target.pods, usage, **more)
            return Proposal(replicas, _average(average), f"{name} resource")

        def requests() -> dict[str, int]:
            return requested(target.pods, name, container)

        replicas, percent, average = by_utilization(
            target.replicas, int(share or 0), target.pods, usage, requests, **more
        )
    except NoMetrics as error:
        cause = f"failed to get {name} {what}: {error}"
        if type == "Resource":
            raise Unmeasured(
                "FailedGetResourceMetric", cause, f"failed to get {name} resource metric value: {cause}"
            ) from error
        text = f"failed to get {name} container metric value: {cause}"
        raise Unmeasured("FailedGetContainerResourceMetric", cause, text) from error
    kind = "resource utilization" if type == "Resource" else "container resource utilization"
    current = {"averageUtilization": percent, **_average(average)}
    return Proposal(replicas, current, f"{name} {kind} (percentage of request)")


def _selected(what: str, metric: Obj) -> str:
    return f"{what} metric {metric['name']}({go_text(metric.get('selector'))})"
