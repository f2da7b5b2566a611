"""The resources of certificates.k8s.io, in discovery order."""

from __future__ import annotations

from proa.apis.certificates.certificate_signing_request import CERTIFICATE_SIGNING_REQUEST
from proa.apis.certificates.cluster_trust_bundle import CLUSTER_TRUST_BUNDLE
from proa.apis.registry import ResourceDef

RESOURCES: tuple[ResourceDef, ...] = (CERTIFICATE_SIGNING_REQUEST,)
# Served only where they are asked for.
OPTIONAL: tuple[ResourceDef, ...] = (CLUSTER_TRUST_BUNDLE,)
