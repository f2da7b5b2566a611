"""Carries out what a service's write needs of the pools (`proa.apis.core.service_allocation` plans it).

Everything taken for a write that fails is given back; what a write no longer needs is given back only after it
succeeded. A dry run takes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from proa.apis.core.service_allocation import AddressWish, Plan, plan
from proa.apiserver.generic.shared import Call
from proa.apiserver.services.pools import AddressRanges, Exhausted, OutOfRange, Owner, PortPool, Taken
from proa.meta.errors import StatusError, internal, invalid, invalid_field
from proa.meta.gvk import GVK
from proa.meta.objects import Obj

_SERVICE = GVK("", "v1", "Service")


@dataclass(slots=True)
class Held:
    """What one write took, and what it will no longer need."""

    addresses: AddressRanges
    ports: PortPool
    taken_addresses: list[str] = field(default_factory=list)
    taken_ports: list[int] = field(default_factory=list)
    obsolete_addresses: Sequence[str] = ()
    obsolete_ports: Sequence[int] = ()

    async def commit(self) -> None:
        await self._give_back(self.obsolete_addresses, self.obsolete_ports)

    async def cancel(self) -> None:
        await self._give_back(self.taken_addresses, self.taken_ports)

    async def _give_back(self, addresses: Sequence[str], ports: Sequence[int]) -> None:
        for text in addresses:
            await self.addresses.give_back(text)
        for port in ports:
            await self.ports.give_back(port)


class ServiceAllocation:
    """The interceptor of services."""

    def __init__(self, addresses: AddressRanges, ports: PortPool) -> None:
        self.addresses = addresses
        self.ports = ports

    async def begin(self, call: Call, obj: Obj | None, old: Obj | None) -> Held | None:
        if call.subresource:
            return None
        planned = plan(obj, old, self.addresses.families)
        if planned.errors:
            raise invalid(_SERVICE, _name(obj), planned.errors)
        held = Held(
            self.addresses,
            self.ports,
            obsolete_addresses=planned.release_addresses,
            obsolete_ports=planned.release_ports,
        )
        if obj is not None:
            planned.apply_families(obj["spec"])
        if call.dry_run:
            return None
        if obj is not None:
            try:
                await self._take(obj, planned, held)
            except BaseException:
                await held.cancel()
                raise
        return held

    async def repair(self, services: Iterable[Obj], held_addresses: Mapping[str, Owner]) -> None:
        """Gives back what no service holds and takes what one holds unrecorded: what a crash left between two writes.

        `held_addresses` are the addresses recorded as held by services. Call it while nobody writes services.
        """
        addresses: dict[str, Owner] = {}
        ports: dict[int, Owner] = {}
        for service in services:
            owner = Owner(service["metadata"]["namespace"], service["metadata"]["name"])
            everything = plan(None, service, self.addresses.families)
            addresses |= dict.fromkeys(everything.release_addresses, owner)
            ports |= dict.fromkeys(everything.release_ports, owner)
        held_ports = set(await self.ports.held())
        for text in held_addresses.keys() - addresses.keys():
            await self.addresses.give_back(text)
        for text in addresses.keys() - held_addresses.keys():
            with suppress(OutOfRange, Taken):
                await self.addresses.take("IPv6" if ":" in text else "IPv4", text, addresses[text])
        for port in held_ports - ports.keys():
            await self.ports.give_back(port)
        for port in ports.keys() - held_ports:
            with suppress(OutOfRange, Taken):
                await self.ports.take(port, ports[port])

    async def _take(self, obj: Obj, planned: Plan, held: Held) -> None:
        meta, spec = obj["metadata"], obj["spec"]
        owner = Owner(meta.get("namespace", ""), meta.get("name", ""))
        for wish in planned.addresses:
            address = await self._address(obj, wish, owner, held)
            addresses = spec.setdefault("clusterIPs", [])
            addresses[wish.index : wish.index + 1] = [address]
            spec["clusterIP"] = addresses[0]
        for port in planned.node_ports:
            path = f"spec.ports[{port.index}].nodePort"
            number = await self._port(obj, port.number, path, owner, held)
            for index in (port.index, *port.shared):
                spec["ports"][index]["nodePort"] = number
        if planned.health_port is not None:
            number = await self._port(obj, planned.health_port, "spec.healthCheckNodePort", owner, held)
            spec["healthCheckNodePort"] = number

    async def _address(self, obj: Obj, wish: AddressWish, owner: Owner, held: Held) -> str:
        if wish.family not in self.addresses.families:
            raise _refused_address(obj, wish, f"the cluster has no {wish.family} service range")
        address = wish.address
        try:
            if address:
                await self.addresses.take(wish.family, address, owner)
            else:
                address = await self.addresses.take_any(wish.family, owner)
        except OutOfRange:
            raise _refused_address(obj, wish, "the provided network does not match the current range") from None
        except Taken:
            raise _refused_address(obj, wish, "provided IP is already allocated") from None
        except Exhausted:
            raise internal("failed to allocate a serviceIP: range is full") from None
        held.taken_addresses.append(address)
        return address

    async def _port(self, obj: Obj, number: int, path: str, owner: Owner, held: Held) -> int:
        pool = self.ports
        try:
            if number:
                await pool.take(number, owner)
            else:
                number = await pool.take_any(owner)
        except OutOfRange:
            why = f"provided port is not in the valid range. The range of valid ports is {pool.first}-{pool.last}"
            raise invalid(_SERVICE, _name(obj), [invalid_field(path, number, why)]) from None
        except Taken:
            error = invalid_field(path, number, "provided port is already allocated")
            raise invalid(_SERVICE, _name(obj), [error]) from None
        except Exhausted:
            raise internal("failed to allocate a nodePort: range is full") from None
        held.taken_ports.append(number)
        return number


def _name(obj: Obj | None) -> str:
    name: str = (obj or {}).get("metadata", {}).get("name", "")
    return name


def _refused_address(obj: Obj, wish: AddressWish, why: str) -> StatusError:
    shown = obj["spec"].get("clusterIPs") or []
    detail = f"failed to allocate IP {wish.address}: {why}"
    return invalid(_SERVICE, _name(obj), [invalid_field("spec.clusterIPs", shown, detail)])
