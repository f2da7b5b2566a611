"""EndpointSlice: a part of the addresses behind a service. Follows upstream's `pkg/apis/discovery/validation`."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from typing import Any

from proa.apis.define import columns, resource
from proa.apis.fields import Errors, endpoint_ip, immutable, is_ipv6, one_of, problems
from proa.apis.registry import Strategy
from proa.apis.tables import UNSET, age, comma
from proa.meta import names
from proa.meta.errors import (
    duplicate_field,
    invalid_field,
    required_field,
    too_many_field,
)
from proa.meta.objects import Obj, name_of

_ADDRESS_TYPES = ("FQDN", "IPv4", "IPv6")
_ADDRESSES_MAX, _PORTS_MAX, _ENDPOINTS_MAX, _ZONES_MAX, _NODES_MAX = 100, 20_000, 1000, 8, 8
_SHOWN_MAX = 3


class EndpointSliceStrategy(Strategy):
    generation = True

    def default(self, obj: Obj) -> None:
        for port in obj.get("ports") or []:
            if port.get("name") is None:
                port["name"] = ""
            if port.get("protocol") is None:
                port["protocol"] = "TCP"

    def prepare_create(self, obj: Obj) -> None:
        _drop_topology(obj)

    def prepare_update(self, obj: Obj, old: Obj) -> None:
        _drop_topology(obj)

    def specification(self, obj: Obj) -> Any:
        # Labels count as well, since they name the service.
        return super().specification(obj), obj["metadata"].get("labels") or {}

    def validate(self, obj: Obj) -> Errors:
        kind = obj.get("addressType") or ""
        errors = one_of(kind, "addressType", _ADDRESS_TYPES, missing="required")
        if kind in _ADDRESS_TYPES:
            errors += _endpoints(obj.get("endpoints") or [], kind)
        return errors + _ports(obj.get("ports") or [])

    def validate_update(self, obj: Obj, old: Obj) -> Errors:
        kind = obj.get("addressType") or ""
        errors = immutable(kind, old.get("addressType") or "", "addressType")
        return errors or self.validate(obj)

    def warnings(self, obj: Obj, old: Obj | None) -> list[str]:
        return ["spec.addressType: FQDN endpoints are deprecated"] if obj.get("addressType") == "FQDN" else []


def _drop_topology(obj: Obj) -> None:
    """Takes away a field of the older form, which this version does not let clients set."""
    for endpoint in obj.get("endpoints") or []:
        endpoint.pop("deprecatedTopology", None)


def _endpoints(items: list[Obj], kind: str) -> Errors:
    if len(items) > _ENDPOINTS_MAX:
        return [too_many_field("endpoints", len(items), _ENDPOINTS_MAX)]
    errors: Errors = []
    for index, endpoint in enumerate(items):
        at = f"endpoints[{index}]"
        addresses = endpoint.get("addresses") or []
        if not addresses:
            errors.append(required_field(f"{at}.addresses", "must contain at least 1 address"))
        elif len(addresses) > _ADDRESSES_MAX:
            errors.append(too_many_field(f"{at}.addresses", len(addresses), _ADDRESSES_MAX))
        else:
            for number, address in enumerate(addresses):
                errors += _address(address, kind, f"{at}.addresses", number)
        if endpoint.get("nodeName") is not None:
            errors += problems(names.dns1123_subdomain(endpoint["nodeName"]), f"{at}.nodeName", endpoint["nodeName"])
        if endpoint.get("hostname") is not None:
            errors += problems(names.dns1123_label(endpoint["hostname"]), f"{at}.hostname", endpoint["hostname"])
        errors += _hints(endpoint.get("hints") or {}, f"{at}.hints")
    return errors


def _address(address: str, kind: str, path: str, number: int) -> Errors:
    at = f"{path}[{number}]"
    if kind == "FQDN":
        return problems(names.dns1123_subdomain(address), at, address)
    errors = problems(names.ip(address), at, address)
    if errors:
        return errors
    if is_ipv6(address) != (kind == "IPv6"):
        return [invalid_field(path, address, f"must be an {kind} address")]
    return endpoint_ip(address, at)


def _hints(hints: Obj, path: str) -> Errors:
    errors: Errors = []
    for key, most, named in (("forZones", _ZONES_MAX, None), ("forNodes", _NODES_MAX, names.dns1123_subdomain)):
        items = hints.get(key) or []
        if len(items) > most:
            return [too_many_field(f"{path}.{key}", len(items), most)]
        seen: set[str] = set()
        for index, item in enumerate(items):
            at, name = f"{path}.{key}[{index}].name", item.get("name") or ""
            if name in seen:
                errors.append(duplicate_field(at, name))
            seen.add(name)
            errors += problems(named(name) if named else names.label_value(name), at, name)
    return errors


def _ports(items: list[Obj]) -> Errors:
    if len(items) > _PORTS_MAX:
        return [too_many_field("ports", len(items), _PORTS_MAX)]
    errors: Errors = []
    seen: Counter[str] = Counter()
    for index, port in enumerate(items):
        at, name = f"ports[{index}]", port.get("name") or ""
        if name:
            errors += problems(names.dns1123_label(name), f"{at}.name", name)
        if seen[name]:
            errors.append(duplicate_field(f"{at}.name", name))
        seen[name] += 1
        errors += one_of(port.get("protocol"), f"{at}.protocol", ("SCTP", "TCP", "UDP"), missing="required")
        protocol = port.get("appProtocol")
        if protocol is not None:
            errors += problems(names.qualified_name(protocol), f"{at}.appProtocol", protocol)
    return errors


def _cells(obj: Obj, now: datetime) -> list[Any]:
    ports = [
        str(one["port"]) if one.get("port") is not None else one.get("name") or "*" for one in obj.get("ports") or []
    ]
    addresses = [address for one in obj.get("endpoints") or [] for address in one.get("addresses") or []]
    return [
        name_of(obj),
        obj.get("addressType") or "",
        comma(ports, _SHOWN_MAX) or UNSET,
        comma(addresses, _SHOWN_MAX) or UNSET,
        age(obj, now),
    ]


ENDPOINT_SLICE = resource(
    "discovery.k8s.io",
    "v1",
    "EndpointSlice",
    "endpointslices",
    columns=columns("Name", "AddressType", "Ports", "Endpoints", "Age"),
    cells=_cells,
    strategy=EndpointSliceStrategy(),
    storage_version_hash="qgS0xkrxYAI=",
)
