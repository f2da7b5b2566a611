"""CertificateSigningRequest, as of certificates.k8s.io/v1."""

from __future__ import annotations

from proa.apis.define import READ_WRITE, columns, resource
from proa.apis.registry import StatusStrategy, Strategy, Subresource
from proa.meta.gvk import GVK

_STRATEGY = Strategy()

CERTIFICATE_SIGNING_REQUEST = resource(
    "certificates.k8s.io",
    "v1",
    "CertificateSigningRequest",
    "certificatesigningrequests",
    columns=columns("Name", "Age", "SignerName", "Requestor", "RequestedDuration", "Condition"),
    namespaced=False,
    short_names=("csr",),
    strategy=_STRATEGY,
    status=StatusStrategy,
    subresources=(
        Subresource(
            name="approval",
            verbs=READ_WRITE,
            kind=GVK("certificates.k8s.io", "v1", "CertificateSigningRequest"),
            strategy=StatusStrategy(_STRATEGY),
        ),
    ),
    storage_version_hash="95fRKMXA+00=",
)
