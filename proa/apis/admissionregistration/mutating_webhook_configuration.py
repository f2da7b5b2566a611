"""MutatingWebhookConfiguration, as of admissionregistration.k8s.io/v1: webhooks that change or refuse requests."""

from __future__ import annotations

from proa.apis.admissionregistration.webhooks import WebhookConfigurationStrategy, cells
from proa.apis.define import columns, resource


class MutatingWebhookConfigurationStrategy(WebhookConfigurationStrategy):
    mutating = True


MUTATING_WEBHOOK_CONFIGURATION = resource(
    "admissionregistration.k8s.io",
    "v1",
    "MutatingWebhookConfiguration",
    "mutatingwebhookconfigurations",
    columns=columns("Name", "Webhooks:integer", "Age"),
    cells=cells,
    strategy=MutatingWebhookConfigurationStrategy(),
    namespaced=False,
    categories=("api-extensions",),
    storage_version_hash="Sqi0GUgDaX0=",
)
