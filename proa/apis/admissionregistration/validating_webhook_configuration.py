"""ValidatingWebhookConfiguration, as of admissionregistration.k8s.io/v1."""

from __future__ import annotations

from proa.apis.define import columns, resource

VALIDATING_WEBHOOK_CONFIGURATION = resource(
    "admissionregistration.k8s.io",
    "v1",
    "ValidatingWebhookConfiguration",
    "validatingwebhookconfigurations",
    columns=columns("Name", "Webhooks:integer", "Age"),
    namespaced=False,
    categories=("api-extensions",),
    storage_version_hash="B0wHjQmsGNk=",
)
