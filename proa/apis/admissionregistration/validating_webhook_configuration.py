"""ValidatingWebhookConfiguration, as of admissionregistration.k8s.io/v1: webhooks that refuse requests."""

from __future__ import annotations

from proa.apis.admissionregistration.webhooks import WebhookConfigurationStrategy, cells
from proa.apis.define import columns, resource

VALIDATING_WEBHOOK_CONFIGURATION = resource(
    "admissionregistration.k8s.io",
    "v1",
    "ValidatingWebhookConfiguration",
    "validatingwebhookconfigurations",
    columns=columns("Name", "Webhooks:integer", "Age"),
    cells=cells,
    strategy=WebhookConfigurationStrategy(),
    namespaced=False,
    categories=("api-extensions",),
    storage_version_hash="B0wHjQmsGNk=",
)
