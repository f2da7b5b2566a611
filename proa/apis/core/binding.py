"""Binding, as of v1."""

from __future__ import annotations

from proa.apis.define import resource

BINDING = resource(
    "",
    "v1",
    "Binding",
    "bindings",
    verbs=("create",),
)
