"""Admission webhooks: other servers that change or refuse writes.

Follows upstream's MutatingAdmissionWebhook and ValidatingAdmissionWebhook with AdmissionReview v1: mutating webhooks
one after the other in the order of their configurations' names, asked once more if another changed the object after
them (`reinvocationPolicy: IfNeeded`); validating ones all at once. `matchConditions` go to an evaluator, if there is
one; without it a webhook is asked whatever they say.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import ssl
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import quote, urlencode
from uuid import uuid4

import msgspec

from proa.apiserver.admission.base import Plugin
from proa.apiserver.admission.webhookrules import concerns, is_exempt
from proa.apiserver.contracts import AdmissionRequest
from proa.apiserver.live import Live
from proa.apiserver.resources import Resources
from proa.apiserver.special.endpoints import Endpoint, ServiceEndpoints
from proa.apiserver.special.reviews import user_object
from proa.client.resources import (
    MUTATINGWEBHOOKCONFIGURATIONS,
    NAMESPACES,
    VALIDATINGWEBHOOKCONFIGURATIONS,
)
from proa.meta.errors import StatusError, bad_request, internal
from proa.meta.gvk import GVR
from proa.meta.objects import Obj, labels_of, name_of
from proa.meta.patch import json_patch
from proa.wire.client import HttpClient
from proa.wire.http import BodyTooLarge

_ANSWER_BYTES_MAX = 3 << 20
_TIMEOUT_SECONDS = 10
# Whether a webhook's matchConditions hold; raises ValueError if they cannot be evaluated.
Conditions = Callable[[Obj, AdmissionRequest], bool]


class CallFailed(Exception):
    """A webhook could not be asked, or its answer is of no use."""


class WebhookCaller:
    """Asks webhooks, by URL or through their service's endpoints (which may be reachable through their node only)."""

    def __init__(self, endpoints: ServiceEndpoints) -> None:
        self._endpoints = endpoints
        self._clients: dict[str, HttpClient] = {}

    async def ask(self, webhook: Obj, review: bytes) -> Obj:
        """Returns the response within the AdmissionReview that a webhook answers with; raises CallFailed."""
        seconds = webhook.get("timeoutSeconds") or _TIMEOUT_SECONDS
        return _response(await self.post(webhook.get("clientConfig") or {}, seconds, review))

    async def post(self, config: Obj, seconds: int, review: bytes) -> bytes:
        """Returns what a webhook with this clientConfig answers to a review of any kind; raises CallFailed."""
        try:
            async with asyncio.timeout(seconds):
                url, endpoint = self._target(config)
                separator = "&" if "?" in url else "?"
                response = await self._client(config.get("caBundle") or "").request(
                    "POST",
                    f"{url}{separator}{urlencode({'timeout': f'{seconds}s'})}",
                    headers=[("Content-Type", "application/json"), ("Accept", "application/json")],
                    body=review,
                    address=endpoint.address if endpoint else None,
                    dial=endpoint.dial if endpoint else None,
                    route=endpoint.route if endpoint else "",
                )
                body = await response.read(max(_ANSWER_BYTES_MAX, 4 * len(review)))
        except TimeoutError:
            raise CallFailed(f"failed to call webhook: no answer within {seconds} s") from None
        except (OSError, ValueError, BodyTooLarge, StatusError) as error:
            raise CallFailed(f"failed to call webhook: {error or type(error).__name__}") from error
        if response.status != 200:
            raise CallFailed(f"an error on the server ({body[:200]!r}) has prevented the request from succeeding")
        return body

    def _client(self, bundle: str) -> HttpClient:
        client = self._clients.get(bundle)
        if client is None:
            authorities = base64.b64decode(bundle).decode() if bundle else None
            context = ssl.create_default_context(cadata=authorities)
            client = self._clients[bundle] = HttpClient(context=context)
        return client

    def _target(self, config: Obj) -> tuple[str, Endpoint | None]:
        """Returns the URL of a webhook and, if it is a service, the endpoint to ask; raises StatusErrors."""
        if config.get("url"):
            return config["url"], None
        reference = config.get("service") or {}
        namespace, name = reference.get("namespace") or "", reference.get("name") or ""
        number = reference.get("port") or 443
        path = quote(reference.get("path") or "/", safe="/?&=")
        url = f"https://{name}.{namespace}.svc:{number}{path}"
        return url, self._endpoints.pick(namespace, name, number)

    async def close(self) -> None:
        for client in self._clients.values():
            await client.close()


def _response(body: bytes) -> Obj:
    try:
        review = msgspec.json.decode(body)
        response = review["response"]
        if not isinstance(response, dict) or review.get("kind") != "AdmissionReview":
            raise TypeError
    except (msgspec.DecodeError, KeyError, TypeError, AttributeError):
        raise CallFailed("the webhook's answer is not an AdmissionReview with a response") from None
    return response


