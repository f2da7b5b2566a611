"""Admission webhooks: other servers that change or refuse writes.

Follows upstream's MutatingAdmissionWebhook and ValidatingAdmissionWebhook with AdmissionReview v1 and v1beta1: mutating
webhooks one after the other in the order of their configurations' names, in a second round again if another changed the
object after them (`reinvocationPolicy: IfNeeded`); validating ones all at once.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import msgspec

from proa.apiserver.admission.base import Plugin, name_of_request
from proa.apiserver.admission.hooks import Hooks, aim
from proa.apiserver.admission.matching import Criteria, is_exempt
from proa.apiserver.contracts import AdmissionRequest, Authorizer
from proa.apiserver.live import Live
from proa.apiserver.resources import Resources
from proa.apiserver.webhookcaller import CallFailed, WebhookCaller
from proa.client.resources import MUTATINGWEBHOOKCONFIGURATIONS, VALIDATINGWEBHOOKCONFIGURATIONS
from proa.meta.errors import StatusError, bad_request, forbidden, internal
from proa.meta.gvk import GVR
from proa.meta.objects import Obj, name_of
from proa.meta.patch import json_patch

if TYPE_CHECKING:
    from proa.apiserver.admission.evaluation import Conditions
    from proa.apiserver.admission.versions import Seen, Views

_TIMEOUT_SECONDS = 10
_VERSIONS = ("v1", "v1beta1")


class Webhook:
    """One webhook of a configuration; `index` is its place among all of its sort."""

    def __init__(self, configuration: str, given: Obj, index: int) -> None:
        self.configuration = configuration
        self.given = given
        self.index = index
        self.name: str = given.get("name") or ""
        self.criteria = Criteria(given, "rules")
        self.ignores_failures = given.get("failurePolicy") == "Ignore"
        self.reinvocable = given.get("reinvocationPolicy") == "IfNeeded"
        self.has_side_effects = given.get("sideEffects") not in ("None", "NoneOnDryRun")
        asked_for = given.get("admissionReviewVersions") or ()
        self.version = next((one for one in asked_for if one in _VERSIONS), "v1")

    @property
    def key(self) -> tuple[str, str]:
        return self.configuration, self.name

    @cached_property
    def conditions(self) -> Conditions | None:
        conditions = self.given.get("matchConditions")
        if not conditions:
            return None
        from proa.apis.admissionregistration.expressions import condition_scope
        from proa.apiserver.admission.evaluation import Conditions  # only where there are conditions

        return Conditions(conditions, condition_scope(self.given), self.given.get("failurePolicy") or "Fail")


class _Webhooks(Plugin):
    """What mutating and validating webhooks share. `kind` is how keys of audit annotations name them."""

    configurations: GVR
    kind: str

    def __init__(self, live: Live, resources: Resources, caller: WebhookCaller, authorizer: Authorizer) -> None:
        self._live = live
        self._caller = caller
        self._authorizer = authorizer
        self._hooks: Hooks[Webhook] = Hooks(live, resources, (self.configurations,), self._make)

    def _make(self) -> list[tuple[Webhook, Criteria]]:
        found = [
            (name_of(one), webhook)
            for one in sorted(self._live.list(self.configurations), key=name_of)
            for webhook in one.get("webhooks") or ()
        ]
        made = [Webhook(configuration, given, index) for index, (configuration, given) in enumerate(found)]
        # A webhook without rules is asked about nothing, a policy about everything.
        return [(one, one.criteria) for one in made if one.given.get("rules")]

    async def _wanted(
        self, webhook: Webhook, criteria: Criteria, aims: Any, request: AdmissionRequest, views: Views
    ) -> Seen | None:
        """Returns a request as a webhook wants to see it, None if it does not; raises the 403 of its conditions."""
        wanted = aim(request, criteria, aims, self._hooks.namespace_labels(request))
        if wanted is None:
            return None
        seen = await views.of(wanted.resource)
        conditions = webhook.conditions
        if conditions is not None:
            from proa.apiserver.admission.evaluation import Failed, values_of

            try:
                if not conditions.match(values_of(request, seen, self._authorizer)):
                    return None
            except Failed as problem:
                raise forbidden(request.resource.gvr, name_of_request(request), str(problem)) from None
        return seen

    async def _ask(self, webhook: Webhook, request: AdmissionRequest, seen: Seen) -> Obj | None:
        """Returns a webhook's response; raises its refusal, or that it failed (None if that is to be ignored)."""
        if request.dry_run and webhook.has_side_effects:
            raise bad_request(f'admission webhook "{webhook.name}" does not support dry run')
        try:
            response = await self._response(webhook, request, seen)
        except CallFailed as error:
            self._failed(webhook, request, error)
            return None
        for key, value in (response.get("auditAnnotations") or {}).items():
            request.annotations.setdefault(f"{webhook.name}/{key}", str(value))
        request.warnings += [str(text) for text in response.get("warnings") or ()]
        if not response.get("allowed"):
            raise denial(webhook.name, response.get("status") or {})
        return response

    async def _response(self, webhook: Webhook, request: AdmissionRequest, seen: Seen) -> Obj:
        from proa.apiserver.admission.reviews import review

        uid = str(uuid4())
        asked = review(request, seen, uid, webhook.version)
        given = webhook.given
        seconds = given.get("timeoutSeconds") or _TIMEOUT_SECONDS
        answer = await self._caller.post(given.get("clientConfig") or {}, seconds, msgspec.json.encode(asked))
        return checked_response(answer, uid, webhook.version, mutating=self.kind == "mutation")

    def _failed(self, webhook: Webhook, request: AdmissionRequest, error: CallFailed) -> None:
        """Raises that a webhook failed, unless it does not matter; then the audit log is to know."""
        if not webhook.ignores_failures:
            raise internal(f'failed calling webhook "{webhook.name}": {error}') from error
        key = f"failed-open.{self._annotation(webhook, request)}"
        request.annotations.setdefault(key, webhook.name)

    def _annotation(self, webhook: Webhook, request: AdmissionRequest) -> str:
        again = request.reinvocation is not None and request.reinvocation.running
        return f"{self.kind}.webhook.admission.k8s.io/round_{int(again)}_index_{webhook.index}"


