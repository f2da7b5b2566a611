"""Approves kubelets' requests, signs what is approved, deletes what is old."""

from __future__ import annotations

import base64
from datetime import datetime

from proa.client.resources import CERTIFICATESIGNINGREQUESTS, NODES, SUBJECTACCESSREVIEWS
from proa.controllers.certificates.plan import (
    KUBELET_CLIENT,
    KUBELET_SERVING,
    SIGNERS,
    Subject,
    are_own_names,
    conditions,
    is_approved,
    is_over,
    refusal,
)
from proa.controllers.conditions import condition, find
from proa.controllers.runtime import Context, Controller, Result, ignore_absent
from proa.meta.objects import Obj, name_of

_CLEAN_SECONDS = 3600.0
_NODE_SECONDS = 5.0


def _subject(request: Obj) -> Subject:
    from proa.controllers.certificates.x509 import parse

    return parse(base64.b64decode(request["spec"]["request"]))[1]


def _with(request: Obj, type: str, reason: str, message: str, now: datetime) -> Obj:
    made = condition(type, "True", reason, message, now, updated=True)
    status = {**(request.get("status") or {}), "conditions": [*conditions(request), made]}
    return {**request, "status": status}


class _RequestsController(Controller):
    """What looks at each request for a certificate."""

    service_account = "certificate-controller"
    event_source = "certificate-controller"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._requests = self.watch(CERTIFICATESIGNINGREQUESTS)


class CertificateApprover(_RequestsController):
    """Approves a kubelet's request for its client certificate if its user may make it."""

    name = "certificate-approver"

    async def reconcile(self, key: str) -> Result | None:
        request = self._requests.get(key)
        if request is None or conditions(request) or request["spec"].get("signerName") != KUBELET_CLIENT:
            return None
        spec = request["spec"]
        username = spec.get("username") or ""
        try:
            subject = _subject(request)
        except ValueError:
            return None
        if refusal(KUBELET_CLIENT, subject, spec.get("usages") or ()):
            return None
        own = username == subject.common_name
        for subresource in ("selfnodeclient", "nodeclient") if own else ("nodeclient",):
            if await self._may(spec, subresource):
                text = "Auto approving kubelet client certificate after SubjectAccessReview."
                if subresource == "selfnodeclient":
                    text = "Auto approving self kubelet client certificate after SubjectAccessReview."
                approved = _with(request, "Approved", "AutoApproved", text, self.clock.now())
                await self.client.update(CERTIFICATESIGNINGREQUESTS, approved, subresource="approval")
                return None
        return None

    async def _may(self, spec: Obj, subresource: str) -> bool:
        attributes = {
            "group": "certificates.k8s.io",
            "resource": "certificatesigningrequests",
            "verb": "create",
            "subresource": subresource,
            "version": "*",
        }
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SubjectAccessReview",
            "spec": {
                "user": spec.get("username"),
                "uid": spec.get("uid") or "",
                "groups": spec.get("groups") or [],
                "extra": spec.get("extra") or {},
                "resourceAttributes": attributes,
            },
        }
        answer = await self.client.create(SUBJECTACCESSREVIEWS, review)
        return bool((answer.get("status") or {}).get("allowed"))


class KubeletServingApprover(_RequestsController):
    """Approves kubelets' requests for serving certificates that name their own nodes only.

    Upstream leaves these to whoever made the cluster; clusters made by `proa up` have this approver, with rights of its
    own, so that any kubelet that asks for its serving certificate gets one.
    """

    name = "kubelet-serving-approver"
    service_account = "kubelet-serving-approver"
    event_source = "kubelet-serving-approver"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._nodes = self.need(NODES)

    async def reconcile(self, key: str) -> Result | None:
        request = self._requests.get(key)
        if request is None or conditions(request) or request["spec"].get("signerName") != KUBELET_SERVING:
            return None
        spec = request["spec"]
        try:
            subject = _subject(request)
        except ValueError:
            return None
        if spec.get("username") != subject.common_name or refusal(KUBELET_SERVING, subject, spec.get("usages") or ()):
            return None
        if not are_own_names(subject, self._nodes.objects()):
            return Result(_NODE_SECONDS)  # a kubelet may ask before it has reported its addresses
        text = "Auto approving kubelet serving certificate: it names the requesting node only."
        approved = _with(request, "Approved", "AutoApproved", text, self.clock.now())
        await ignore_absent(self.client.update(CERTIFICATESIGNINGREQUESTS, approved, subresource="approval"))
        return None


class CertificateSigner(_RequestsController):
    """Signs approved requests of the built-in signers with the cluster's CA."""

    name = "certificate-signer"

    async def reconcile(self, key: str) -> Result | None:
        request = self._requests.get(key)
        options = self.context.options
        if request is None or options.signing_certificate is None or options.signing_key is None:
            return None
        spec, status = request["spec"], request.get("status") or {}
        signer = spec.get("signerName")
        if signer not in SIGNERS or not is_approved(request) or status.get("certificate"):
            return None
        if find(conditions(request), "Failed") is not None:
            return None
        from proa.controllers.certificates.x509 import Signer, parse

        usages = spec.get("usages") or ()
        now = self.clock.now()
        try:
            parsed, subject = parse(base64.b64decode(spec["request"]))
            why = refusal(signer, subject, usages)
        except ValueError as error:
            why = f"unable to parse csr {name_of(request)!r}: {error}"
        if why:
            failed = _with(request, "Failed", "SignerValidationFailure", why, now)
            await ignore_absent(self.client.update(CERTIFICATESIGNINGREQUESTS, failed, subresource="status"))
            return None
        made = Signer(options.signing_certificate, options.signing_key, options.signing_seconds_max).sign(
            parsed, subject, usages, int(spec.get("expirationSeconds") or options.signing_seconds_max), now
        )
        signed = {**request, "status": {**status, "certificate": base64.b64encode(made).decode()}}
        await ignore_absent(self.client.update(CERTIFICATESIGNINGREQUESTS, signed, subresource="status"))
        return None


class CertificateCleaner(_RequestsController):
    """Deletes requests that are over."""

    name = "certificate-cleaner"

    async def reconcile(self, key: str) -> Result | None:
        request = self._requests.get(key)
        if request is None:
            return None
        if is_over(request, self.clock.now()):
            await ignore_absent(self.client.delete(CERTIFICATESIGNINGREQUESTS, key))
            return None
        return Result(_CLEAN_SECONDS)
