"""The two pools that services draw from: addresses, each held by an IPAddress object, and node ports.

Holding is a write that must create its key, so two servers on one store cannot give the same thing away twice. What is
left behind by a crash between the two writes of a service is given back at the next start (`repair`).
"""

from __future__ import annotations

import ipaddress
import random
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from proa.meta.objects import Obj, is_deleted
from proa.storage.interface import Conflict, Store, Value

IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network
IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

MANAGED_BY = "ipallocator.k8s.io"
_PORT_PREFIX = "ranges.nodeports/"


class Taken(Exception):
    """Somebody else holds it."""


class OutOfRange(Exception):
    """It is not one that the pool may give."""


class Exhausted(Exception):
    """The pool has nothing left."""


@dataclass(frozen=True, slots=True)
class Owner:
    """The service that holds something."""

    namespace: str
    name: str


def static_band(size: int, low: int, divisor: int, high: int) -> int:
    """Returns how many of a pool's first members are left to those who ask for a particular one."""
    return min(max(low, size // divisor), high)


class AddressPool:
    """The addresses of one range. `create` makes an IPAddress object (409 StatusError: taken), `delete` removes one."""

    def __init__(
        self,
        network: IPNetwork,
        exists: Callable[[str], bool],
        create: Callable[[Obj], Awaitable[bool]],
        delete: Callable[[str], Awaitable[None]],
    ) -> None:
        self.network = network
        self.family = f"IPv{network.version}"
        self._exists = exists
        self._create = create
        self._delete = delete
        # The network's own address is no service's; neither is an IPv4 network's broadcast address.
        self._first = int(network.network_address) + 1
        self._count = max(network.num_addresses - (2 if network.version == 4 else 1), 0)

    @property
    def first(self) -> str:
        """The address of the service `kubernetes`."""
        return str(self.network.network_address + 1)

    def includes(self, text: str) -> bool:
        try:
            number = int(ipaddress.ip_address(text))
        except ValueError:
            return False
        return 0 <= number - self._first < self._count and ipaddress.ip_address(text).version == self.network.version

    async def take(self, text: str, owner: Owner) -> None:
        """Holds one address; raises OutOfRange and Taken."""
        if not self.includes(text):
            raise OutOfRange
        if not await self._create(address_object(text, self.family, owner)):
            raise Taken

    async def take_any(self, owner: Owner) -> str:
        """Holds an address of the pool's choice; raises Exhausted."""
        band = static_band(self._count, 16, 16, 256) if self._count > 32 else 0
        for start, count in ((band, self._count - band), (0, self._count)):
            for offset in _candidates(count):
                text = str(ipaddress.ip_address(self._first + start + offset))
                if not self._exists(text) and await self._create(address_object(text, self.family, owner)):
                    return text
        raise Exhausted

    async def give_back(self, text: str) -> None:
        """Lets go of an address, whether it still lies in the range or not."""
        await self._delete(text)


class AddressRanges:
    """All ranges that services get addresses from: those that the server was started with, the cluster's primary family
    first, and `others`, which come and go as ServiceCIDR objects do (KEP-1880)."""

    def __init__(self, configured: Sequence[AddressPool], others: Callable[[], Iterable[AddressPool]] = tuple) -> None:
        self.configured = configured
        self._others = others

    @property
    def families(self) -> list[str]:
        return [pool.family for pool in self.configured]

    def of(self, family: str) -> list[AddressPool]:
        """Returns the ranges of a family that give addresses at this moment."""
        return [pool for pool in (*self.configured, *self._others()) if pool.family == family]

    async def take(self, family: str, text: str, owner: Owner) -> None:
        """Holds one address; raises OutOfRange and Taken."""
        pool = next((one for one in self.of(family) if one.includes(text)), None)
        if pool is None:
            raise OutOfRange
        await pool.take(text, owner)

    async def take_any(self, family: str, owner: Owner) -> str:
        """Holds an address of any range of the family that has one left; raises Exhausted."""
        for pool in self.of(family):
            with suppress(Exhausted):
                return await pool.take_any(owner)
        raise Exhausted

    async def give_back(self, text: str) -> None:
        await self.configured[0].give_back(text)


def other_ranges(
    service_cidrs: Iterable[Obj], configured: Iterable[AddressPool], pool: Callable[[str], AddressPool]
) -> list[AddressPool]:
    """Returns the pools of ServiceCIDR objects that are ready, but for the ranges that are configured anyway.

    `pool` makes one of a range such as "10.96.0.0/16".
    """
    known = {str(one.network) for one in configured}
    cidrs = [
        cidr
        for one in service_cidrs
        if not is_deleted(one) and _is_ready(one)
        for cidr in (one.get("spec") or {}).get("cidrs") or ()
    ]
    return [pool(cidr) for cidr in dict.fromkeys(cidrs) if cidr not in known]


def _is_ready(service_cidr: Obj) -> bool:
    conditions = (service_cidr.get("status") or {}).get("conditions") or ()
    return any(one.get("type") == "Ready" and one.get("status") == "True" for one in conditions)


def _candidates(count: int) -> Iterable[int]:
    """Yields every number below `count` in turn, from a random one on."""
    start = random.randrange(count) if count else 0
    return ((start + step) % count for step in range(count))


def address_object(text: str, family: str, owner: Owner) -> Obj:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "IPAddress",
        "metadata": {
            "name": text,
            "labels": {
                "ipaddress.kubernetes.io/ip-family": family,
                "ipaddress.kubernetes.io/managed-by": MANAGED_BY,
            },
        },
        "spec": {"parentRef": {"resource": "services", "namespace": owner.namespace, "name": owner.name}},
    }


class PortPool:
    """Node ports, each one key in the store. A number is one port, whatever the protocol."""

    def __init__(self, store: Store, first: int, last: int) -> None:
        self._store = store
        self.first = first
        self.last = last

    async def take(self, port: int, owner: Owner) -> None:
        """Holds one port; raises OutOfRange and Taken."""
        if not self.first <= port <= self.last:
            raise OutOfRange
        value = Value(f"{owner.namespace}/{owner.name}".encode(), stamped=False)
        try:
            await self._store.write(f"{_PORT_PREFIX}{port}", value, expected=0)
        except Conflict:
            raise Taken from None

    async def take_any(self, owner: Owner) -> int:
        """Holds a port of the pool's choice; raises Exhausted."""
        count = self.last - self.first + 1
        band = static_band(count, 16, 32, 128) if count > 32 else 0
        for start, size in ((band, count - band), (0, count)):
            for offset in _candidates(size):
                port = self.first + start + offset
                if self._store.current(f"{_PORT_PREFIX}{port}") is not None:
                    continue
                try:
                    await self.take(port, owner)
                except Taken:
                    continue
                return port
        raise Exhausted

    async def give_back(self, port: int) -> None:
        try:
            await self._store.write(f"{_PORT_PREFIX}{port}", None, expected=None)
        except Conflict:
            return

    async def held(self) -> Sequence[int]:
        page = await self._store.list(_PORT_PREFIX)
        return [int(entry.key.removeprefix(_PORT_PREFIX)) for entry in page.entries]
