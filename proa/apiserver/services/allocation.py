"""What a written service gets: IP families, cluster addresses, node ports; and what it gives back.

Follows upstream's `registry/core/service/storage`: on update, what the server allocated earlier stays unless the
service's type no longer has it; everything taken for a write that fails is given back, and what a write no longer needs
is given back only after it succeeded.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from proa.apiserver.generic.shared import Call
from proa.apiserver.services.pools import (
    AddressPool,
    Exhausted,
    OutOfRange,
    Owner,
    PortPool,
    Taken,
    addresses_of,
    ports_of,
)
from proa.meta.errors import FieldError, internal, invalid, invalid_field
from proa.meta.gvk import GVK
from proa.meta.objects import Obj

_SERVICE = GVK("", "v1", "Service")
_EXTERNAL_NAME_LACKS = ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "internalTrafficPolicy")


@dataclass(slots=True)
class Held:
    """What one write took, and what it will no longer need."""

    addresses: Sequence[AddressPool]
    ports: PortPool
    taken_addresses: list[str] = field(default_factory=list)
    taken_ports: list[int] = field(default_factory=list)
    obsolete_addresses: list[str] = field(default_factory=list)
    obsolete_ports: list[int] = field(default_factory=list)

    async def commit(self) -> None:
        await self._give_back(self.obsolete_addresses, self.obsolete_ports)

    async def cancel(self) -> None:
        await self._give_back(self.taken_addresses, self.taken_ports)

    async def _give_back(self, addresses: list[str], ports: list[int]) -> None:
        for text in addresses:
            for pool in self.addresses:
                await pool.give_back(text)
        for port in ports:
            await self.ports.give_back(port)


class ServiceAllocation:
    """The interceptor of services. `addresses`: one pool per family, the cluster's primary family first."""

    def __init__(self, addresses: Sequence[AddressPool], ports: PortPool) -> None:
        self.addresses = addresses
        self.ports = ports

    async def begin(self, call: Call, obj: Obj | None, old: Obj | None) -> Held | None:
        held = Held(self.addresses, self.ports)
        if call.subresource:
            return None
        if obj is None:
            assert old is not None
            held.obsolete_addresses = addresses_of(old)
            held.obsolete_ports = sorted(ports_of(old))
            return held
        if old is not None:
            keep_allocated(obj, old)
        if obj["spec"].get("type") == "ExternalName":
            for key in _EXTERNAL_NAME_LACKS:
                obj["spec"].pop(key, None)
        else:
            normalize_addresses(obj, old)
            self._default_families(obj)
        if call.dry_run:
            return None
        try:
            await self._take(call, obj, old, held)
        except BaseException:
            await held.cancel()
            raise
        if old is not None:
            held.obsolete_addresses = [one for one in addresses_of(old) if one not in addresses_of(obj)]
            held.obsolete_ports = sorted(ports_of(old) - ports_of(obj))
        return held

    # ------------------------------------------------------------ families

    def _default_families(self, obj: Obj) -> None:
        """Fills in ipFamilies and ipFamilyPolicy from the addresses given and the cluster's families."""
        spec = obj["spec"]
        own = [pool.family for pool in self.addresses]
        given = [_family(text) for text in spec.get("clusterIPs") or () if text != "None"]
        headless = spec.get("clusterIP") == "None"
        policy = spec.get("ipFamilyPolicy")
        families = list(spec.get("ipFamilies") or ())
        if headless and not spec.get("selector") and not families:
            # Nobody knows what its endpoints will be, so it may have both.
            policy = policy or "RequireDualStack"
            families = [own[0], "IPv6" if own[0] == "IPv4" else "IPv4"] if policy != "SingleStack" else own[:1]
        elif not policy:
            policy = "RequireDualStack" if len(families) == 2 or len(given) == 2 else "SingleStack"
        if not families:
            families = [one for one in given if one] or own[:1]
        if policy in ("PreferDualStack", "RequireDualStack") and len(families) == 1:
            families += [one for one in own if one not in families]
        spec["ipFamilies"] = families
        spec["ipFamilyPolicy"] = policy

    # ------------------------------------------------------------ taking

    async def _take(self, call: Call, obj: Obj, old: Obj | None, held: Held) -> None:
        meta, spec = obj["metadata"], obj["spec"]
        owner = Owner(meta.get("namespace", ""), meta.get("name", ""))
        kind = spec.get("type") or "ClusterIP"
        if kind != "ExternalName" and spec.get("clusterIP") != "None":
            await self._take_addresses(obj, old, owner, held)
        if kind == "NodePort" or (kind == "LoadBalancer" and spec.get("allocateLoadBalancerNodePorts") is not False):
            await self._take_ports(obj, old, owner, held, any_port=True)
        elif kind == "LoadBalancer":
            await self._take_ports(obj, old, owner, held, any_port=False)
        if kind == "LoadBalancer" and spec.get("externalTrafficPolicy") == "Local":
            port = spec.get("healthCheckNodePort") or 0
            had = (old or {}).get("spec", {}).get("healthCheckNodePort") or 0
            if not port or port != had:
                spec["healthCheckNodePort"] = await self._port(
                    obj, port, "spec.healthCheckNodePort", owner, held, ports_of(old or {})
                )

    async def _take_addresses(self, obj: Obj, old: Obj | None, owner: Owner, held: Held) -> None:
        spec = obj["spec"]
        wanted: list[str] = [text for text in spec.get("clusterIPs") or () if text]
        before = addresses_of(old) if old is not None else []
        result: list[str] = []
        for index, family in enumerate(spec["ipFamilies"]):
            pool = next((one for one in self.addresses if one.family == family), None)
            asked = wanted[index] if index < len(wanted) else ""
            if pool is None or (asked and not _family(asked)):
                if asked:
                    result.append(asked)
                continue  # validation says what is wrong with it
            if asked in before:
                result.append(asked)
                continue
            try:
                if asked:
                    await pool.take(asked, owner)
                else:
                    asked = await pool.take_any(owner)
            except OutOfRange:
                why = f"failed to allocate IP {asked}: the provided IP ({asked}) is not in the valid range. "
                why += f"The range of valid IPs is {pool.network}"
                raise _refused(obj, [invalid_field("spec.clusterIPs", wanted, why)]) from None
            except Taken:
                why = f"failed to allocate IP {asked}: provided IP is already allocated"
                raise _refused(obj, [invalid_field("spec.clusterIPs", wanted, why)]) from None
            except Exhausted:
                raise internal("failed to allocate a serviceIP: range is full") from None
            held.taken_addresses.append(asked)
            result.append(asked)
        if result:
            spec["clusterIP"], spec["clusterIPs"] = result[0], result

    async def _take_ports(self, obj: Obj, old: Obj | None, owner: Owner, held: Held, *, any_port: bool) -> None:
        before = ports_of(old) if old is not None else set()
        # A port number belongs to the service, so two of its ports with different protocols may share it.
        own: dict[int, set[str]] = {}
        for index, port in enumerate(obj["spec"].get("ports") or ()):
            number = port.get("nodePort") or 0
            protocol = port.get("protocol", "TCP")
            if not number and not any_port:
                continue
            shared = number and number in own and protocol not in own[number]
            if not shared and number not in before:
                path = f"spec.ports[{index}].nodePort"
                number = port["nodePort"] = await self._port(obj, number, path, owner, held, before)
            own.setdefault(number, set()).add(protocol)

    async def _port(self, obj: Obj, number: int, path: str, owner: Owner, held: Held, before: set[int]) -> int:
        pool = self.ports
        if number in before:
            return number
        try:
            if number:
                await pool.take(number, owner)
            else:
                number = await pool.take_any(owner)
        except OutOfRange:
            why = f"provided port is not in the valid range. The range of valid ports is {pool.first}-{pool.last}"
            raise _refused(obj, [invalid_field(path, number, why)]) from None
        except Taken:
            raise _refused(obj, [invalid_field(path, number, "provided port is already allocated")]) from None
        except Exhausted:
            raise internal("failed to allocate a nodePort: range is full") from None
        held.taken_ports.append(number)
        return number


