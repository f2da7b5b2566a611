"""Looks at every autoscaler each fifteen seconds and sets the size of its target."""

from __future__ import annotations

from typing import Any

from proa.apis.pod_resources import amounts
from proa.client.resources import CUSTOMRESOURCEDEFINITIONS, HORIZONTALPODAUTOSCALERS, PODS
from proa.controllers.autoscaling.behavior import Decision, Memory, decide, note_change
from proa.controllers.autoscaling.metrics import Metrics, amount
from proa.controllers.autoscaling.plan import NoMetrics, Proposal, by_total, by_utilization, by_value
from proa.controllers.conditions import condition
from proa.controllers.discovery import Kind, Kinds
from proa.controllers.pods import is_ready
from proa.controllers.runtime import Context, Controller, Result, ignore_absent
from proa.meta.errors import StatusError
from proa.meta.gvk import split_api_version
from proa.meta.objects import Obj, labels_of, metadata, name_of, namespace_of, split_key
from proa.meta.quantity import parse
from proa.meta.selectors import LabelSelector, parse_labels
from proa.util.clock import rfc3339

SYNC_SECONDS = 15.0


class _Stop(Exception):
    """This look is over; the conditions tell why."""


class HorizontalPodAutoscalerController(Controller):
    name = "horizontal-pod-autoscaler"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._scalers = self.watch(HORIZONTALPODAUTOSCALERS, relevant=lambda one: one.get("spec"))
        self._pods = self.need(PODS)
        self._kinds = Kinds(self.need(CUSTOMRESOURCEDEFINITIONS))
        self._metrics = Metrics(self.client)
        self._memories: dict[str, Memory] = {}

    async def reconcile(self, key: str) -> Result | None:
        namespace, name = split_key(key)
        scaler = self._scalers.get(name, namespace)
        if scaler is None:
            self._memories.pop(key, None)
            return None
        look = _Look(self, scaler, self._memories.setdefault(key, Memory()))
        try:
            await look.run()
        except _Stop:
            pass
        status = look.finished()
        if status != (scaler.get("status") or {}):
            updated = {**scaler, "status": status}
            await ignore_absent(self.client.update(HORIZONTALPODAUTOSCALERS, updated, subresource="status"))
        return Result(SYNC_SECONDS)

    # ------------------------------------------------------------ what a look needs

    def kind_of(self, reference: Obj) -> Kind | None:
        group, _ = split_api_version(reference.get("apiVersion") or "v1")
        return next((one for one in self._kinds.all() if one.group_kind == (group, reference["kind"])), None)

    def pods(self, namespace: str, selector: LabelSelector) -> list[Obj]:
        return [pod for pod in self._pods.objects(namespace) if selector.matches(labels_of(pod))]

    @property
    def metrics(self) -> Metrics:
        return self._metrics


