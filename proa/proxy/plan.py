"""What a service's addresses shall lead to on one node: services and endpoint slices in, map elements out. Pure.

Follows upstream's kube-proxy (nftables mode, KEP-3866) in which endpoints serve whom:

- ready endpoints; if there are none, those that still serve while they terminate (KEP-1669);
- internalTrafficPolicy and externalTrafficPolicy Local: this node's endpoints alone, except that pods and this node
  reach external addresses through every endpoint;
- topology hints, when every ready endpoint has one and one names this node's zone or the node (KEP-2433, KEP-4444);
- traffic to external addresses and node ports is masqueraded unless its policy is Local.

An element is (map, key) -> value; the maps are declared in `ruleset.py`. Keys begin with `address . protocol . port`.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from proa.meta.objects import Obj, labels_of, metadata

FAMILIES = {"IPv4": "ip", "IPv6": "ip6"}
PROXY_NAME_LABEL = "service.kubernetes.io/service-proxy-name"
SERVICE_NAME_LABEL = "kubernetes.io/service-name"
_AFFINITY_SECONDS = 10800

# (nft family, map, key)
Element = tuple[str, str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeFacts:
    """What the plan needs to know of this node. `own_addresses` are service addresses that the node itself serves."""

    name: str
    addresses: tuple[str, ...] = ()
    zone: str = ""
    own_addresses: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A place to send a connection to."""

    address: str
    port: int
    node: str = ""
    ready: bool = True
    serving: bool = True
    terminating: bool = False
    zones: tuple[str, ...] | None = None  # hints; None: no hint
    nodes: tuple[str, ...] | None = None

    @property
    def target(self) -> str:
        return f"{self.address} . {self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """What one service adds to the rule set."""

    elements: Mapping[Element, str] = field(default_factory=dict)
    chains: Mapping[tuple[str, str], tuple[str, ...]] = field(default_factory=dict)  # (family, name) -> rules
    sets: Mapping[tuple[str, str], str] = field(default_factory=dict)  # (family, name) -> declaration
    # UDP needs its connection tracking entries cleared: (address, port) -> endpoint addresses
    datagrams: Mapping[tuple[str, int], frozenset[str]] = field(default_factory=dict)
    health_port: int = 0
    local_endpoints: int = 0


EMPTY = Share()


def is_proxied(service: Obj) -> bool:
    """Tells whether a service has addresses for this proxy to serve."""
    spec = service.get("spec") or {}
    has_address = spec.get("clusterIP") not in (None, "", "None") and spec.get("type") != "ExternalName"
    return has_address and PROXY_NAME_LABEL not in labels_of(service)


def endpoints_of(slices: Iterable[Obj], address_type: str, port: Obj) -> list[Endpoint]:
    """Returns a service port's endpoints of one address family, each address and port once, sorted."""
    found: dict[tuple[str, int], Endpoint] = {}
    wanted = (port.get("name") or "", port.get("protocol") or "TCP")
    for one in slices:
        if one.get("addressType") != address_type:
            continue
        numbers = [
            each["port"]
            for each in one.get("ports") or []
            if ((each.get("name") or "", each.get("protocol") or "TCP")) == wanted and each.get("port")
        ]
        for number in numbers:
            for entry in one.get("endpoints") or []:
                endpoint = _endpoint(entry, number)
                known = found.get((endpoint.address, number))
                if known is None or (endpoint.ready and not known.ready):
                    found[endpoint.address, number] = endpoint
    return [found[key] for key in sorted(found)]


def _endpoint(entry: Obj, port: int) -> Endpoint:
    conditions = entry.get("conditions") or {}
    ready = conditions.get("ready") is not False
    hints = entry.get("hints") or {}
    zones, nodes = hints.get("forZones"), hints.get("forNodes")
    return Endpoint(
        entry["addresses"][0],
        port,
        entry.get("nodeName") or "",
        ready,
        ready if conditions.get("serving") is None else bool(conditions["serving"]),
        bool(conditions.get("terminating")),
        None if not zones else tuple(zone["name"] for zone in zones),
        None if not nodes else tuple(node["name"] for node in nodes),
    )


def usable(endpoints: Sequence[Endpoint]) -> list[Endpoint]:
    """Returns the ready endpoints, or, if there are none, those that serve until they end."""
    ready = [one for one in endpoints if one.ready]
    return ready or [one for one in endpoints if one.serving and one.terminating]