def _refused(obj: Obj, errors: list[FieldError]) -> Exception:
    return invalid(_SERVICE, obj["metadata"].get("name", ""), errors)


def _family(text: Any) -> str:
    try:
        return f"IPv{ipaddress.ip_address(text).version}"
    except ValueError:
        return ""


def normalize_addresses(obj: Obj, old: Obj | None) -> None:
    """Makes clusterIP and clusterIPs agree where the client set only one of them."""
    spec = obj["spec"]
    address, addresses = spec.get("clusterIP") or "", spec.get("clusterIPs") or []
    if old is None:
        if address and not addresses:
            spec["clusterIPs"] = [address]
        return
    before = old["spec"]
    changed = address != (before.get("clusterIP") or "")
    if changed and addresses == (before.get("clusterIPs") or []):
        if address:
            spec["clusterIPs"] = [address, *addresses[1:]]
        else:
            spec.pop("clusterIPs", None)
    elif not changed and not addresses and address:
        spec["clusterIPs"] = [address]


def keep_allocated(obj: Obj, old: Obj) -> None:
    """Fills in what the server allocated for the old service and the client left out of the new one."""
    spec, before = obj["spec"], old["spec"]
    has_address = ("ClusterIP", "NodePort", "LoadBalancer")
    kinds = spec.get("type"), before.get("type")
    if all(kind in has_address for kind in kinds):
        if not spec.get("clusterIP") and before.get("clusterIP"):
            spec["clusterIP"] = before["clusterIP"]
            spec.setdefault("clusterIPs", before.get("clusterIPs"))
        if not spec.get("clusterIPs") and spec.get("clusterIP") == before.get("clusterIP"):
            spec["clusterIPs"] = before.get("clusterIPs")
    if all(kind in ("NodePort", "LoadBalancer") for kind in kinds):
        _keep_ports(spec, before)
    local = spec.get("externalTrafficPolicy") == before.get("externalTrafficPolicy") == "Local"
    port = before.get("healthCheckNodePort")
    if kinds == ("LoadBalancer", "LoadBalancer") and local and port and not spec.get("healthCheckNodePort"):
        spec["healthCheckNodePort"] = port


def _keep_ports(spec: Obj, before: Obj) -> None:
    known = {
        (port.get("protocol", "TCP"), port.get("port")): port["nodePort"]
        for port in before.get("ports") or ()
        if port.get("nodePort")
    }
    used = {port.get("nodePort") for port in spec.get("ports") or ()}
    for port in spec.get("ports") or ():
        number = known.get((port.get("protocol", "TCP"), port.get("port")))
        if not port.get("nodePort") and number is not None and number not in used:
            port["nodePort"] = number
            used.add(number)
