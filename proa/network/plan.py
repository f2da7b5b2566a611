"""What a node's network shall be: routes to other nodes' pods, addresses announced here, rules for what leaves. Pure.

Plans are lines for `ip -batch` and `nft -f`. Routes carry a protocol number of their own, so that ours are told apart
from anybody else's and stale ones are found after a restart.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from proa.meta.objects import Obj, name_of

IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network
ROUTE_PROTOCOL = 97
TABLE = "proa-network"


@dataclass(frozen=True, slots=True)
class Route:
    """Pods of another node: their range, and that node's address."""

    destination: str
    gateway: str


def internal_address(node: Obj) -> str:
    """Returns a node's InternalIP, or nothing."""
    addresses = (node.get("status") or {}).get("addresses") or []
    return next((one["address"] for one in addresses if one.get("type") == "InternalIP"), "")


def pod_ranges(node: Obj) -> list[str]:
    spec = node.get("spec") or {}
    return spec.get("podCIDRs") or ([spec["podCIDR"]] if spec.get("podCIDR") else [])


def routes(nodes: Iterable[Obj], own_name: str) -> set[Route]:
    """Returns the routes that lead to the pods of every other node."""
    found: set[Route] = set()
    for node in nodes:
        gateway = internal_address(node)
        if gateway and name_of(node) != own_name:
            found.update(Route(one, gateway) for one in pod_ranges(node) if (":" in one) == (":" in gateway))
    return found


def unrouted(services: Iterable[Obj], networks: Sequence[IPNetwork]) -> set[str]:
    """Returns the cluster addresses of services, of a family of these networks, that lie in none of them.

    The networks have routes. A node without a default route needs one for each of the rest, or the kernel refuses what
    its own processes send there before the service proxy can say where it goes: addresses of ServiceCIDRs that came
    later.
    """
    found: set[str] = set()
    for service in services:
        for address in (service.get("spec") or {}).get("clusterIPs") or ():
            if address not in ("", "None"):
                number = ipaddress.ip_address(address)
                same = [one for one in networks if one.version == number.version]
                if same and not any(number in one for one in same):
                    found.add(address)
    return found


def route_lines(present: set[Route], wanted: set[Route]) -> list[str]:
    """Returns what leads from the present routes to the wanted ones."""
    replaced = {one.destination for one in wanted - present}
    gone = sorted((one for one in present - wanted if one.destination not in replaced), key=lambda one: one.destination)
    added = sorted(wanted - present, key=lambda one: one.destination)
    return [f"route delete {one.destination} proto {ROUTE_PROTOCOL}" for one in gone] + [
        f"route replace {one.destination} via {one.gateway} proto {ROUTE_PROTOCOL}" for one in added
    ]


def masquerade_lines(pods: Mapping[str, str], bridge: str) -> list[str]:
    """Returns the rules that give what pods send out of the cluster their node's address. `pods`: range by family.

    Host ports of the loopback address need `route_localnet`, by which anybody near could reach what listens there; so
    such packets count from the node itself only.
    """
    lines = []
    for family, one in pods.items():
        table = f"{family} {TABLE}"
        rule = f'{family} saddr {one} {family} daddr != {one} oifname != {{ "{bridge}", "lo" }} masquerade fully-random'
        own = "127.0.0.0/8" if family == "ip" else "::1"
        lines += [
            f"add table {table}",
            f"delete table {table}",
            f"add table {table}",
            f"add chain {table} postrouting {{ type nat hook postrouting priority 101; }}",
            f"add rule {table} postrouting {rule}",
            f"add chain {table} prerouting {{ type filter hook prerouting priority -120; }}",
            f'add rule {table} prerouting {family} daddr {own} iifname != "lo" drop',
        ]
    return lines


# ---------------------------------------------------------------- addresses of load balancers


def announcer(address: str, candidates: Sequence[str]) -> str:
    """Returns the node that answers for an address: every node computes the same, and when one goes, only its
    addresses move (rendezvous hashing). `candidates` are names of ready nodes; with none, nobody answers."""
    if not candidates:
        return ""
    return max(candidates, key=lambda node: hashlib.sha256(f"{address}\0{node}".encode()).digest())


def candidates(service: Obj, nodes: Iterable[Obj], local_nodes: Iterable[str]) -> list[str]:
    """Returns the nodes that may answer for a service: ready ones, not excluded from load balancing; of policy Local
    those that have endpoints (`local_nodes`), if there are any."""
    able = [name_of(node) for node in nodes if _is_able(node)]
    if (service.get("spec") or {}).get("externalTrafficPolicy") == "Local":
        near = set(local_nodes)
        return [name for name in able if name in near] or able
    return able


def _is_able(node: Obj) -> bool:
    conditions = (node.get("status") or {}).get("conditions") or []
    ready = any(one.get("type") == "Ready" and one.get("status") == "True" for one in conditions)
    labels = (node.get("metadata") or {}).get("labels") or {}
    return ready and "node.kubernetes.io/exclude-from-external-load-balancers" not in labels


def balancer_addresses(service: Obj) -> list[str]:
    """Returns the addresses that a LoadBalancer service has been given."""
    if (service.get("spec") or {}).get("type") != "LoadBalancer":
        return []
    ingress = ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or []
    return [one["ip"] for one in ingress if one.get("ip")]
