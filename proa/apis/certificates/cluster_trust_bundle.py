"""ClusterTrustBundle, as of certificates.k8s.io/v1beta1: certificates of authorities for pods to trust (KEP-3257).

One that belongs to a signer is named after it. Upstream serves it only where it is asked for; so does Proa.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from proa.apis import fields
from proa.apis.certificates.certificate_signing_request import signer_name
from proa.apis.define import columns, resource
from proa.apis.fields import Errors
from proa.apis.registry import Strategy
from proa.apis.shape import drop_zero
from proa.meta import names
from proa.meta.errors import invalid_field
from proa.meta.objects import Obj, name_of

TRUST_BUNDLE_BYTES_MAX = 1 << 20
_BLOCK = re.compile(r"-----BEGIN ([^-\n]+)-----\r?\n(.*?)-----END ([^-\n]+)-----[ \t]*\r?\n?", re.DOTALL)


def certificates_of(bundle: str) -> list[bytes]:
    """Returns the DER of a PEM bundle's certificates; raises ValueError with what is wrong with it."""
    found: list[bytes] = []
    rest = _BLOCK.sub("", bundle)
    if "-----BEGIN" in rest or "-----END" in rest:
        raise ValueError("a block is not closed")
    for kind, content, end in _BLOCK.findall(bundle):
        if kind != "CERTIFICATE" or end != kind:
            raise ValueError(f"entry {len(found)} has bad block type: {kind}")
        if ":" in content:
            raise ValueError(f"entry {len(found)} has PEM block headers")
        try:
            found.append(base64.b64decode("".join(content.split()), validate=True))
        except binascii.Error:
            raise ValueError(f"entry {len(found)} is not base64") from None
    return found


class ClusterTrustBundleStrategy(Strategy):
    field_labels = ("spec.signerName",)

    def default(self, obj: Obj) -> None:
        spec = obj.get("spec")
        if isinstance(spec, dict):
            drop_zero(spec, "signerName")

    def validate_name(self, name: str, prefix: bool) -> list[str]:
        return []  # depends on the signer: see `validate`

    def validate(self, obj: Obj) -> Errors:
        spec = obj.get("spec") or {}
        signer, bundle = spec.get("signerName") or "", spec.get("trustBundle") or ""
        errors = _name_errors(name_of(obj), signer)
        if len(bundle) > TRUST_BUNDLE_BYTES_MAX:
            errors.append(invalid_field("spec.trustBundle", "<value omitted>", "must be at most 1 MiB"))
            return errors
        return errors + _bundle_errors(bundle)

    def validate_update(self, obj: Obj, old: Obj) -> Errors:
        new, before = obj.get("spec") or {}, old.get("spec") or {}
        changed = new.get("trustBundle") != before.get("trustBundle")
        errors = _bundle_errors(new.get("trustBundle") or "") if changed else []
        return errors + fields.immutable(new.get("signerName"), before.get("signerName"), "spec.signerName")

    def selectable_fields(self, obj: Obj) -> Mapping[str, str]:
        return {"spec.signerName": (obj.get("spec") or {}).get("signerName") or ""}


def _name_errors(name: str, signer: str) -> Errors:
    prefix = signer.replace("/", ":") + ":" if signer else ""
    errors = signer_name(signer, "spec.signerName") if signer else []
    if not signer and ":" in name:
        why = ['ClusterTrustBundle without signer name must not have ":" in its name']
    elif not name.startswith(prefix):
        why = [f"ClusterTrustBundle for signerName {signer} must be named with prefix {prefix}"]
    else:
        why = names.dns1123_subdomain(name.removeprefix(prefix))
    return [invalid_field("metadata.name", name, one) for one in why] + errors


def _bundle_errors(bundle: str) -> Errors:
    try:
        found = certificates_of(bundle)
    except ValueError as error:
        return [invalid_field("spec.trustBundle", "<value omitted>", str(error))]
    if not found:
        return [invalid_field("spec.trustBundle", "<value omitted>", "at least one trust anchor must be provided")]
    if len(set(found)) < len(found):
        return [invalid_field("spec.trustBundle", "<value omitted>", "duplicate trust anchors")]
    for index, der in enumerate(found):
        if not _is_certificate(der):
            detail = f"entry {index} does not parse as X.509"
            return [invalid_field("spec.trustBundle", "<value omitted>", detail)]
    return []


def _is_certificate(der: bytes) -> bool:
    from cryptography import x509

    try:
        x509.load_der_x509_certificate(der)
    except ValueError:
        return False
    return True


def cells(obj: Obj, now: datetime) -> Sequence[Any]:
    return name_of(obj), (obj.get("spec") or {}).get("signerName") or ""


CLUSTER_TRUST_BUNDLE = resource(
    "certificates.k8s.io",
    "v1beta1",
    "ClusterTrustBundle",
    "clustertrustbundles",
    columns=columns("Name", "SignerName"),
    cells=cells,
    namespaced=False,
    strategy=ClusterTrustBundleStrategy(),
)
