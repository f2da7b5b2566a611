"""The provider of a cluster without a cloud: every LoadBalancer service gets an address from the cluster's own range.

The address is recorded in the service's status and nowhere else, so nothing can get out of step. One of the nodes
announces it: which one follows from the address and the Ready nodes by a rule that every node can compute for itself
(`proa.network.plan.announcer`), so nobody has to be told.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence

from proa.client.informer import CachedInformer, SharedInformers
from proa.client.resources import SERVICES
from proa.cloud.interface import CloudError, Ingress, Provider
from proa.meta.objects import Obj, uid_of

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class Ranges:
    """Address ranges such as `10.9.0.0/24` or `10.9.0.10-10.9.0.20`, several with commas."""

    def __init__(self, text: str) -> None:
        self._ranges = [self._parse(one.strip()) for one in text.split(",") if one.strip()]

    @staticmethod
    def _parse(text: str) -> tuple[Address, Address]:
        """Returns the first and last usable address; raises ValueError."""
        if "-" in text:
            low, high = (ipaddress.ip_address(one.strip()) for one in text.split("-", 1))
            if low.version != high.version or int(low) > int(high):
                raise ValueError(f"{text!r} is no range of addresses")
            return low, high
        network = ipaddress.ip_network(text, strict=False)
        # The first address is usually the bridge's own.
        reserved = 2 if network.num_addresses > 4 else 0
        return network[reserved], network[-2 if reserved else -1]

    def __contains__(self, address: Address) -> bool:
        return any(
            low.version == address.version and int(low) <= int(address) <= int(high) for low, high in self._ranges
        )

    def first_free(self, version: int, taken: set[str]) -> str | None:
        for low, high in self._ranges:
            if low.version == version:
                for number in range(int(low), int(high) + 1):
                    text = str(ipaddress.ip_address(number) if version == 4 else ipaddress.IPv6Address(number))
                    if text not in taken:
                        return text
        return None

    @property
    def versions(self) -> set[int]:
        return {low.version for low, _ in self._ranges}


def ingress_addresses(service: Obj) -> list[str]:
    """Returns the load balancer addresses that a service's status shows."""
    listed = ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or ()
    return [one["ip"] for one in listed if one.get("ip")]


class LocalLoadBalancers:
    """Chooses addresses; `_chosen` bridges the moment until a choice shows in the service's status."""

    def __init__(self, ranges: Ranges, services: CachedInformer) -> None:
        self._ranges = ranges
        self._services = services
        self._chosen: dict[str, list[str]] = {}

    async def ensure(self, service: Obj, nodes: Sequence[Obj]) -> Sequence[Ingress]:
        await self._services.wait_synced()
        uid = uid_of(service)
        taken = self._taken(uid)
        wanted = self._wanted(service)
        kept = [
            one
            for one in self._chosen.get(uid) or ingress_addresses(service)
            if ipaddress.ip_address(one) in self._ranges and one not in taken
        ]
        if wanted:
            if ipaddress.ip_address(wanted) not in self._ranges:
                raise CloudError(f"spec.loadBalancerIP {wanted} is not in the cluster's load balancer range")
            if wanted in taken:
                raise CloudError(f"spec.loadBalancerIP {wanted} is taken by another service")
            kept = [wanted, *(one for one in kept if (":" in one) != (":" in wanted))]
        found = []
        for version in self._versions(service):
            held = next((one for one in kept if (":" in one) == (version == 6)), None)
            address = held or self._ranges.first_free(version, taken)
            if address is None:
                raise CloudError(f"no IPv{version} address is left in the cluster's load balancer range")
            found.append(address)
        self._chosen[uid] = found
        return [Ingress(ip=one) for one in found]

    async def delete(self, service: Obj) -> None:
        self._chosen.pop(uid_of(service), None)

    def _taken(self, but: str) -> set[str]:
        shown = {one for other in self._services.objects() if uid_of(other) != but for one in ingress_addresses(other)}
        return shown.union(*(chosen for uid, chosen in self._chosen.items() if uid != but))

    @staticmethod
    def _wanted(service: Obj) -> str:
        text = (service.get("spec") or {}).get("loadBalancerIP") or ""
        try:
            return str(ipaddress.ip_address(text)) if text else ""
        except ValueError as error:
            raise CloudError(f"spec.loadBalancerIP: {error}") from error

    def _versions(self, service: Obj) -> Iterable[int]:
        families = (service.get("spec") or {}).get("ipFamilies") or ["IPv4"]
        asked = [6 if one == "IPv6" else 4 for one in families]
        served = [one for one in asked if one in self._ranges.versions]
        if not served:
            raise CloudError(f"the cluster's load balancer range has no {families[0]} addresses")
        return served


def local_provider(config: str, informers: SharedInformers) -> Provider:
    """`config`: the ranges; raises ValueError if they are wrong. Without any there are no load balancers."""
    ranges = Ranges(config)
    if not ranges.versions:
        return Provider(name="local")
    balancers = LocalLoadBalancers(ranges, informers.informer(SERVICES))
    return Provider(name="local", load_balancers=balancers)