class _Look:
    """One look at one autoscaler."""

    def __init__(self, controller: HorizontalPodAutoscalerController, scaler: Obj, memory: Memory) -> None:
        self._controller = controller
        self._scaler = scaler
        self._spec = scaler["spec"]
        self._memory = memory
        self._status: dict[str, Any] = dict(scaler.get("status") or {})
        self._conditions: list[Obj] = list(self._status.get("conditions") or [])
        self._now = controller.clock.now()
        self._pods: list[Obj] = []
        self._selector = ""

    def finished(self) -> Obj:
        status = {**self._status, "conditions": self._conditions}
        status.setdefault("desiredReplicas", 0)
        if metadata(self._scaler).get("generation"):
            status["observedGeneration"] = metadata(self._scaler)["generation"]
        return status

    def _set(self, type: str, status: bool, reason: str, message: str) -> None:
        made = condition(type, str(status), reason, message, self._now)
        for at, old in enumerate(self._conditions):
            if old["type"] == type:
                if old["status"] == made["status"]:
                    made["lastTransitionTime"] = old["lastTransitionTime"]
                self._conditions[at] = made
                return
        self._conditions.append(made)

    def _event(self, type: str, reason: str, message: str) -> None:
        self._controller.events.event(self._scaler, type, reason, message)

    async def run(self) -> None:
        """Raises _Stop when there is nothing (more) to do."""
        kind, scale = await self._scale()
        current = int((scale.get("spec") or {}).get("replicas") or 0)
        self._status["currentReplicas"] = int((scale.get("status") or {}).get("replicas") or 0)
        low = 1 if self._spec.get("minReplicas") is None else int(self._spec["minReplicas"])
        high = int(self._spec["maxReplicas"])
        if current == 0 and low != 0:
            text = "scaling is disabled since the replica count of the target is zero"
            self._set("ScalingActive", False, "ScalingDisabled", text)
            self._status["desiredReplicas"] = 0
            raise _Stop
        why = ""
        if current > high:
            decision, why = Decision(high), "Current number of replicas above Spec.MaxReplicas"
        elif current < low:
            decision, why = Decision(low), "Current number of replicas below Spec.MinReplicas"
        else:
            proposal = await self._propose(scale, current)
            now = self._controller.clock.monotonic()
            decision = decide(self._spec, current, proposal.replicas, self._memory, now)
            self._tell(decision)
            why = f"{proposal.name} {'above' if decision.replicas > current else 'below'} target"
            if decision.replicas < current:
                why = "All metrics below target"
        self._status["desiredReplicas"] = decision.replicas
        if decision.replicas != current:
            await self._resize(kind, scale, current, decision.replicas, why)

    async def _scale(self) -> tuple[Kind, Obj]:
        reference = self._spec["scaleTargetRef"]
        kind = self._controller.kind_of(reference)
        try:
            if kind is None:
                raise StatusError(404, "NotFound", f"no matches for kind {reference['kind']!r}")
            scale = await self._controller.client.get(
                kind.resource, reference["name"], namespace_of(self._scaler), subresource="scale"
            )
        except StatusError as error:
            self._event("Warning", "FailedGetScale", str(error))
            text = f"the HPA controller was unable to get the target's current scale: {error}"
            self._set("AbleToScale", False, "FailedGetScale", text)
            raise _Stop from error
        text = "the HPA controller was able to get the target's current scale"
        self._set("AbleToScale", True, "SucceededGetScale", text)
        return kind, scale

    async def _propose(self, scale: Obj, current: int) -> Proposal:
        """Returns what the most demanding metric asks for; raises _Stop if none can tell, or too few to shrink."""
        self._selector = (scale.get("status") or {}).get("selector") or ""
        if not self._selector:
            self._set("ScalingActive", False, "InvalidSelector", "the HPA target's scale is missing a selector")
            raise _Stop
        self._pods = self._controller.pods(namespace_of(self._scaler), parse_labels(self._selector))
        proposals: list[Proposal] = []
        failures: list[NoMetrics] = []
        for metric in self._spec.get("metrics") or ():
            try:
                proposals.append(await self._measure(metric, current))
            except NoMetrics as failure:
                failures.append(failure)
                self._event("Warning", failure.reason, str(failure))
        self._status["currentMetrics"] = [one.shown for one in proposals] or None
        if self._status["currentMetrics"] is None:
            del self._status["currentMetrics"]
        best = max(proposals, key=lambda one: one.replicas, default=None)
        if best is None or (failures and best.replicas < current):
            reason = failures[0].reason if failures else "InvalidMetricSourceType"
            cause = str(failures[0]) if failures else "no metrics are given"
            text = f"the HPA was unable to compute the replica count: {cause}"
            self._set("ScalingActive", False, reason, text)
            raise _Stop
        text = f"the HPA was able to successfully calculate a replica count from {best.name}"
        self._set("ScalingActive", True, "ValidMetricFound", text)
        return best

    async def _measure(self, metric: Obj, current: int) -> Proposal:
        type = metric["type"]
        if type in ("Resource", "ContainerResource"):
            return await self._measure_resource(
                metric["resource" if type == "Resource" else "containerResource"], type, current
            )
        namespace = namespace_of(self._scaler)
        metrics = self._controller.metrics
        if type == "Pods":
            source = metric["pods"]
            usage = await metrics.custom_of_pods(source["metric"], namespace, self._selector)
            target = parse(source["target"]["averageValue"]).milli_value
            replicas, average = by_value(current, target, self._pods, usage, cpu=False, now=self._now)
            shown = {"metric": source["metric"], "current": {"averageValue": f"{average}m"}}
            return Proposal(replicas, {"type": type, "pods": shown}, f"pods metric {source['metric']['name']}")
        source = metric["object"] if type == "Object" else metric["external"]
        if type == "Object":
            described = source["describedObject"]
            kind = self._controller.kind_of(described)
            plural = kind.resource.group_resource if kind is not None else described["kind"].lower()
            total = await metrics.custom_of_object(source["metric"], namespace, plural, described["name"])
        else:
            total = await metrics.external(source["metric"], namespace)
        target = source["target"]
        by_average = target.get("averageValue") is not None
        wanted = parse(target["averageValue"] if by_average else target["value"]).milli_value
        replicas = by_total(current, wanted, total, sum(map(is_ready, self._pods)), average=by_average)
        value = {"averageValue": f"{total // max(1, current)}m"} if by_average else {"value": f"{total}m"}
        shown = {**{key: source[key] for key in ("metric", "describedObject") if key in source}, "current": value}
        return Proposal(
            replicas, {"type": type, type.lower(): shown}, f"{type.lower()} metric {source['metric']['name']}"
        )

    async def _measure_resource(self, source: Obj, type: str, current: int) -> Proposal:
        name, container, target = source["name"], source.get("container") or "", source["target"]
        usage = await self._controller.metrics.of_pods(name, namespace_of(self._scaler), self._selector, container)
        cpu = name == "cpu"
        shown: Obj = {"name": name}
        if container:
            shown["container"] = container
        unit = "m" if cpu else ""
        if target.get("averageUtilization") is not None:
            requests = {name_of(pod): _requested(pod, name, container) for pod in self._pods}
            known = {key: value for key, value in requests.items() if value is not None}
            replicas, percent, average = by_utilization(
                current, int(target["averageUtilization"]), self._pods, usage, known, cpu=cpu, now=self._now
            )
            shown["current"] = {"averageUtilization": percent, "averageValue": f"{average}{unit}"}
            what = f"{name} resource utilization (percentage of request)"
        else:
            wanted = amount(name, parse(target["averageValue"]))
            replicas, average = by_value(current, wanted, self._pods, usage, cpu=cpu, now=self._now)
            shown["current"] = {"averageValue": f"{average}{unit}"}
            what = f"{name} resource"
        field = "resource" if type == "Resource" else "containerResource"
        return Proposal(replicas, {"type": type, field: shown}, what)

    def _tell(self, decision: Decision) -> None:
        if decision.stabilized:
            text = "recent recommendations were higher than current one, applying the highest recent recommendation"
            if decision.stabilized == "ScaleUpStabilized":
                text = "recent recommendations were lower than current one, applying the lowest recent recommendation"
            self._set("AbleToScale", True, decision.stabilized, text)
        else:
            self._set("AbleToScale", True, "ReadyForNewScale", "recommended size matches current size")
        if decision.limited:
            self._set("ScalingLimited", True, decision.limited, decision.message)
        else:
            text = "the desired count is within the acceptable range"
            self._set("ScalingLimited", False, "DesiredWithinRange", text)

    async def _resize(self, kind: Kind, scale: Obj, before: int, after: int, why: str) -> None:
        wanted = {**scale, "spec": {**(scale.get("spec") or {}), "replicas": after}}
        try:
            await self._controller.client.update(kind.resource, wanted, subresource="scale")
        except StatusError as error:
            self._event("Warning", "FailedRescale", f"New size: {after}; reason: {why}; error: {error}")
            text = f"the HPA controller was unable to update the target scale: {error}"
            self._set("AbleToScale", False, "FailedUpdateScale", text)
            self._status["desiredReplicas"] = before
            return
        note_change(self._spec, self._memory, before, after, self._controller.clock.monotonic())
        self._event("Normal", "SuccessfulRescale", f"New size: {after}; reason: {why}")
        text = f"the HPA controller was able to update the target scale to {after}"
        self._set("AbleToScale", True, "SucceededRescale", text)
        self._status["lastScaleTime"] = rfc3339(self._now)


def _requested(pod: Obj, resource: str, container: str) -> int | None:
    """Returns what a pod (or one container) requests of a resource; None if a container does not say."""
    total = 0
    for one in (pod.get("spec") or {}).get("containers") or ():
        if container and one.get("name") != container:
            continue
        listed = amounts((one.get("resources") or {}).get("requests"))
        if resource not in listed:
            return None
        total += listed[resource]
    return total
