"""pods/eviction: deletes a pod if the disruption budget that covers it allows.

Follows upstream's EvictionREST: a budget's allowance is taken before the pod goes, so that two evictions never share
it.
"""

from __future__ import annotations

from proa.apiserver.admission.noderestriction import check_eviction
from proa.apiserver.api import Core
from proa.apiserver.generic.deletion import DeleteRequest, delete, delete_request
from proa.apiserver.generic.shared import Call
from proa.apiserver.live import Live
from proa.apiserver.special.binding import SUCCESS
from proa.client.interface import ApiRequest
from proa.client.resources import PODDISRUPTIONBUDGETS, PODS
from proa.meta.errors import StatusError, bad_request, conflict, forbidden, not_found
from proa.meta.gvk import GVR
from proa.meta.objects import Obj, copy_object, labels_of, metadata, name_of, uid_of
from proa.meta.selectors import from_object
from proa.util.clock import rfc3339

_DISRUPTED_MAX = 2000
_RETRY_SECONDS = 10
_VIOLATES = "Cannot evict pod as it would violate the pod's disruption budget."


class Evictions:
    def __init__(self, core: Core, live: Live) -> None:
        self._core = core
        self._live = live

    async def create(self, request: ApiRequest) -> Obj:
        """Carries out an Eviction; raises StatusErrors 400, 404, 409, 429 and, for two budgets, 500."""
        body = request.body or {}
        if (metadata(body).get("name") or "") != request.name:
            raise bad_request("name in URL does not match name in Eviction object")
        options = body.get("deleteOptions") or {}
        dry_run = request.parameters.get("dryRun") == "All" or bool(options.get("dryRun"))
        asked = delete_request(options, {})
        pod = self._live.get(PODS, request.name, request.namespace)
        if pod is None:
            raise not_found(PODS, request.name)
        check_eviction(request.user, pod)
        budget = None if _ignores_budgets(pod) else self._budget(pod, request.namespace)
        if budget is not None and not _is_unhealthy_and_free(pod, budget):
            await self._take(request, name_of(budget), dry_run)
        await self._delete(request, asked, dry_run)
        return SUCCESS

    def _budget(self, pod: Obj, namespace: str) -> Obj | None:
        found = [one for one in self._live.list(PODDISRUPTIONBUDGETS, namespace) if _covers(one, pod)]
        if len(found) > 1:
            text = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."
            raise StatusError(500, "", text)
        return found[0] if found else None

    async def _take(self, request: ApiRequest, budget: str, dry_run: bool) -> None:
        """Takes one disruption from the budget; raises the 429 if it has none."""
        core = self._core
        resource = core.resources.get(PODDISRUPTIONBUDGETS)
        now = rfc3339(core.shared.clock.now())

        async def produce(old: Obj | None) -> Obj:
            if old is None:
                raise not_found(PODDISRUPTIONBUDGETS, budget)
            _check_allowance(old)
            changed: Obj = copy_object(old)
            status = changed["status"]
            status["disruptionsAllowed"] -= 1
            status.setdefault("disruptedPods", {})[request.name] = now
            if not status["disruptionsAllowed"]:
                _set_exhausted(status, metadata(old).get("generation"), now)
            return changed

        call = self._call(request, budget, "status", dry_run)
        await core.store(resource).update(call, produce, sub=resource.subresource("status"))

    async def _delete(self, request: ApiRequest, asked: DeleteRequest, dry_run: bool) -> None:
        core = self._core
        resource = core.resources.get(PODS)
        store = core.store(resource)
        now = rfc3339(core.shared.clock.now())

        async def produce(old: Obj | None) -> Obj:
            if old is None:
                raise not_found(PODS, request.name)
            if asked.uid is not None and asked.uid != uid_of(old):
                why = (
                    f"the UID in the precondition ({asked.uid}) does not match the UID in record ({uid_of(old)}). "
                    "The object might have been deleted and then recreated"
                )
                raise conflict(GVR("", "", "Pod"), request.name, why)
            pod: Obj = copy_object(old)
            _set_condition(
                pod.setdefault("status", {}).setdefault("conditions", []),
                {
                    "type": "DisruptionTarget",
                    "status": "True",
                    "lastProbeTime": None,
                    "lastTransitionTime": now,
                    "reason": "EvictionByEvictionAPI",
                    "message": "Eviction API: evicting",
                },
            )
            return pod

        await store.update(
            self._call(request, request.name, "status", dry_run), produce, sub=resource.subresource("status")
        )
        await delete(store, self._call(request, request.name, "", dry_run), asked)

    def _call(self, request: ApiRequest, name: str, subresource: str, dry_run: bool) -> Call:
        return Call(
            user=request.user,
            namespace=request.namespace,
            name=name,
            subresource=subresource,
            dry_run=dry_run,
            field_manager=request.field_manager,
            admitted=True,
        )


