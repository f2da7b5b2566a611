"""Reads and signs X.509 certificate requests."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from proa.controllers.certificates.plan import Subject

_EXTENDED = {
    "client auth": ExtendedKeyUsageOID.CLIENT_AUTH,
    "server auth": ExtendedKeyUsageOID.SERVER_AUTH,
    "code signing": ExtendedKeyUsageOID.CODE_SIGNING,
    "email protection": ExtendedKeyUsageOID.EMAIL_PROTECTION,
    "timestamping": ExtendedKeyUsageOID.TIME_STAMPING,
    "ocsp signing": ExtendedKeyUsageOID.OCSP_SIGNING,
    "any": ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,
}
_BACKDATE = timedelta(minutes=5)


def parse(pem: bytes) -> tuple[x509.CertificateSigningRequest, Subject]:
    """Returns a request and what it asks for; raises ValueError if it is malformed or not signed by its own key."""
    request = x509.load_pem_x509_csr(pem)
    if not request.is_signature_valid:
        raise ValueError("the request's signature does not fit its key")

    def names(oid: x509.ObjectIdentifier) -> tuple[str, ...]:
        return tuple(str(one.value) for one in request.subject.get_attributes_for_oid(oid))

    common = names(NameOID.COMMON_NAME)
    subject = Subject(common[0] if common else "", names(NameOID.ORGANIZATION_NAME))
    try:
        alternative = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return request, subject
    return request, Subject(
        subject.common_name,
        subject.organizations,
        tuple(alternative.get_values_for_type(x509.DNSName)),
        tuple(str(one) for one in alternative.get_values_for_type(x509.IPAddress)),
        tuple(alternative.get_values_for_type(x509.RFC822Name)),
        tuple(alternative.get_values_for_type(x509.UniformResourceIdentifier)),
    )


class Signer:
    """Signs with a CA whose PEM files are read when they change, for `seconds_max` at most."""

    def __init__(self, certificate: Path, key: Path, seconds_max: int) -> None:
        self._paths = certificate, key
        self._seconds_max = seconds_max

    def sign(
        self,
        request: x509.CertificateSigningRequest,
        subject: Subject,
        usages: Sequence[str],
        seconds: int,
        now: datetime,
    ) -> bytes:
        """Returns the certificate in PEM; it ends with the CA's at the latest."""
        authority = x509.load_pem_x509_certificate(self._paths[0].read_bytes())
        key = serialization.load_pem_private_key(self._paths[1].read_bytes(), None)
        ends = min(now + timedelta(seconds=min(seconds, self._seconds_max)), authority.not_valid_after_utc)
        builder = (
            x509.CertificateBuilder()
            .subject_name(request.subject)
            .issuer_name(authority.subject)
            .public_key(request.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _BACKDATE)
            .not_valid_after(ends)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(usages), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(request.public_key()), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.public_key()),  # type: ignore[arg-type]
                critical=False,
            )
        )
        extended = [_EXTENDED[one] for one in usages if one in _EXTENDED]
        if extended:
            builder = builder.add_extension(x509.ExtendedKeyUsage(extended), critical=False)
        names = _alternative_names(subject)
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        made = builder.sign(key, hashes.SHA256())  # type: ignore[arg-type]
        return made.public_bytes(serialization.Encoding.PEM)


def _alternative_names(subject: Subject) -> list[x509.GeneralName]:
    return [
        *(x509.DNSName(one) for one in subject.dns_names),
        *(x509.IPAddress(ipaddress.ip_address(one)) for one in subject.addresses),
        *(x509.RFC822Name(one) for one in subject.emails),
        *(x509.UniformResourceIdentifier(one) for one in subject.uris),
    ]


def _key_usage(usages: Sequence[str]) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature="digital signature" in usages or "signing" in usages,
        content_commitment="content commitment" in usages,
        key_encipherment="key encipherment" in usages,
        data_encipherment="data encipherment" in usages,
        key_agreement="key agreement" in usages,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only="encipher only" in usages and "key agreement" in usages,
        decipher_only="decipher only" in usages and "key agreement" in usages,
    )
