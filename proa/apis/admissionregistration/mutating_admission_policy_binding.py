"""MutatingAdmissionPolicyBinding, as of admissionregistration.k8s.io/v1: where a mutating policy applies."""

from __future__ import annotations

from proa.apis.admissionregistration.policies import PolicyBindingStrategy
from proa.apis.admissionregistration.validating_admission_policy_binding import cells
from proa.apis.define import columns, resource

MUTATING_ADMISSION_POLICY_BINDING = resource(
    "admissionregistration.k8s.io",
    "v1",
    "MutatingAdmissionPolicyBinding",
    "mutatingadmissionpolicybindings",
    columns=columns("Name", "PolicyName", "ParamRef", "Age"),
    cells=cells,
    strategy=PolicyBindingStrategy(),
    namespaced=False,
    categories=("api-extensions",),
    storage_version_hash="90V5FRZZ3Zg=",
)
