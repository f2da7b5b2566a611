"""Cluster names: what `*.cluster.local` and its reverse zones answer. Pure.

Follows the Kubernetes DNS specification 1.1: services (A, AAAA, SRV, PTR), headless services and their endpoints,
external names, and, beyond it as CoreDNS does, pod names made of dashed addresses in namespaces that exist.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from proa.meta.objects import Obj, metadata

TTL_SECONDS = 5
A, PTR, CNAME, SOA, TXT, AAAA, SRV, ANY = 1, 12, 5, 6, 16, 28, 33, 255
_FAMILY = {A: "IPv4", AAAA: "IPv6"}
_SPECIFICATION = "1.1.0"


class Directory(Protocol):
    """The cluster as names need it."""

    def service(self, namespace: str, name: str) -> Obj | None: ...

    def slices(self, namespace: str, name: str) -> Sequence[Obj]: ...

    def has_namespace(self, name: str) -> bool: ...

    def services_at(self, address: str) -> Sequence[Obj]:
        """Returns the services that have this cluster address."""
        ...

    def slices_at(self, address: str) -> Sequence[Obj]:
        """Returns the slices that have an endpoint with this address."""
        ...


@dataclass(frozen=True, slots=True)
class Record:
    """One record. `data` is an address, a name, or (priority, weight, port, name) of SRV; names have no final dot."""

    name: str
    type: int
    data: str | tuple[int, int, int, str]


@dataclass(frozen=True, slots=True)
class Answer:
    """`exists` false is NXDOMAIN; no records for a name that exists is NODATA. `extra` are addresses of SRV targets."""

    records: Sequence[Record] = ()
    exists: bool = True
    extra: Sequence[Record] = ()


NOTHING = Answer()
UNKNOWN = Answer(exists=False)


def endpoint_label(endpoint: Obj) -> str:
    """Returns the label that names an endpoint of a headless service: its host name, or its dashed address."""
    return str(endpoint.get("hostname") or endpoint["addresses"][0].replace(".", "-").replace(":", "-"))


def ready_endpoints(slices: Iterable[Obj]) -> Iterable[tuple[Obj, Obj]]:
    """Yields (slice, endpoint) for those that take traffic."""
    for one in slices:
        for endpoint in one.get("endpoints") or []:
            if (endpoint.get("conditions") or {}).get("ready") is not False and endpoint.get("addresses"):
                yield one, endpoint


class Resolver:
    """Answers questions about names below `domain`, and about addresses."""

    def __init__(self, directory: Directory, domain: str = "cluster.local") -> None:
        self.directory = directory
        self.domain = domain
        self._suffix = tuple(reversed(domain.split(".")))

    def answer(self, name: str, kind: int) -> Answer | None:
        """Returns the answer to a question (`name` in lower case, no final dot); None: the name is not ours."""
        labels = name.split(".")
        if name == self.domain or name.endswith(f".{self.domain}"):
            return self._cluster(name, labels[: len(labels) - len(self._suffix)], kind)
        if name.endswith((".in-addr.arpa", ".ip6.arpa")):
            return self._reverse(name, kind)
        return None

    def _cluster(self, name: str, labels: Sequence[str], kind: int) -> Answer:
        match labels:
            case []:
                return NOTHING
            case ["dns-version"]:
                return Answer([Record(name, TXT, _SPECIFICATION)]) if kind in (TXT, ANY) else NOTHING
            case ["svc"] | ["pod"]:
                return NOTHING
            case [namespace, "svc" | "pod"]:
                return NOTHING if self.directory.has_namespace(namespace) else UNKNOWN
            case [label, namespace, "pod"]:
                return self._pod(name, label, namespace, kind)
            case [service, namespace, "svc"]:
                return self._service(name, service, namespace, kind)
            case [port, protocol, service, namespace, "svc"] if port.startswith("_") and protocol.startswith("_"):
                return self._ports(name, port[1:], protocol[1:], service, namespace, kind)
            case [protocol, service, namespace, "svc"] if protocol in ("_tcp", "_udp", "_sctp"):
                return self._ports(name, "", protocol[1:], service, namespace, 0)
            case [endpoint, service, namespace, "svc"]:
                return self._endpoint(name, endpoint, service, namespace, kind)
        return UNKNOWN

    def _pod(self, name: str, label: str, namespace: str, kind: int) -> Answer:
        if not self.directory.has_namespace(namespace):
            return UNKNOWN
        for text in (label.replace("-", "."), label.replace("-", ":")):
            try:
                address = ipaddress.ip_address(text)
            except ValueError:
                continue
            return _addresses(name, [str(address)], kind)
        return UNKNOWN

    def _service(self, name: str, service_name: str, namespace: str, kind: int) -> Answer:
        service = self.directory.service(namespace, service_name)
        if service is None:
            return UNKNOWN
        spec = service.get("spec") or {}
        if spec.get("type") == "ExternalName":
            return Answer([Record(name, CNAME, spec.get("externalName", "").rstrip(".").lower())])
        if kind == SRV:
            return self._ports(name, "", "", service_name, namespace, kind)
        if not is_headless(service):
            return _addresses(name, spec.get("clusterIPs") or [spec["clusterIP"]], kind)
        slices = self.directory.slices(namespace, service_name)
        addresses = [address for _, endpoint in ready_endpoints(slices) for address in endpoint["addresses"]]
        return _addresses(name, addresses, kind) if addresses else UNKNOWN

    def _endpoint(self, name: str, label: str, service_name: str, namespace: str, kind: int) -> Answer:
        service = self.directory.service(namespace, service_name)
        if service is None or not is_headless(service):
            return UNKNOWN
        addresses = [
            address
            for _, endpoint in ready_endpoints(self.directory.slices(namespace, service_name))
            if endpoint_label(endpoint).lower() == label
            for address in endpoint["addresses"]
        ]
        return _addresses(name, addresses, kind) if addresses else UNKNOWN

    def _ports(self, name: str, port_name: str, protocol: str, service_name: str, namespace: str, kind: int) -> Answer:
        """Answers SRV questions; an empty port or protocol stands for all of them."""
        service = self.directory.service(namespace, service_name)
        if service is None:
            return UNKNOWN

        def matches(port: Obj) -> bool:
            named = port.get("name") or ""
            return port_name in ("", named) and protocol in ("", (port.get("protocol") or "TCP").lower())

        base = f"{service_name}.{namespace}.svc.{self.domain}"
        found: list[tuple[int, str, Sequence[str]]] = []
        spec = service.get("spec") or {}
        if is_headless(service):
            for one, endpoint in ready_endpoints(self.directory.slices(namespace, service_name)):
                target = f"{endpoint_label(endpoint).lower()}.{base}"
                found += [
                    (port["port"], target, endpoint["addresses"])
                    for port in one.get("ports") or []
                    if matches(port) and port.get("port")
                ]
        elif spec.get("type") != "ExternalName":
            addresses = spec.get("clusterIPs") or [spec["clusterIP"]]
            found = [(port["port"], base, addresses) for port in spec.get("ports") or [] if matches(port)]
        if not found:
            return UNKNOWN
        if kind not in (SRV, ANY):
            return NOTHING
        weight = max(1, 100 // len(found))
        extra: dict[Record, None] = {}
        for _, target, addresses in found:
            extra.update((record, None) for record in _addresses(target, addresses, ANY).records)
        records = [Record(name, SRV, (0, weight, number, target)) for number, target, _ in found]
        return Answer(list(dict.fromkeys(records)), extra=list(extra))

    def _reverse(self, name: str, kind: int) -> Answer | None:
        address = reverse_address(name)
        if address is None:
            return None
        names = [
            f"{metadata(one)['name']}.{metadata(one)['namespace']}.svc.{self.domain}"
            for one in self.directory.services_at(address)
        ]
        if not names:
            names = self._endpoint_names(address)
        if not names:
            return None
        return Answer([Record(name, PTR, one) for one in dict.fromkeys(names)]) if kind in (PTR, ANY) else NOTHING

    def _endpoint_names(self, address: str) -> list[str]:
        """Returns the names of an endpoint of headless services; the host names among them, if there are any."""
        named: dict[str, bool] = {}
        for one in self.directory.slices_at(address):
            service_name = (metadata(one).get("labels") or {}).get("kubernetes.io/service-name") or ""
            namespace = metadata(one)["namespace"]
            service = self.directory.service(namespace, service_name)
            for _, endpoint in ready_endpoints([one]) if service is not None and is_headless(service) else ():
                if address in endpoint["addresses"]:
                    name = f"{endpoint_label(endpoint).lower()}.{service_name}.{namespace}.svc.{self.domain}"
                    named[name] = bool(endpoint.get("hostname"))
        return [name for name, own in named.items() if own] or list(named)


def is_headless(service: Obj) -> bool:
    return (service.get("spec") or {}).get("clusterIP") in ("None", "", None)


def _addresses(name: str, addresses: Iterable[str], kind: int) -> Answer:
    wanted: Mapping[int, str] = _FAMILY if kind == ANY else {kind: _FAMILY[kind]} if kind in _FAMILY else {}
    records = []
    for address in dict.fromkeys(addresses):
        record_type = AAAA if ":" in address else A
        if record_type in wanted:
            records.append(Record(name, record_type, address))
    return Answer(records)


def reverse_address(name: str) -> str | None:
    """Returns the address that a name in the reverse zones stands for, or None."""
    head, zone, _ = name.rpartition(".ip6.arpa") if name.endswith(".ip6.arpa") else name.rpartition(".in-addr.arpa")
    parts = head.split(".")[::-1]
    try:
        if zone == ".in-addr.arpa" and len(parts) == 4:
            return str(ipaddress.IPv4Address(".".join(parts)))
        if zone == ".ip6.arpa" and len(parts) == 32:
            text = "".join(parts)
            return str(ipaddress.IPv6Address(":".join(text[at : at + 4] for at in range(0, 32, 4))))
    except ValueError:
        pass
    return None
