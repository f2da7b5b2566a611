"""Binding: puts a pod on a node. A write without an object of its own; the API server has a handler for it."""

from __future__ import annotations

from proa.apis.define import resource
from proa.apis.fields import Errors
from proa.apis.registry import Strategy
from proa.meta.errors import required_field, unsupported_field
from proa.meta.objects import Obj


class BindingStrategy(Strategy):
    def validate(self, obj: Obj) -> Errors:
        target = obj.get("target") or {}
        errors: Errors = []
        if target.get("kind") not in (None, "", "Node"):
            errors.append(unsupported_field("target.kind", target.get("kind"), ("Node", "<empty>")))
        if not target.get("name"):
            errors.append(required_field("target.name"))
        return errors


BINDING = resource(
    "",
    "v1",
    "Binding",
    "bindings",
    strategy=BindingStrategy(),
    verbs=("create",),
)
