"""Identities in client certificates: the common name is the user, the organizations are the groups.

TLS has verified the chain; here certificates are only read, once each.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from proa.apiserver.authn.impersonation import AUTHENTICATED
from proa.client.interface import UserInfo
from proa.meta.errors import unauthorized

_KEPT_MAX = 4096
_UID_OID = "1.3.6.1.4.1.57683.2"
CREDENTIAL_ID = "authentication.kubernetes.io/credential-id"


class Identity(NamedTuple):
    """`user` is the same object for all requests with a certificate; None if front proxies use it (then `proxy` is its
    common name)."""

    user: UserInfo | None
    proxy: str
    not_before: datetime
    not_after: datetime


class ClientCertificates:
    """Reads certificates; `proxy_authorities` are the PEM certificates of the authority of front proxies."""

    def __init__(self, proxy_authorities: Sequence[bytes] = ()) -> None:
        self._proxy_authorities = proxy_authorities
        self._kept: OrderedDict[bytes, Identity] = OrderedDict()

    def identify(self, der: bytes, now: datetime) -> Identity:
        """Returns who a certificate names; raises the 401 StatusError if it has expired meanwhile or names nobody."""
        identity = self._kept.get(der)
        if identity is None:
            identity = self._read(der)
            self._kept[der] = identity
            if len(self._kept) > _KEPT_MAX:
                self._kept.popitem(last=False)
        if not identity.not_before <= now <= identity.not_after:
            raise unauthorized()
        return identity

    def _read(self, der: bytes) -> Identity:
        from cryptography import x509
        from cryptography.x509.oid import NameOID

        certificate = x509.load_der_x509_certificate(der)
        names = [str(one.value) for one in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
        groups = [str(one.value) for one in certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)]
        uids = [str(one.value) for one in certificate.subject if one.oid.dotted_string == _UID_OID]
        span = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        name = names[0] if names else ""
        if any(_issued(certificate, pem) for pem in self._proxy_authorities):
            return Identity(None, name, *span)
        if not name:
            raise unauthorized()
        fingerprint = hashlib.sha256(der).hexdigest()
        extra = {CREDENTIAL_ID: (f"X509SHA256={fingerprint}",)}
        if AUTHENTICATED not in groups:
            groups.append(AUTHENTICATED)
        return Identity(UserInfo(name, tuple(groups), uids[0] if uids else "", extra), "", *span)


def _issued(certificate, pem: bytes) -> bool:  # type: ignore[no-untyped-def]
    from cryptography import x509

    for authority in x509.load_pem_x509_certificates(pem):
        try:
            certificate.verify_directly_issued_by(authority)
        except (ValueError, TypeError):
            continue
        except Exception as error:
            if type(error).__name__ != "InvalidSignature":
                raise
            continue
        return True
    return False
