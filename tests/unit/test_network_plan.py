"""What a node's network shall be: routes for service addresses."""

import ipaddress

from proa.meta.objects import Obj
from proa.network.plan import unrouted


def service(*addresses: str) -> Obj:
    return {"spec": {"clusterIPs": list(addresses)}}


def test_addresses_of_ranges_with_a_route_need_none_of_their_own() -> None:
    networks = [ipaddress.ip_network(one) for one in ("10.96.0.0/16", "10.213.0.0/24", "fd00::/112")]
    services = [service("10.96.1.1"), service("None"), service(""), {"spec": {"type": "ExternalName"}}]
    assert unrouted(services, networks) == set()
    services += [service("198.51.99.77", "fd00::7"), service("198.51.99.78"), service("fd01::7")]
    assert unrouted(services, networks) == {"198.51.99.77", "198.51.99.78", "fd01::7"}
    assert unrouted(services, networks[:2]) == {"198.51.99.77", "198.51.99.78"}
    assert unrouted(services, []) == set()
