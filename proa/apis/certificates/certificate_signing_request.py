"""CertificateSigningRequest, as of certificates.k8s.io/v1: a request for an X.509 certificate and its approval.

Who asks is written down by the server and never changes; the main resource's update changes metadata only.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from proa.apis import fields, tables
from proa.apis.define import READ_WRITE, columns, resource
from proa.apis.fields import Errors
from proa.apis.registry import Requestor, StatusStrategy, Strategy, Subresource
from proa.apis.shape import child, children, drop_zero, keep, keep_status
from proa.meta import names
from proa.meta.errors import duplicate_field, forbidden_field, invalid_field, required_field, unsupported_field
from proa.meta.gvk import GVK
from proa.meta.objects import Obj, copy_object, name_of

USAGES = (
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
)
LEGACY_SIGNER = "kubernetes.io/legacy-unknown"
_DECISIONS = ("Approved", "Denied")
_EXPIRATION_SECONDS_MIN = 600
_PEM = re.compile(r"-----BEGIN ([^-]+)-----\s(.*?)-----END \1-----", re.DOTALL)


def decode_pem(data: str) -> list[tuple[str, bytes]]:
    """Returns (type, content) of the PEM blocks in base64 encoded text, which is how an object holds bytes."""
    try:
        text = base64.b64decode(data or "").decode("latin-1")
        return [(found[1], base64.b64decode("".join(found[2].split()))) for found in _PEM.finditer(text)]
    except binascii.Error:
        return []


def request_problem(data: str) -> str:
    """Returns what is wrong with a PEM certificate request (base64 encoded), or an empty text."""
    blocks = decode_pem(data)
    if not blocks or blocks[0][0] != "CERTIFICATE REQUEST":
        return "PEM block type must be CERTIFICATE REQUEST"
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

    try:
        if not x509.load_der_x509_csr(blocks[0][1]).is_signature_valid:
            return "the request's signature is not valid"
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm) as error:
        return f"not a certificate request: {error}"
    return ""


def certificate_problem(data: str) -> str:
    """Returns what is wrong with an issued certificate chain (PEM, base64 encoded), or an empty text."""
    blocks = decode_pem(data)
    if not blocks:
        return "must contain at least one CERTIFICATE PEM block"
    if any(kind != "CERTIFICATE" for kind, _ in blocks):
        return "only CERTIFICATE PEM blocks are allowed"
    from cryptography import x509

    try:
        for _, content in blocks:
            x509.load_der_x509_certificate(content)
    except ValueError as error:
        return f"not a certificate: {error}"
    return ""


class CertificateSigningRequestStrategy(Strategy):
    field_labels = ("spec.signerName",)

    def selectable_fields(self, obj: Obj) -> Mapping[str, str]:
        return {"spec.signerName": (obj.get("spec") or {}).get("signerName") or ""}

    def default(self, obj: Obj) -> None:
        drop_zero(child(obj, "spec"), "usages", "username", "uid", "groups", "extra")
        drop_zero(child(obj, "status"), "conditions", "certificate")

    def prepare_create(self, obj: Obj) -> None:
        obj["status"] = {}
        for key in ("username", "uid", "groups", "extra"):
            obj["spec"].pop(key, None)

    def stamp(self, obj: Obj, old: Obj | None, now: str, requestor: Requestor) -> None:
        if old is not None:
            return
        who: Obj = {"username": requestor.name, "uid": requestor.uid, "groups": list(requestor.groups)}
        who["extra"] = {key: list(values) for key, values in requestor.extra.items()}
        obj["spec"] |= {key: value for key, value in who.items() if value}

    def prepare_update(self, obj: Obj, old: Obj) -> None:
        keep(obj, old, ("spec",))
        keep_status(obj, old)

    def validate(self, obj: Obj) -> Errors:
        spec = obj.get("spec") or {}
        errors: Errors = []
        problem = request_problem(spec.get("request") or "")
        if problem:
            errors.append(invalid_field("spec.request", spec.get("request"), problem))
        usages = spec.get("usages") or []
        if not usages:
            errors.append(required_field("spec.usages"))
        for index, usage in enumerate(usages):
            if usage not in USAGES:
                errors.append(unsupported_field(f"spec.usages[{index}]", usage, USAGES))
            elif usage in usages[:index]:
                errors.append(duplicate_field(f"spec.usages[{index}]", usage))
        errors += signer_name(spec.get("signerName") or "", "spec.signerName")
        seconds = spec.get("expirationSeconds")
        if seconds is not None and seconds < _EXPIRATION_SECONDS_MIN:
            detail = f"may not specify a duration less than {_EXPIRATION_SECONDS_MIN} seconds (10 minutes)"
            errors.append(invalid_field("spec.expirationSeconds", seconds, detail))
        return errors + _conditions(obj)

    def validate_update(self, obj: Obj, old: Obj) -> Errors:
        return []


def signer_name(signer: str, path: str) -> Errors:
    """A domain of at least two parts, and after a slash a name of DNS labels joined by dots."""
    if not signer:
        return [required_field(path)]
    domain, slash, name = signer.partition("/")
    if not slash or "/" in name:
        detail = "must be a fully qualified domain and path of the form 'example.com/signer-name'"
        return [invalid_field(path, signer, detail)]
    bad = [
        *(problem for part in domain.split(".") for problem in names.dns1123_label(part)),
        *(["should be a domain with at least two segments separated by dots"] if "." not in domain else []),
        *names.dns1123_subdomain(name),
    ]
    if signer == LEGACY_SIGNER:
        bad.append("the legacy signerName is not allowed via this API version")
    return fields.problems(bad, path, signer)


def _conditions(obj: Obj) -> Errors:
    errors: Errors = []
    seen: set[str] = set()
    for index, one in enumerate(children(obj.get("status"), "conditions")):
        path = f"status.conditions[{index}]"
        kind, status = one.get("type") or "", one.get("status") or ""
        if not kind:
            errors.append(required_field(f"{path}.type"))
        if kind in (*_DECISIONS, "Failed"):
            errors += fields.one_of(status, f"{path}.status", ("True",), missing="required")
        else:
            errors += fields.one_of(status, f"{path}.status", ("True", "False", "Unknown"), missing="required")
        if kind in seen:
            errors.append(duplicate_field(f"{path}.type", kind))
        if kind in _DECISIONS and seen.intersection(_DECISIONS) - {kind}:
            detail = "Approved and Denied conditions are mutually exclusive"
            errors.append(invalid_field("status.conditions", kind, detail))
        seen.add(kind)
    return errors


class _DecisionStrategy(StatusStrategy):
    """What `approval` and `status` share: who asked stays, a decision is never taken back, times are kept."""

    may_decide = False

    def prepare_update(self, obj: Obj, old: Obj) -> None:
        super().prepare_update(obj, old)
        drop_zero(child(obj, "status"), "conditions", "certificate")

    def stamp(self, obj: Obj, old: Obj, now: str) -> None:
        before = {one.get("type"): one for one in children(old.get("status"), "conditions")}
        stamped = []
        for one in copy_object(children(obj.get("status"), "conditions")):
            was = before.get(one.get("type"))
            if not one.get("lastUpdateTime"):
                one["lastUpdateTime"] = now
            if not one.get("lastTransitionTime"):
                same = was is not None and was.get("status") == one.get("status")
                one["lastTransitionTime"] = (was or {}).get("lastTransitionTime", now) if same else now
            stamped.append(one)
        if stamped:
            obj["status"]["conditions"] = stamped

    def validate_update(self, obj: Obj, old: Obj) -> Errors:
        errors = _conditions(obj)
        new, before = (children(one.get("status"), "conditions") for one in (obj, old))
        for kind in (*_DECISIONS, "Failed"):
            was = [one for one in before if one.get("type") == kind]
            now = [one for one in new if one.get("type") == kind]
            if was and not now:
                detail = f'updates may not remove a condition of type "{kind}"'
                errors.append(forbidden_field("status.conditions", detail))
            elif now and not was and kind in _DECISIONS and not self.may_decide:
                detail = f'updates may not add a condition of type "{kind}"'
                errors.append(forbidden_field("status.conditions", detail))
        return errors + self._certificate(obj, old)

    def _certificate(self, obj: Obj, old: Obj) -> Errors:
        new, before = ((one.get("status") or {}).get("certificate") or "" for one in (obj, old))
        if new == before:
            return []
        if before:
            return [forbidden_field("status.certificate", "updates may not modify existing certificate content")]
        problem = certificate_problem(new)
        return [invalid_field("status.certificate", "<certificate data>", problem)] if problem else []


class ApprovalStrategy(_DecisionStrategy):
    may_decide = True

    def prepare_update(self, obj: Obj, old: Obj) -> None:
        super().prepare_update(obj, old)
        keep(obj["status"], old.get("status") or {}, ("certificate",))


def cells(obj: Obj, now: datetime) -> Sequence[Any]:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    seconds = spec.get("expirationSeconds")
    given = {one.get("type") for one in children(status, "conditions")}
    state = "Denied" if "Denied" in given else "Approved" if "Approved" in given else "Pending"
    if "Failed" in given:
        state += ",Failed"
    if status.get("certificate"):
        state += ",Issued"
    return (
        name_of(obj),
        tables.age(obj, now),
        spec.get("signerName") or tables.NONE,
        spec.get("username", ""),
        tables.human_duration(seconds) if seconds is not None else tables.NONE,
        state,
    )


_STRATEGY = CertificateSigningRequestStrategy()

CERTIFICATE_SIGNING_REQUEST = resource(
    "certificates.k8s.io",
    "v1",
    "CertificateSigningRequest",
    "certificatesigningrequests",
    columns=columns("Name", "Age", "SignerName", "Requestor", "RequestedDuration", "Condition"),
    cells=cells,
    namespaced=False,
    short_names=("csr",),
    strategy=_STRATEGY,
    status=_DecisionStrategy(_STRATEGY),
    subresources=(
        Subresource(
            name="approval",
            verbs=READ_WRITE,
            kind=GVK("certificates.k8s.io", "v1", "CertificateSigningRequest"),
            strategy=ApprovalStrategy(_STRATEGY),
        ),
    ),
    storage_version_hash="95fRKMXA+00=",
)