def near(endpoints: Sequence[Endpoint], node: NodeFacts) -> list[Endpoint]:
    """Returns the ready endpoints that hints assign to this node or its zone; all if the hints do not serve it."""
    ready = [one for one in endpoints if one.ready]
    if ready and all(one.nodes is not None for one in ready):
        mine = [one for one in ready if node.name in (one.nodes or ())]
        if mine:
            return mine
    if ready and node.zone and all(one.zones is not None for one in ready):
        mine = [one for one in ready if node.zone in (one.zones or ())]
        if mine:
            return mine
    return list(endpoints)


def service_share(service: Obj, slices: Sequence[Obj], node: NodeFacts) -> Share:
    """Returns what a service adds to the rules of a node."""
    if not is_proxied(service):
        return EMPTY
    builder = _Builder(service, node)
    spec = service["spec"]
    addresses = spec.get("clusterIPs") or [spec["clusterIP"]]
    for address_type in dict.fromkeys(_address_type(one) for one in addresses):
        for port in spec.get("ports") or []:
            builder.add_port(address_type, port, endpoints_of(slices, address_type, port))
    return builder.share()


@dataclass(frozen=True, slots=True)
class _Port:
    """One port of a service in one address family, as element keys need it."""

    family: str
    protocol: str
    identity: str  # for names of chains