class MutatingWebhooks(_Webhooks):
    name = "MutatingAdmissionWebhook"
    configurations = MUTATINGWEBHOOKCONFIGURATIONS
    kind = "mutation"

    async def mutate(self, request: AdmissionRequest) -> None:
        found = self._hooks.find(request)
        if not found or is_exempt(request.resource):
            return
        from proa.apiserver.admission.reinvocation import Rounds  # only where a webhook matches
        from proa.apiserver.admission.versions import Views

        rounds, views = Rounds.of(request, self.name), Views(request)
        rounds.begin(request.obj)
        for webhook, criteria, aims in found:
            seen = await self._wanted(webhook, criteria, aims, request, views)
            if seen is None or not rounds.wants(webhook.key):
                continue
            changed = await self._apply(webhook, request, seen)
            if changed:
                views.changed(seen)
            noted = {"configuration": webhook.configuration, "webhook": webhook.name, "mutated": changed}
            request.annotations.setdefault(self._annotation(webhook, request), msgspec.json.encode(noted).decode())
            rounds.asked(webhook.key, changed=changed, reinvocable=webhook.reinvocable)
        rounds.end(request.obj)

    async def _apply(self, webhook: Webhook, request: AdmissionRequest, seen: Seen) -> bool:
        """Asks a webhook and applies its patch; returns whether the object changed."""
        response = await self._ask(webhook, request, seen)
        if response is None or not response.get("patch"):
            return False
        try:
            patch = operations(response)
        except CallFailed as error:
            self._failed(webhook, request, error)
            return False
        if not patch:
            return False
        if seen.obj is None or request.obj is None:
            said = "attempted to modify the object, which is not supported for this operation"
            raise internal(f'admission webhook "{webhook.name}" {said}')
        try:
            patched = json_patch.apply(seen.obj, patch)
            if not isinstance(patched, dict):
                raise bad_request("the patched object is none")
            return await seen.put(seen.canonical(patched))
        except StatusError as error:
            raise internal(f'admission webhook "{webhook.name}" sent a patch that fails: {error.message}') from error


