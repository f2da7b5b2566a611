"""IngressClass, as of networking.k8s.io/v1: which controller serves an Ingress."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from proa.apis import fields, tables
from proa.apis.define import columns, resource
from proa.apis.fields import Errors, problems
from proa.apis.networking.ingress import typed_reference
from proa.apis.registry import Strategy
from proa.apis.shape import child, set_default
from proa.meta import names
from proa.meta.errors import (
    FieldError,
    forbidden_field,
    invalid_field,
    required_field,
    too_long_field,
    unsupported_field,
)
from proa.meta.objects import Obj, name_of

_CONTROLLER_LENGTH_MAX = 250
_PATH = re.compile(r"[A-Za-z0-9/\-._~%!$&'()*+,;=:]+")


def domain_prefixed_path(text: str, path: str) -> Errors:
    """A DNS subdomain, a slash and a URL path, such as `acme.io/foo`."""
    domain, _, rest = text.partition("/")
    if not domain or not rest:
        return [invalid_field(path, text, 'must be a domain-prefixed path (such as "acme.io/foo")')]
    errors: list[FieldError] = problems(names.dns1123_subdomain(domain), path, domain)
    if not _PATH.fullmatch(rest):
        errors.append(invalid_field(path, rest, "must consist of characters that are valid in a URL path"))
    return errors


class IngressClassStrategy(Strategy):
    generation = True

    def default(self, obj: Obj) -> None:
        parameters = child(obj, "spec").get("parameters")
        if parameters is not None:
            set_default(parameters, "scope", "Cluster")

    def validate(self, obj: Obj) -> Errors:
        spec = obj.get("spec") or {}
        controller = spec.get("controller") or ""
        if not controller:
            errors: Errors = [required_field("spec.controller")]
        elif len(controller) > _CONTROLLER_LENGTH_MAX:
            errors = [too_long_field("spec.controller", controller, _CONTROLLER_LENGTH_MAX)]
        else:
            errors = domain_prefixed_path(controller, "spec.controller")
        parameters = spec.get("parameters")
        return errors + (_parameters(parameters, "spec.parameters") if parameters is not None else [])

    def validate_update(self, obj: Obj, old: Obj) -> Errors:
        new, before = (one["spec"].get("controller") for one in (obj, old))
        return fields.immutable(new, before, "spec.controller") + self.validate(obj)


def _parameters(reference: Obj, path: str) -> Errors:
    errors = typed_reference(reference, path)
    scope, namespace = reference.get("scope"), reference.get("namespace")
    if scope == "Namespace":
        if not namespace:
            errors.append(required_field(f"{path}.namespace", "`parameters.scope` is set to 'Namespace'"))
        else:
            errors += problems(names.dns1123_label(namespace), f"{path}.namespace", namespace)
    elif scope == "Cluster":
        if namespace is not None:
            errors.append(forbidden_field(f"{path}.namespace", "`parameters.scope` is set to 'Cluster'"))
    else:
        errors.append(unsupported_field(f"{path}.scope", scope, ("Cluster", "Namespace")))
    return errors


def cells(obj: Obj, now: datetime) -> Sequence[Any]:
    spec = obj.get("spec") or {}
    parameters = spec.get("parameters")
    shown = tables.NONE
    if parameters:
        kind, group = parameters.get("kind", ""), parameters.get("apiGroup")
        shown = f"{kind}{'.' + group if group else ''}/{parameters.get('name', '')}"
    return name_of(obj), spec.get("controller", ""), shown, tables.age(obj, now)


INGRESS_CLASS = resource(
    "networking.k8s.io",
    "v1",
    "IngressClass",
    "ingressclasses",
    columns=columns("Name", "Controller", "Parameters", "Age"),
    cells=cells,
    strategy=IngressClassStrategy(),
    namespaced=False,
    storage_version_hash="l/iqIbDgFyQ=",
)