class _Builder:
    """Collects the elements of one service."""

    def __init__(self, service: Obj, node: NodeFacts) -> None:
        self.node = node
        self.spec = service["spec"]
        meta = metadata(service)
        self.identity = f"{meta.get('namespace')}/{meta.get('name')}"
        self.balancers = _balancer_addresses(service)
        self.external_local = self.spec.get("externalTrafficPolicy") == "Local"
        self.internal_local = self.spec.get("internalTrafficPolicy") == "Local"
        self.affinity_seconds = _affinity_seconds(self.spec)
        self.elements: dict[Element, str] = {}
        self.chains: dict[tuple[str, str], tuple[str, ...]] = {}
        self.sets: dict[tuple[str, str], str] = {}
        self.datagrams: dict[tuple[str, int], frozenset[str]] = {}
        self.local_addresses: set[str] = set()

    def share(self) -> Share:
        health = self.spec.get("healthCheckNodePort") or 0 if self.external_local else 0
        return Share(
            elements=self.elements,
            chains=self.chains,
            sets=self.sets,
            datagrams=self.datagrams,
            health_port=health,
            local_endpoints=len(self.local_addresses),
        )

    def add_port(self, address_type: str, port: Obj, endpoints: Sequence[Endpoint]) -> None:
        family = FAMILIES[address_type]
        protocol = (port.get("protocol") or "TCP").lower()
        here = _Port(family, protocol, f"{self.identity}:{port.get('name') or ''}:{family}")
        everywhere = usable(near(endpoints, self.node))
        local = usable([one for one in endpoints if one.node == self.node.name])
        self.local_addresses.update(one.address for one in local)
        for one in local:
            self.elements[family, "hairpin", f"{one.address} . {one.address}"] = ""

        inside = [
            one
            for one in self.spec.get("clusterIPs") or [self.spec["clusterIP"]]
            if _address_type(one) == address_type and one not in self.node.own_addresses
        ]
        for address in inside:
            if self.internal_local:
                self._serve(here, "frontends", "svc", address, port["port"], local, reason="drop", some=everywhere)
            else:
                self._serve(here, "frontends", "svc", address, port["port"], everywhere)
        outside = [(one, port["port"]) for one in [*(self.spec.get("externalIPs") or []), *self.balancers]]
        if port.get("nodePort"):
            outside += [(one, port["nodePort"]) for one in self.node.addresses]
        for address, number in outside:
            if _address_type(address) == address_type:
                self._serve_outside(here, address, number, everywhere, local)
        for address in self.balancers:
            if _address_type(address) == address_type:
                self._restrict(here, address, port["port"])

    def _serve_outside(
        self, here: _Port, address: str, number: int, everywhere: Sequence[Endpoint], local: Sequence[Endpoint]
    ) -> None:
        if not self.external_local:
            self._serve(here, "frontends", "ext", address, number, everywhere)
            return
        self._serve(here, "frontends", "svc", address, number, everywhere)
        if everywhere:
            self._serve(here, "external", "loc", address, number, local, reason="drop", some=everywhere)

    def _serve(
        self,
        here: _Port,
        map_name: str,
        chain: str,
        address: str,
        number: int,
        endpoints: Sequence[Endpoint],
        *,
        reason: str = "goto refuse",
        some: Sequence[Endpoint] = (),
    ) -> None:
        """Leads an address and port to endpoints; with none, refuses (`some`: there are, but not for this policy)."""
        key = f"{address} . {here.protocol} . {number}"
        if here.protocol == "udp":
            self.datagrams[address, number] = frozenset(one.address for one in endpoints)
        if not endpoints:
            refused = "external-refused" if map_name == "external" else "refused"
            self.elements[here.family, refused, key] = reason if some else "goto refuse"
            if map_name == "external":  # so that it does not fall through to what pods get
                self.elements[here.family, map_name, key] = "accept"
            return
        if self.affinity_seconds:
            self.elements[here.family, map_name, key] = f"goto {self._affinity_chain(here, chain, endpoints)}"
            return
        self.elements[here.family, map_name, key] = f"goto {chain}-{len(endpoints)}"
        slots = "local" if chain == "loc" else "slot"
        for slot, endpoint in enumerate(endpoints):
            self.elements[here.family, f"{slots}-{slot}", key] = endpoint.target

    def _affinity_chain(self, here: _Port, chain: str, endpoints: Sequence[Endpoint]) -> str:
        """Returns the chain that keeps a client on its endpoint; makes it, and a chain and a set per endpoint.

        The sets are the port's, whichever of its addresses a client asks: it has one endpoint behind all of them.
        """
        base = _short(f"{here.identity} {self.affinity_seconds}")
        name = f"aff-{chain}-{base}"
        if (here.family, name) in self.chains:
            return name
        kind = "ipv4_addr" if here.family == "ip" else "ipv6_addr"
        source = f"{here.family} saddr"
        rules = ["meta mark set meta mark | 0x4000"] if chain == "ext" else []
        verdicts = []
        for slot, endpoint in enumerate(endpoints):
            each = f"aff-{base}-{_short(endpoint.target)}"
            self.sets[here.family, each] = f"type {kind}; flags dynamic,timeout; timeout {self.affinity_seconds}s;"
            brackets = f"[{endpoint.address}]" if here.family == "ip6" else endpoint.address
            self.chains[here.family, each] = (
                f"update @{each} {{ {source} }}",
                f"meta l4proto {here.protocol} dnat to {brackets}:{endpoint.port}",
            )
            rules.append(f"{source} @{each} goto {each}")
            verdicts.append(f"{slot} : goto {each}")
        rules.append(f"numgen random mod {len(endpoints)} vmap {{ {', '.join(verdicts)} }}")
        self.chains[here.family, name] = tuple(rules)
        return name

    def _restrict(self, here: _Port, address: str, number: int) -> None:
        """Lets only spec.loadBalancerSourceRanges reach a load balancer's address."""
        ranges = [
            ipaddress.ip_network(one.strip(), strict=False) for one in self.spec.get("loadBalancerSourceRanges") or []
        ]
        if not ranges:
            return
        key = f"{address} . {here.protocol} . {number}"
        self.elements[here.family, "restricted", key] = ""
        version = 4 if here.family == "ip" else 6
        for one in ipaddress.collapse_addresses(one for one in ranges if one.version == version):  # type: ignore[type-var]
            self.elements[here.family, "allowed", f"{key} . {one}"] = ""


def _balancer_addresses(service: Obj) -> list[str]:
    if service["spec"].get("type") != "LoadBalancer":
        return []
    ingress = ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or []
    return [one["ip"] for one in ingress if one.get("ip") and one.get("ipMode") != "Proxy"]


def _affinity_seconds(spec: Obj) -> int:
    """Returns how long a client stays with its endpoint, or 0 if it does not."""
    if spec.get("sessionAffinity") != "ClientIP":
        return 0
    configured = ((spec.get("sessionAffinityConfig") or {}).get("clientIP") or {}).get("timeoutSeconds")
    return configured or _AFFINITY_SECONDS


def _address_type(address: str) -> str:
    return "IPv6" if ":" in address else "IPv4"


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]
