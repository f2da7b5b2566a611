"""PriorityClass, as of scheduling.k8s.io/v1."""

from __future__ import annotations

from proa.apis.define import columns, resource

PRIORITY_CLASS = resource(
    "scheduling.k8s.io",
    "v1",
    "PriorityClass",
    "priorityclasses",
    columns=columns("Name", "Value:integer", "Global-Default:boolean", "Age", "PreemptionPolicy"),
    namespaced=False,
    short_names=("pc",),
    storage_version_hash="1QwjyaZjj3Y=",
)
