"""NetworkPolicy, as of networking.k8s.io/v1: which traffic pods accept and send."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from ipaddress import ip_network
from typing import Any

from proa.apis import fields, tables
from proa.apis.define import columns, resource
from proa.apis.fields import Errors, problems
from proa.apis.registry import Strategy
from proa.apis.shape import child, children, drop_zero, set_default
from proa.meta import names
from proa.meta.errors import forbidden_field, invalid_field, required_field, unsupported_field
from proa.meta.objects import Obj, name_of

_PROTOCOLS = ("TCP", "UDP", "SCTP")
_POLICY_TYPES = ("Ingress", "Egress")


class NetworkPolicyStrategy(Strategy):
    generation = True

    def default(self, obj: Obj) -> None:
        spec = child(obj, "spec")
        child(spec, "podSelector")
        drop_zero(spec, "ingress", "egress")
        for direction in ("ingress", "egress"):
            for rule in children(spec, direction):
                for port in children(rule, "ports"):
                    set_default(port, "protocol", "TCP")
        if not spec.get("policyTypes"):
            spec["policyTypes"] = ["Ingress", "Egress"] if spec.get("egress") else ["Ingress"]

    def validate(self, obj: Obj) -> Errors:
        spec = obj.get("spec") or {}
        errors = fields.label_selector(spec.get("podSelector"), "spec.podSelector")
        for direction, peers in (("ingress", "from"), ("egress", "to")):
            for index, rule in enumerate(children(spec, direction)):
                path = f"spec.{direction}[{index}]"
                for number, port in enumerate(children(rule, "ports")):
                    errors += _port(port, f"{path}.ports[{number}]")
                for number, peer in enumerate(children(rule, peers)):
                    errors += _peer(peer, f"{path}.{peers}[{number}]")
        types = spec.get("policyTypes") or []
        if len(types) > len(_POLICY_TYPES):
            detail = "may not specify more than two policyTypes"
            return [*errors, invalid_field("spec.policyTypes", types, detail)]
        for index, one in enumerate(types):
            if one not in _POLICY_TYPES:
                errors.append(unsupported_field(f"spec.policyTypes[{index}]", one, _POLICY_TYPES))
        return errors


def _port(one: Obj, path: str) -> Errors:
    errors: Errors = []
    protocol, port, end = one.get("protocol"), one.get("port"), one.get("endPort")
    if protocol is not None and protocol not in _PROTOCOLS:
        errors.append(unsupported_field(f"{path}.protocol", protocol, _PROTOCOLS))
    if port is None:
        if end is not None:
            detail = "may not be specified when `port` is not specified"
            errors.append(invalid_field(f"{path}.endPort", end, detail))
        return errors
    errors += fields.port_reference(port, f"{path}.port")
    if end is None:
        return errors
    if isinstance(port, str):
        errors.append(invalid_field(f"{path}.endPort", end, "may not be specified when `port` is non-numeric"))
        return errors
    if end < port:
        errors.append(invalid_field(f"{path}.endPort", port, "must be greater than or equal to `port`"))
    return errors + fields.port_number(end, f"{path}.endPort")


def _peer(peer: Obj, path: str) -> Errors:
    errors: Errors = []
    others = 0
    for key in ("podSelector", "namespaceSelector"):
        if peer.get(key) is not None:
            others += 1
            errors += fields.label_selector(peer[key], f"{path}.{key}")
    block = peer.get("ipBlock")
    if block is not None:
        errors += _ip_block(block, f"{path}.ipBlock")
    if not others and block is None:
        errors.append(required_field(path, "must specify a peer"))
    elif others and block is not None:
        errors.append(forbidden_field(path, "may not specify both ipBlock and another peer"))
    return errors


def _ip_block(block: Obj, path: str) -> Errors:
    cidr = block.get("cidr") or ""
    if not cidr:
        return [required_field(f"{path}.cidr")]
    errors = problems(names.cidr(cidr), f"{path}.cidr", cidr)
    if errors:
        return errors
    outer = ip_network(cidr, strict=False)
    for index, text in enumerate(block.get("except") or []):
        where = f"{path}.except[{index}]"
        bad = problems(names.cidr(text), where, text)
        if not bad:
            inner = ip_network(text, strict=False)
            within = inner.version == outer.version and inner.network_address in outer
            if not within or inner.prefixlen <= outer.prefixlen:
                bad = [invalid_field(where, text, "must be a strict subset of `cidr`")]
        errors += bad
    return errors


def cells(obj: Obj, now: datetime) -> Sequence[Any]:
    selector = (obj.get("spec") or {}).get("podSelector")
    return name_of(obj), tables.selector_text(selector), tables.age(obj, now)


NETWORK_POLICY = resource(
    "networking.k8s.io",
    "v1",
    "NetworkPolicy",
    "networkpolicies",
    columns=columns("Name", "Pod-Selector", "Age"),
    cells=cells,
    strategy=NetworkPolicyStrategy(),
    short_names=("netpol",),
    storage_version_hash="YpfwF18m1G8=",
)
