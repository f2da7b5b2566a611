"""ValidatingAdmissionPolicyBinding, as of admissionregistration.k8s.io/v1."""

from __future__ import annotations

from proa.apis.define import columns, resource

VALIDATING_ADMISSION_POLICY_BINDING = resource(
    "admissionregistration.k8s.io",
    "v1",
    "ValidatingAdmissionPolicyBinding",
    "validatingadmissionpolicybindings",
    columns=columns("Name", "PolicyName", "ParamRef", "Age"),
    namespaced=False,
    categories=("api-extensions",),
    storage_version_hash="v9715VZqakg=",
)
