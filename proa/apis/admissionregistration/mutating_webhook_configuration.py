"""MutatingWebhookConfiguration, as of admissionregistration.k8s.io/v1."""

from __future__ import annotations

from proa.apis.define import columns, resource

MUTATING_WEBHOOK_CONFIGURATION = resource(
    "admissionregistration.k8s.io",
    "v1",
    "MutatingWebhookConfiguration",
    "mutatingwebhookconfigurations",
    columns=columns("Name", "Webhooks:integer", "Age"),
    namespaced=False,
    categories=("api-extensions",),
    storage_version_hash="Sqi0GUgDaX0=",
)
