"""Looks at every autoscaler each fifteen seconds and sets the size of its target."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from proa.client.resources import CUSTOMRESOURCEDEFINITIONS, HORIZONTALPODAUTOSCALERS, PODS
from proa.controllers.autoscaling.behavior import Decision, Memory, begin, decide, note_change
from proa.controllers.autoscaling.measures import Target, Unmeasured, measure
from proa.controllers.autoscaling.metrics import Metrics
from proa.controllers.autoscaling.plan import Proposal, tolerances
from proa.controllers.conditions import condition
from proa.controllers.discovery import Kind, Kinds
from proa.controllers.runtime import Context, Controller, Result, ignore_absent
from proa.meta.errors import StatusError
from proa.meta.gvk import split_api_version
from proa.meta.objects import Obj, key_of, labels_of, metadata, namespace_of, split_key
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
        self.metrics = Metrics(self.client)
        self._memories: dict[str, Memory] = {}
        self._selectors: dict[str, LabelSelector] = {}  # by autoscaler, whose pods each one looks at

    async def reconcile(self, key: str) -> Result | None:
        namespace, name = split_key(key)
        scaler = self._scalers.get(name, namespace)
        if scaler is None:
            self._memories.pop(key, None)
            self._selectors.pop(key, None)
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

    def plural(self, reference: Obj) -> str:
        kind = self.kind_of(reference)
        return kind.resource.group_resource if kind is not None else str(reference["kind"]).lower()

    def pods(self, namespace: str, selector: LabelSelector) -> list[Obj]:
        return [pod for pod in self._pods.objects(namespace) if selector.matches(labels_of(pod))]

    def rivals(self, scaler: Obj, selector: LabelSelector, pods: Sequence[Obj]) -> list[str]:
        """Returns the keys of all autoscalers that look at one of these pods, this one included."""
        own, namespace = key_of(scaler), namespace_of(scaler)
        self._selectors[own] = selector
        near = {key: one for key, one in self._selectors.items() if split_key(key)[0] == namespace}
        if len(near) == 1:
            return [own]
        return sorted(
            key for key, one in near.items() if key == own or any(one.matches(labels_of(pod)) for pod in pods)
        )


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

    def _show_metrics(self, shown: Sequence[Obj]) -> None:
        self._status.pop("currentMetrics", None)
        if shown:
            self._status["currentMetrics"] = list(shown)

    async def run(self) -> None:
        """Raises _Stop when there is nothing (more) to do."""
        kind, scale = await self._scale()
        current = int((scale.get("spec") or {}).get("replicas") or 0)
        now = self._controller.clock.monotonic()
        begin(self._memory, current, now)
        self._status["currentReplicas"] = current
        low = 1 if self._spec.get("minReplicas") is None else int(self._spec["minReplicas"])
        high = int(self._spec["maxReplicas"])
        if current == 0 and low != 0:
            text = "scaling is disabled since the replica count of the target is zero"
            self._set("ScalingActive", False, "ScalingDisabled", text)
            self._status["desiredReplicas"] = 0
            self._show_metrics(())
            raise _Stop
        why = ""
        if current > high:
            decision, why = Decision(high), "Current number of replicas above Spec.MaxReplicas"
            self._show_metrics(())
        elif current < low:
            decision, why = Decision(low), "Current number of replicas below Spec.MinReplicas"
            self._show_metrics(())
        else:
            proposal = await self._propose(scale, current)
            if proposal.replicas > current:
                why = f"{proposal.name} above target"
            elif proposal.replicas < current:
                why = "All metrics below target"
            decision = decide(self._spec, current, proposal.replicas, self._memory, now)
            self._tell(decision)
        self._status["desiredReplicas"] = decision.replicas
        if decision.replicas != current:
            await self._resize(kind, scale, current, decision.replicas, why)

    async def _scale(self) -> tuple[Kind, Obj]:
        reference = self._spec["scaleTargetRef"]
        kind = self._controller.kind_of(reference)
        try:
            if kind is None:
                group, version = split_api_version(reference.get("apiVersion") or "v1")
                where = f' in version "{group}/{version}"' if group else f' in version "{version}"'
                text = f'unable to determine resource for scale target reference: no matches for kind "{{}}"{where}'
                raise StatusError(404, "NotFound", text.format(reference["kind"]))
            scale = await self._controller.client.get(
                kind.resource, reference["name"], namespace_of(self._scaler), subresource="scale"
            )
        except StatusError as error:
            self._event("Warning", "FailedGetScale", error.message)
            text = f"the HPA controller was unable to get the target's current scale: {error.message}"
            self._set("AbleToScale", False, "FailedGetScale", text)
            raise _Stop from error
        text = "the HPA controller was able to get the target's current scale"
        self._set("AbleToScale", True, "SucceededGetScale", text)
        return kind, scale

    def _target(self, scale: Obj, current: int) -> Target:
        """Returns what is scaled, its pods included; raises _Stop if these cannot be told from others."""
        status = scale.get("status") or {}
        text = status.get("selector") or ""
        if not text:
            self._fail("InvalidSelector", "the HPA target's scale is missing a selector")
            self._event("Warning", "SelectorRequired", "selector is required")
            self._end("selector is required")
        selector = parse_labels(text)
        namespace = namespace_of(self._scaler)
        pods = self._controller.pods(namespace, selector)
        rivals = self._controller.rivals(self._scaler, selector, pods)
        if len(rivals) > 1:
            shown = " ".join(f"{{{name} {where}}}" for where, name in map(split_key, rivals))
            message = f"pods by selector {selector} are controlled by multiple HPAs: [{shown}]"
            self._event("Warning", "AmbiguousSelector", message)
            self._fail("AmbiguousSelector", message)
            self._end(message)
        running = int(status.get("replicas") or 0)
        return Target(namespace, current, running, text, pods, tolerances(self._spec), self._now)

    def _fail(self, reason: str, message: str) -> None:
        self._set("ScalingActive", False, reason, message)

    def _end(self, why: str) -> None:
        self._event("Warning", "FailedComputeMetricsReplicas", why)
        self._show_metrics(())
        raise _Stop

    async def _propose(self, scale: Obj, current: int) -> Proposal:
        """Returns what the most demanding metric asks for; raises _Stop if none can tell, or too few to shrink."""
        target = self._target(scale, current)
        metrics = self._spec.get("metrics") or ()
        best: Proposal | None = None
        failures: list[Unmeasured] = []
        shown: list[Obj] = []
        for metric in metrics:
            try:
                proposal, entry = await measure(self._controller.metrics, self._controller.plural, metric, target)
            except Unmeasured as failure:
                failures.append(failure)
                shown.append({"type": ""})  # what clients show stands at the place of what the spec asks for
                self._event("Warning", failure.reason, failure.cause)
                continue
            shown.append(entry)
            if best is None or proposal.replicas > best.replicas:
                best = proposal
        self._show_metrics(shown)
        if best is None or (failures and best.replicas < current):
            first = failures[0] if failures else Unmeasured("InvalidMetricSourceType", "", "no metrics are given")
            self._fail(first.reason, f"the HPA was unable to compute the replica count: {first.cause}")
            text = f"invalid metrics ({len(failures)} invalid out of {len(metrics)}), first error is: {first}"
            self._event("Warning", "FailedComputeMetricsReplicas", text)
            raise _Stop
        text = f"the HPA was able to successfully calculate a replica count from {best.name}"
        self._set("ScalingActive", True, "ValidMetricFound", text)
        return best

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
        earlier = (self._scaler.get("status") or {}).get("desiredReplicas") or 0
        try:
            await self._controller.client.update(kind.resource, wanted, subresource="scale")
        except StatusError as error:
            text = f"New size: {after}; reason: {why}; error: {error.message}"
            self._event("Warning", "FailedRescale", text)
            text = f"the HPA controller was unable to update the target scale: {error.message}"
            self._set("AbleToScale", False, "FailedUpdateScale", text)
            self._status["desiredReplicas"] = earlier
            return
        note_change(self._spec, self._memory, before, after, self._controller.clock.monotonic())
        self._event("Normal", "SuccessfulRescale", f"New size: {after}; reason: {why}")
        text = f"the HPA controller was able to update the target scale to {after}"
        self._set("AbleToScale", True, "SucceededRescale", text)
        self._status["lastScaleTime"] = rfc3339(self._now)
