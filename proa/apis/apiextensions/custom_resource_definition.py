"""CustomResourceDefinition, as of apiextensions.k8s.io/v1."""

from __future__ import annotations

from proa.apis.define import columns, resource
from proa.apis.registry import StatusStrategy

CUSTOM_RESOURCE_DEFINITION = resource(
    "apiextensions.k8s.io",
    "v1",
    "CustomResourceDefinition",
    "customresourcedefinitions",
    columns=columns("Name", "Created At:date"),
    namespaced=False,
    short_names=("crd", "crds"),
    categories=("api-extensions",),
    status=StatusStrategy,
    storage_version_hash="jfWCUB31mvA=",
)
