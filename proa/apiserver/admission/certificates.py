"""Certificate signing requests: approving and signing take a right on the signer."""

from __future__ import annotations

import base64
import binascii
from dataclasses import replace

from proa.apiserver.admission.base import Plugin, concerns, refusal
from proa.apiserver.contracts import AdmissionRequest, Attributes, Authorizer

_GROUP = "certificates.k8s.io"
_PLURAL = "certificatesigningrequests"
_CLIENT_SIGNER = "kubernetes.io/kube-apiserver-client"


def _concerns_status(request: AdmissionRequest, subresource: str) -> bool:
    return concerns(request, _PLURAL, "UPDATE", group=_GROUP, subresource=subresource)


class SignerRights(Plugin):
    """Upstream's CertificateApproval and CertificateSigning: the verbs `approve` and `sign` on the signer."""

    name = "CertificateApproval"
    resources = frozenset({("certificates.k8s.io", "certificatesigningrequests")})

    def __init__(self, authorizer: Authorizer) -> None:
        self._authorizer = authorizer

    async def validate(self, request: AdmissionRequest) -> None:
        if request.obj is None or request.old is None:
            return
        if _concerns_status(request, "approval"):
            self._require(request, "approve")
        elif _concerns_status(request, "status"):
            new, old = request.obj.get("status") or {}, request.old.get("status") or {}
            if any(new.get(key) != old.get(key) for key in ("certificate", "conditions")):
                self._require(request, "sign")

    def _require(self, request: AdmissionRequest, verb: str) -> None:
        signer = ((request.old or {}).get("spec") or {}).get("signerName") or ""
        if not may_with_signer(self._authorizer, request, verb, signer):
            raise refusal(request, f'user not permitted to {verb} requests with signerName "{signer}"')


def may_with_signer(authorizer: Authorizer, request: AdmissionRequest, verb: str, signer: str) -> bool:
    """Tells whether the user has a right on a signer, or on all signers of its domain."""
    whole = Attributes(user=request.user, verb=verb, group=_GROUP, version="*", resource="signers", name=signer)
    domain = replace(whole, name=f"{signer.partition('/')[0]}/*")
    return any(authorizer.authorize(one).allowed for one in (whole, domain))


class ClusterTrustBundleAttest(Plugin):
    """Who writes a trust bundle of a signer needs the verb `attest` on it."""

    name = "ClusterTrustBundleAttest"
    resources = frozenset({("certificates.k8s.io", "clustertrustbundles")})

    def __init__(self, authorizer: Authorizer) -> None:
        self._authorizer = authorizer

    async def validate(self, request: AdmissionRequest) -> None:
        if not concerns(request, "clustertrustbundles", "CREATE", "UPDATE", group=_GROUP):
            return
        new, old = ((one or {}).get("spec") or {} for one in (request.obj, request.old))
        if request.old is not None and new == old:
            return  # metadata only: the garbage collector, for example
        signer = new.get("signerName") or ""
        if signer and not may_with_signer(self._authorizer, request, "attest", signer):
            raise refusal(request, f'user not permitted to attest for signerName "{signer}"')


class CertificateSubjectRestriction(Plugin):
    """Nobody gets a client certificate of system:masters by asking for it."""

    name = "CertificateSubjectRestriction"
    resources = frozenset({("certificates.k8s.io", "certificatesigningrequests")})

    async def validate(self, request: AdmissionRequest) -> None:
        if not concerns(request, _PLURAL, "CREATE", group=_GROUP) or request.obj is None:
            return
        spec = request.obj.get("spec") or {}
        if spec.get("signerName") == _CLIENT_SIGNER and "system:masters" in _organizations(spec.get("request") or ""):
            raise refusal(request, f"use of {_CLIENT_SIGNER} signer with system:masters group is not allowed")


def _organizations(encoded: str) -> list[str]:
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    try:
        csr = x509.load_pem_x509_csr(base64.b64decode(encoded))
    except (ValueError, binascii.Error):
        return []
    return [str(one.value) for one in csr.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)]