def _ignores_budgets(pod: Obj) -> bool:
    phase = (pod.get("status") or {}).get("phase")
    return phase in ("Succeeded", "Failed", "Pending") or bool(metadata(pod).get("deletionTimestamp"))


def _covers(budget: Obj, pod: Obj) -> bool:
    selector = (budget.get("spec") or {}).get("selector")
    return selector is not None and from_object(selector).matches(labels_of(pod))


def _is_unhealthy_and_free(pod: Obj, budget: Obj) -> bool:
    """Whether a pod that is not ready may go without taking from the budget, by its unhealthyPodEvictionPolicy."""
    conditions = (pod.get("status") or {}).get("conditions") or ()
    if any(one.get("type") == "Ready" and one.get("status") == "True" for one in conditions):
        return False
    if (budget.get("spec") or {}).get("unhealthyPodEvictionPolicy") == "AlwaysAllow":
        return True
    status = budget.get("status") or {}
    desired = status.get("desiredHealthy") or 0
    return desired > 0 and (status.get("currentHealthy") or 0) >= desired


def _check_allowance(budget: Obj) -> None:
    name, status = name_of(budget), budget.get("status") or {}
    allowed = status.get("disruptionsAllowed") or 0
    if (status.get("observedGeneration") or 0) < (metadata(budget).get("generation") or 0):
        raise _refusal(f"The disruption budget {name} is still being processed by the server.", _RETRY_SECONDS)
    if allowed < 0:
        raise forbidden(PODDISRUPTIONBUDGETS, name, "pdb disruptions allowed is negative")
    if len(status.get("disruptedPods") or ()) > _DISRUPTED_MAX:
        raise forbidden(
            PODDISRUPTIONBUDGETS, name, "DisruptedPods map too big - too many evictions not confirmed by PDB controller"
        )
    if not allowed:
        current, desired = status.get("currentHealthy") or 0, status.get("desiredHealthy") or 0
        failed = [one for one in status.get("conditions") or () if one.get("reason") == "SyncFailed"]
        if failed and failed[0].get("type") == "DisruptionAllowed" and failed[0].get("status") == "False":
            why = failed[0].get("message") or ""
            raise _refusal(
                f"The disruption budget {name} does not allow evicting pods currently because it failed sync: {why}"
            )
        if current <= desired:
            raise _refusal(f"The disruption budget {name} needs {desired} healthy pods and has {current} currently")
        raise _refusal(f"The disruption budget {name} does not allow evicting pods currently")


def _refusal(cause: str, retry_after_seconds: int = 0) -> StatusError:
    details: Obj = {"causes": [{"reason": "DisruptionBudget", "message": cause}]}
    if retry_after_seconds:
        details["retryAfterSeconds"] = retry_after_seconds
    return StatusError(429, "TooManyRequests", _VIOLATES, details)


def _set_exhausted(status: Obj, generation: int | None, now: str) -> None:
    condition = {"type": "DisruptionAllowed", "status": "False"}
    if generation is not None:
        condition["observedGeneration"] = generation  # type: ignore[assignment]
    condition |= {"lastTransitionTime": now, "reason": "InsufficientPods", "message": ""}
    _set_condition(status.setdefault("conditions", []), condition)


def _set_condition(conditions: list[Obj], condition: Obj) -> None:
    """Puts a condition in place of the one of its type; keeps the time if its status is the same."""
    for index, old in enumerate(conditions):
        if old.get("type") == condition["type"]:
            same = old.get("status") == condition["status"] and old.get("lastTransitionTime")
            conditions[index] = {**condition, "lastTransitionTime": old["lastTransitionTime"]} if same else condition
            return
    conditions.append(condition)