class _Webhooks(Plugin):
    """What mutating and validating webhooks share."""

    configurations: GVR

    def __init__(
        self, live: Live, resources: Resources, caller: WebhookCaller, conditions: Conditions | None = None
    ) -> None:
        self._live = live
        self._resources = resources
        self._caller = caller
        self._conditions = conditions

    def _concerned(self, request: AdmissionRequest) -> list[Obj]:
        configurations = self._live.list(self.configurations)
        if not configurations or is_exempt(request):
            return []
        definition = request.resource
        versions = [
            one.version
            for one in self._resources.all()
            if (one.group, one.plural) == (definition.group, definition.plural)
        ]
        labels = self._namespace_labels(request)
        return [
            webhook
            for configuration in sorted(configurations, key=name_of)
            for webhook in configuration.get("webhooks") or ()
            if concerns(webhook, request, versions, labels)
        ]

    def _namespace_labels(self, request: AdmissionRequest) -> Mapping[str, str]:
        if request.resource.plural == "namespaces" and not request.resource.group:
            return labels_of(request.obj or request.old or {})
        namespace = self._live.get(NAMESPACES, request.namespace) if request.namespace else None
        return labels_of(namespace) if namespace else {}

    async def _ask(self, webhook: Obj, request: AdmissionRequest) -> Obj | None:
        """Returns a webhook's response, None if it is left out; raises its refusal, or that it failed."""
        name = webhook.get("name") or ""
        if request.dry_run and webhook.get("sideEffects") not in ("None", "NoneOnDryRun"):
            raise bad_request(f'admission webhook "{name}" does not support dry run')
        uid = str(uuid4())
        try:
            if webhook.get("matchConditions") and self._conditions and not self._conditions(webhook, request):
                return None
            response = await self._caller.ask(webhook, msgspec.json.encode(review_of(request, uid)))
            if response.get("uid") != uid:
                raise CallFailed("the answer's uid is not that of the request")
        except (CallFailed, ValueError) as error:
            if webhook.get("failurePolicy") == "Ignore":
                return None
            raise internal(f'failed calling webhook "{name}": {error}') from error
        request.warnings += [str(text) for text in response.get("warnings") or ()]
        if not response.get("allowed"):
            raise _denial(name, response.get("status") or {})
        return response


class MutatingWebhooks(_Webhooks):
    name = "MutatingAdmissionWebhook"
    configurations = MUTATINGWEBHOOKCONFIGURATIONS

    async def mutate(self, request: AdmissionRequest) -> None:
        webhooks = self._concerned(request)
        changed_after: dict[int, bool] = {}
        for index, webhook in enumerate(webhooks):
            if await self._apply(webhook, request):
                changed_after = {**dict.fromkeys(changed_after, True), index: False}
            else:
                changed_after.setdefault(index, False)
        for index, webhook in enumerate(webhooks):
            if changed_after.get(index) and webhook.get("reinvocationPolicy") == "IfNeeded":
                await self._apply(webhook, request)

    async def _apply(self, webhook: Obj, request: AdmissionRequest) -> bool:
        """Asks a webhook and applies its patch; returns whether the object changed."""
        response = await self._ask(webhook, request)
        if not response or not response.get("patch") or request.obj is None:
            return False
        try:
            if response.get("patchType") not in (None, "JSONPatch"):
                raise ValueError("patchType must be JSONPatch")
            patch = msgspec.json.decode(base64.b64decode(response["patch"]))
            json_patch.check(patch)
            patched = json_patch.apply(request.obj, patch)
            if not isinstance(patched, dict):
                raise ValueError("the patched object is none")
        except (ValueError, binascii.Error, msgspec.DecodeError, StatusError) as error:
            raise internal(f'admission webhook "{webhook.get("name")}" sent an invalid patch: {error}') from error
        if patched == request.obj:
            return False
        request.obj.clear()
        request.obj.update(patched)
        return True


class ValidatingWebhooks(_Webhooks):
    name = "ValidatingAdmissionWebhook"
    configurations = VALIDATINGWEBHOOKCONFIGURATIONS

    async def validate(self, request: AdmissionRequest) -> None:
        webhooks = self._concerned(request)
        if not webhooks:
            return
        results: Sequence[Any] = await asyncio.gather(
            *(self._ask(webhook, request) for webhook in webhooks), return_exceptions=True
        )
        for result in results:
            if isinstance(result, BaseException):
                raise result


def review_of(request: AdmissionRequest, uid: str) -> Obj:
    """Returns the AdmissionReview that asks about a request."""
    definition = request.resource
    kind = {"group": definition.group, "version": definition.version, "kind": definition.kind}
    resource = {"group": definition.group, "version": definition.version, "resource": definition.plural}
    asked: Obj = {"uid": uid, "kind": kind, "resource": resource}
    if request.subresource:
        asked["subResource"] = request.subresource
    asked |= {"requestKind": kind, "requestResource": resource}
    if request.subresource:
        asked["requestSubResource"] = request.subresource
    if request.name:
        asked["name"] = request.name
    if request.namespace:
        asked["namespace"] = request.namespace
    asked["operation"] = request.operation
    asked["userInfo"] = user_object(request.user)
    asked["object"] = _typed(request, request.obj)
    asked["oldObject"] = _typed(request, request.old)
    asked["dryRun"] = request.dry_run
    options = {"CREATE": "CreateOptions", "UPDATE": "UpdateOptions", "DELETE": "DeleteOptions"}
    asked["options"] = {"kind": options.get(request.operation, "ConnectOptions"), "apiVersion": "meta.k8s.io/v1"}
    return {"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "request": asked}


def _typed(request: AdmissionRequest, obj: Obj | None) -> Obj | None:
    """Returns the object with its kind and version, which objects in process need not state."""
    if obj is None:
        return None
    return {"kind": request.resource.kind, "apiVersion": request.resource.api_version, **obj}


def _denial(name: str, status: Obj) -> StatusError:
    """Returns the error for a webhook's refusal, with what its status says."""
    because = status.get("message") or status.get("reason")
    message = f'admission webhook "{name}" denied the request'
    message += f": {because}" if because else " without explanation"
    code = status.get("code") or 0
    if not 400 <= code < 600:
        code = 403
    reason = status.get("reason") or ("Forbidden" if code == 403 else "")
    return StatusError(code, reason, message, status.get("details"))
