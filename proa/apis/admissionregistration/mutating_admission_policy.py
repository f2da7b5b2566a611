"""MutatingAdmissionPolicy, as of admissionregistration.k8s.io/v1."""

from __future__ import annotations

from proa.apis.define import columns, resource

MUTATING_ADMISSION_POLICY = resource(
    "admissionregistration.k8s.io",
    "v1",
    "MutatingAdmissionPolicy",
    "mutatingadmissionpolicies",
    columns=columns("Name", "Mutations:integer", "ParamKind", "Age"),
    namespaced=False,
    categories=("api-extensions",),
    storage_version_hash="LYmCf+UMVdg=",
)
