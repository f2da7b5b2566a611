"""Ingress, as of networking.k8s.io/v1: HTTP routes to services."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from proa.apis import fields, tables
from proa.apis.define import columns, resource
from proa.apis.fields import Errors, problems
from proa.apis.registry import StatusStrategy, Strategy
from proa.apis.shape import child, children, drop_zero, keep_status
from proa.meta import names
from proa.meta.errors import invalid_field, required_field, unsupported_field
from proa.meta.objects import Obj, annotations_of, name_of

CLASS_ANNOTATION = "kubernetes.io/ingress.class"

_PATH_TYPES = ("Exact", "ImplementationSpecific", "Prefix")
_FORBIDDEN_SEQUENCES = ("//", "/./", "/../", "%2f", "%2F")
_FORBIDDEN_SUFFIXES = ("/..", "/.")


class IngressStrategy(Strategy):
    generation = True

    def default(self, obj: Obj) -> None:
        drop_zero(child(obj, "spec"), "rules", "tls")
        child(child(obj, "status"), "loadBalancer")

    def prepare_create(self, obj: Obj) -> None:
        obj["status"] = {"loadBalancer": {}}

    def prepare_update(self, obj: Obj, old: Obj) -> None:
        keep_status(obj, old)

    def validate(self, obj: Obj) -> Errors:
        errors = self._validate(obj)
        chosen = (obj.get("spec") or {}).get("ingressClassName")
        annotated = annotations_of(obj).get(CLASS_ANNOTATION)
        if chosen is not None and annotated is not None and annotated != chosen:
            detail = "must match `ingressClassName` when both are specified"
            errors.append(invalid_field(f"annotations.{CLASS_ANNOTATION}", annotated, detail))
        return errors

    def validate_update(self, obj: Obj, old: Obj) -> Errors:
        return self._validate(obj)

    def _validate(self, obj: Obj) -> Errors:
        spec = obj.get("spec") or {}
        errors: Errors = []
        if not spec.get("rules") and spec.get("defaultBackend") is None:
            errors.append(invalid_field("spec", None, "either `defaultBackend` or `rules` must be specified"))
        if spec.get("defaultBackend") is not None:
            errors += _backend(spec["defaultBackend"], "spec.defaultBackend")
        for index, rule in enumerate(children(spec, "rules")):
            errors += _rule(rule, f"spec.rules[{index}]")
        for index, tls in enumerate(children(spec, "tls")):
            errors += _tls(tls, f"spec.tls[{index}]")
        if spec.get("ingressClassName") is not None:
            chosen = spec["ingressClassName"]
            errors += problems(names.dns1123_subdomain(chosen), "spec.ingressClassName", chosen)
        return errors


def _host(host: str, path: str) -> Errors:
    check = names.wildcard_subdomain if "*" in host else names.dns1123_subdomain
    return problems(check(host), path, host)


def _rule(rule: Obj, path: str) -> Errors:
    errors: Errors = []
    host = rule.get("host") or ""
    if host and not names.ip(host):
        errors.append(invalid_field(f"{path}.host", host, "must be a DNS name, not an IP address"))
    elif host:
        errors += _host(host, f"{path}.host")
    http = rule.get("http")
    if http is None:
        return errors
    paths = children(http, "paths")
    if not paths:
        errors.append(required_field(f"{path}.http.paths"))
    for index, one in enumerate(paths):
        errors += _http_path(one, f"{path}.http.paths[{index}]")
    return errors


def _http_path(one: Obj, path: str) -> Errors:
    kind, route = one.get("pathType"), one.get("path") or ""
    if kind is None:
        return [required_field(f"{path}.pathType", "pathType must be specified")]
    errors: Errors = []
    if kind not in _PATH_TYPES:
        errors.append(unsupported_field(f"{path}.pathType", kind, _PATH_TYPES))
    elif not route.startswith("/") and (route or kind != "ImplementationSpecific"):
        errors.append(invalid_field(f"{path}.path", route, "must be an absolute path"))
    if kind in ("Exact", "Prefix") and route:
        bad = [f"must not contain '{one}'" for one in _FORBIDDEN_SEQUENCES if one in route]
        bad += [f"cannot end with '{one}'" for one in _FORBIDDEN_SUFFIXES if route.endswith(one)]
        errors += problems(bad, f"{path}.path", route)
    return errors + _backend(one.get("backend") or {}, f"{path}.backend")


def _backend(backend: Obj, path: str) -> Errors:
    service, target = backend.get("service"), backend.get("resource")
    if service is not None and target is not None:
        return [invalid_field(path, "", "cannot set both resource and service backends")]
    if target is not None:
        return typed_reference(target, f"{path}.resource")
    if service is None:
        return [invalid_field(path, "", "resource or service backend is required")]
    errors: Errors = []
    name = service.get("name") or ""
    if not name:
        errors.append(required_field(f"{path}.service.name"))
    else:
        errors += problems(names.dns1123_label(name), f"{path}.service.name", name)
    port = service.get("port") or {}
    port_name, number = port.get("name") or "", port.get("number") or 0
    if port_name and number:
        errors.append(invalid_field(path, "", "cannot set both port name & port number"))
    elif port_name:
        errors += problems(names.port_name(port_name), f"{path}.service.port.name", port_name)
    elif number:
        errors += fields.port_number(number, f"{path}.service.port.number")
    else:
        errors.append(required_field(path, "port name or number is required"))
    return errors


def typed_reference(reference: Obj, path: str) -> Errors:
    """Checks a reference by apiGroup, kind and name."""
    errors: Errors = []
    group = reference.get("apiGroup")
    if group is not None:
        errors += problems(names.dns1123_subdomain(group), f"{path}.apiGroup", group)
    for key in ("kind", "name"):
        value = reference.get(key) or ""
        if not value:
            errors.append(required_field(f"{path}.{key}"))
        else:
            errors += problems(names.path_segment(value), f"{path}.{key}", value)
    return errors


def _tls(tls: Obj, path: str) -> Errors:
    errors: Errors = []
    for index, host in enumerate(tls.get("hosts") or []):
        errors += _host(host, f"{path}.hosts[{index}]")
    secret = tls.get("secretName") or ""
    return errors + (problems(names.dns1123_subdomain(secret), f"{path}.secretName", secret) if secret else [])


class IngressStatusStrategy(StatusStrategy):
    def validate_update(self, obj: Obj, old: Obj) -> Errors:
        errors: Errors = []
        balancer = (obj.get("status") or {}).get("loadBalancer")
        for index, one in enumerate(children(balancer, "ingress")):
            path = f"status.loadBalancer.ingress[{index}]"
            address, host = one.get("ip") or "", one.get("hostname") or ""
            if address:
                errors += fields.ip(address, f"{path}.ip")
            if host and not names.ip(host):
                errors.append(invalid_field(f"{path}.hostname", host, "must be a DNS name, not an IP address"))
            elif host:
                errors += problems(names.dns1123_subdomain(host), f"{path}.hostname", host)
        return errors


def cells(obj: Obj, now: datetime) -> Sequence[Any]:
    spec = obj.get("spec") or {}
    hosts = [rule["host"] for rule in children(spec, "rules") if rule.get("host")]
    addresses = [
        one.get("ip") or one.get("hostname") or ""
        for one in children((obj.get("status") or {}).get("loadBalancer"), "ingress")
    ]
    return (
        name_of(obj),
        tables.or_none(spec.get("ingressClassName") or annotations_of(obj).get(CLASS_ANNOTATION)),
        tables.comma(hosts, 3) if hosts else "*",
        ",".join(addresses),
        "80, 443" if spec.get("tls") else "80",
        tables.age(obj, now),
    )


_STRATEGY = IngressStrategy()

INGRESS = resource(
    "networking.k8s.io",
    "v1",
    "Ingress",
    "ingresses",
    columns=columns("Name", "Class", "Hosts", "Address", "Ports", "Age"),
    cells=cells,
    strategy=_STRATEGY,
    short_names=("ing",),
    status=IngressStatusStrategy(_STRATEGY),
    storage_version_hash="39NQlfNR+bo=",
)
