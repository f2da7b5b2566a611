"""NetworkPolicy, as of networking.k8s.io/v1."""

from __future__ import annotations

from proa.apis.define import columns, resource

NETWORK_POLICY = resource(
    "networking.k8s.io",
    "v1",
    "NetworkPolicy",
    "networkpolicies",
    columns=columns("Name", "Pod-Selector", "Age"),
    short_names=("netpol",),
    storage_version_hash="YpfwF18m1G8=",
)
