"""Endpoints: the addresses behind a service, in the form before EndpointSlice. Follows upstream's ValidateEndpoints."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from proa.apis.define import columns, resource
from proa.apis.fields import Errors, endpoint_ip, one_of, port_number, problems
from proa.apis.registry import Strategy
from proa.apis.tables import age, comma, or_none
from proa.meta import names
from proa.meta.errors import required_field
from proa.meta.objects import Obj, name_of

_DEPRECATED = "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice"
_SHOWN_MAX = 3


class EndpointsStrategy(Strategy):
    allow_create_on_update = True

    def default(self, obj: Obj) -> None:
        for subset in obj.get("subsets") or []:
            for port in subset.get("ports") or []:
                if not port.get("protocol"):
                    port["protocol"] = "TCP"

    def validate(self, obj: Obj) -> Errors:
        errors: Errors = []
        for index, subset in enumerate(obj.get("subsets") or []):
            errors += _subset(subset, f"subsets[{index}]")
        return errors

    def warnings(self, obj: Obj, old: Obj | None) -> list[str]:
        return [_DEPRECATED]


def _subset(subset: Obj, path: str) -> Errors:
    errors: Errors = []
    if not subset.get("addresses") and not subset.get("notReadyAddresses"):
        errors.append(required_field(path, "must specify `addresses` or `notReadyAddresses`"))
    for key in ("addresses", "notReadyAddresses"):
        for index, address in enumerate(subset.get(key) or []):
            errors += _address(address, f"{path}.{key}[{index}]")
    ports = subset.get("ports") or []
    for index, port in enumerate(ports):
        errors += _port(port, len(ports) > 1, f"{path}.ports[{index}]")
    return errors


def _address(address: Obj, path: str) -> Errors:
    errors: Errors = []
    if address.get("hostname"):
        errors += problems(names.dns1123_label(address["hostname"]), f"{path}.hostname", address["hostname"])
    if address.get("nodeName") is not None:
        errors += problems(names.dns1123_subdomain(address["nodeName"]), f"{path}.nodeName", address["nodeName"])
    return errors + endpoint_ip(address.get("ip") or "", f"{path}.ip")


def _port(port: Obj, named: bool, path: str) -> Errors:
    errors: Errors = []
    name = port.get("name") or ""
    if named and not name:
        errors.append(required_field(f"{path}.name"))
    elif name:
        errors += problems(names.dns1123_label(name), f"{path}.name", name)
    errors += port_number(port.get("port") or 0, f"{path}.port")
    errors += one_of(port.get("protocol"), f"{path}.protocol", ("SCTP", "TCP", "UDP"), missing="required")
    protocol = port.get("appProtocol")
    if protocol is not None:
        errors += problems(names.qualified_name(protocol), f"{path}.appProtocol", protocol)
    return errors


def _ready(obj: Obj) -> Iterator[str]:
    for subset in obj.get("subsets") or []:
        addresses = [address.get("ip") or "" for address in subset.get("addresses") or []]
        ports = subset.get("ports") or []
        if not ports:
            yield from addresses
        for port in ports:
            for ip in addresses:
                yield f"[{ip}]:{port.get('port')}" if ":" in ip else f"{ip}:{port.get('port')}"


def _cells(obj: Obj, now: datetime) -> list[Any]:
    return [name_of(obj), or_none(comma(_ready(obj), _SHOWN_MAX)), age(obj, now)]


ENDPOINTS = resource(
    "",
    "v1",
    "Endpoints",
    "endpoints",
    columns=columns("Name", "Endpoints", "Age"),
    cells=_cells,
    strategy=EndpointsStrategy(),
    short_names=("ep",),
    storage_version_hash="fWeeMqaN/OA=",
)
