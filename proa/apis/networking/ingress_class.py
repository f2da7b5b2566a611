"""IngressClass, as of networking.k8s.io/v1."""

from __future__ import annotations

from proa.apis.define import columns, resource

INGRESS_CLASS = resource(
    "networking.k8s.io",
    "v1",
    "IngressClass",
    "ingressclasses",
    columns=columns("Name", "Controller", "Parameters", "Age"),
    namespaced=False,
    storage_version_hash="l/iqIbDgFyQ=",
)