class ValidatingWebhooks(_Webhooks):
    name = "ValidatingAdmissionWebhook"
    configurations = VALIDATINGWEBHOOKCONFIGURATIONS
    kind = "validating"

    async def validate(self, request: AdmissionRequest) -> None:
        found = self._hooks.find(request)
        if not found or is_exempt(request.resource):
            return
        from proa.apiserver.admission.versions import Views  # only where a webhook matches

        views = Views(request)
        wanted = [
            (webhook, seen)
            for webhook, criteria, aims in found
            if (seen := await self._wanted(webhook, criteria, aims, request, views)) is not None
        ]
        if len(wanted) == 1:
            await self._ask(wanted[0][0], request, wanted[0][1])
            return
        results: Sequence[Any] = await asyncio.gather(
            *(self._ask(webhook, request, seen) for webhook, seen in wanted), return_exceptions=True
        )
        for result in results:
            if isinstance(result, BaseException):
                raise result


def checked_response(answer: bytes, uid: str, version: str, *, mutating: bool) -> Obj:
    """Returns the response within an AdmissionReview; raises CallFailed for an answer that is of no use."""
    try:
        review = msgspec.json.decode(answer)
    except (msgspec.DecodeError, RecursionError) as error:
        raise CallFailed(f"failed to call webhook: couldn't get version/kind; json parse error: {error}") from None
    response = review.get("response") if isinstance(review, dict) else None
    if not isinstance(response, dict):
        raise CallFailed("received invalid webhook response: webhook response was absent")
    problem = _problem(review, response, uid, mutating=mutating) if version == "v1" else ""
    if problem:
        raise CallFailed(f"received invalid webhook response: {problem}")
    for key, kind in (("warnings", list), ("auditAnnotations", dict), ("status", dict), ("patch", str)):
        if not isinstance(response.get(key), kind | None):
            raise CallFailed(f"received invalid webhook response: response.{key} has the wrong type")
    return response


def _problem(review: Obj, response: Obj, uid: str, *, mutating: bool) -> str:
    """Returns what is wrong with an answer of version v1; older ones are not looked at so closely."""
    if response.get("uid") != uid:
        return f'expected response.uid="{uid}", got "{response.get("uid") or ""}"'
    kind = review.get("apiVersion"), review.get("kind")
    if kind != ("admission.k8s.io/v1", "AdmissionReview"):
        return f"expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview, got {kind[0]}, Kind={kind[1]}"
    patch, patch_type = response.get("patch"), response.get("patchType")
    if not mutating:
        given = "response.patch" if patch else "response.patchType" if patch_type is not None else ""
        return f"validating webhook may not return {given}" if given else ""
    if patch and patch_type is None:
        return "webhook returned response.patch but not response.patchType"
    if not patch and patch_type is not None:
        return "webhook returned response.patchType but not response.patch"
    return 'webhook returned invalid response.patchType of ""' if patch_type == "" else ""


def operations(response: Obj) -> list[Obj]:
    """Returns the patch of a response; raises CallFailed."""
    kind = response.get("patchType")
    if kind not in (None, "JSONPatch"):
        raise CallFailed(f'unsupported patch type "{kind}"')
    try:
        patch: list[Obj] = msgspec.json.decode(base64.b64decode(response["patch"], validate=True))
        json_patch.check(patch)
    except (ValueError, binascii.Error, msgspec.DecodeError, RecursionError, StatusError) as error:
        raise CallFailed(f"received undecodable patch in webhook response: {error}") from None
    return patch


def denial(name: str, status: Obj) -> StatusError:
    """Returns the error for a webhook's refusal, with what its status says; without a code of an error it is a 400."""
    because = status.get("message") or status.get("reason")
    message = f'admission webhook "{name}" denied the request'
    message += f": {because}" if because else " without explanation"
    code = status.get("code")
    if not isinstance(code, int) or not 400 <= code < 600:
        code = 400
    details = status.get("details")
    return StatusError(code, str(status.get("reason") or ""), message, details if isinstance(details, dict) else None)


__all__ = ["CallFailed", "MutatingWebhooks", "ValidatingWebhooks", "WebhookCaller"]
