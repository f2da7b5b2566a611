"""ValidatingAdmissionPolicy, as of admissionregistration.k8s.io/v1."""

from __future__ import annotations

from proa.apis.define import columns, resource
from proa.apis.registry import StatusStrategy

VALIDATING_ADMISSION_POLICY = resource(
    "admissionregistration.k8s.io",
    "v1",
    "ValidatingAdmissionPolicy",
    "validatingadmissionpolicies",
    columns=columns("Name", "Validations:integer", "ParamKind", "Age"),
    namespaced=False,
    categories=("api-extensions",),
    status=StatusStrategy,
    storage_version_hash="6OxvlMmQ6is=",
)
