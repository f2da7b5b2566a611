"""EndpointSlice, as of discovery.k8s.io/v1."""

from __future__ import annotations

from proa.apis.define import columns, resource

ENDPOINT_SLICE = resource(
    "discovery.k8s.io",
    "v1",
    "EndpointSlice",
    "endpointslices",
    columns=columns("Name", "AddressType", "Ports", "Endpoints", "Age"),
    storage_version_hash="qgS0xkrxYAI=",
)
