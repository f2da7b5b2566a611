"""Which cluster addresses and node ports a write of a service needs, keeps and gives back. Pure: the API server owns
the pools and carries the plan out.

Follows upstream's `pkg/registry/core/service/storage/alloc.go`. Order of a write: `prepare_create`/`prepare_update` of
the strategy, `plan`, allocation, validation. On failure what was allocated is given back; what a plan releases is given
back after the write has succeeded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from proa.apis.core.service_checks import HEADLESS, cluster_addresses, is_headless
from proa.apis.fields import Errors, is_ipv6
from proa.meta.errors import invalid_field
from proa.meta.objects import Obj


def needs_cluster_ip(spec: Obj) -> bool:
    return spec.get("type") in ("ClusterIP", "NodePort", "LoadBalancer")


def needs_node_ports(spec: Obj) -> bool:
    """Tells whether the type has node ports; a load balancer without them still keeps those that are stated."""
    return spec.get("type") in ("NodePort", "LoadBalancer")


def needs_health_port(spec: Obj) -> bool:
    return spec.get("type") == "LoadBalancer" and spec.get("externalTrafficPolicy") == "Local"


@dataclass(frozen=True, slots=True)
class AddressWish:
    """An address for `clusterIPs[index]`; `address` empty: any of the family."""

    index: int
    family: str
    address: str = ""


@dataclass(frozen=True, slots=True)
class PortWish:
    """A node port for `ports[index]`, and the same number for `shared`, ports of the same number with another protocol.

    `number` 0: any that is free.
    """

    index: int
    number: int = 0
    shared: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """What a write needs. `errors` are a 422 of their own, before anything is allocated.

    `families` and `policy` are to be set in the spec as they are (None: the field goes). A failed address wish is an
    error at `spec.clusterIPs` with the whole list as its value, a failed port wish one at `spec.ports[i].nodePort`.
    """

    errors: Errors = field(default_factory=list)
    families: tuple[str, ...] | None = None
    policy: str | None = None
    addresses: tuple[AddressWish, ...] = ()
    node_ports: tuple[PortWish, ...] = ()
    health_port: int | None = None  # 0: any; a number: that one; None: none is needed
    release_addresses: tuple[str, ...] = ()
    release_ports: tuple[int, ...] = ()

    def apply_families(self, spec: Obj) -> None:
        """Writes the families into the spec, in place."""
        for key, value in (("ipFamilies", list(self.families or ())), ("ipFamilyPolicy", self.policy)):
            if value:
                spec[key] = value
            else:
                spec.pop(key, None)


def plan(new: Obj | None, old: Obj | None, cluster_families: Sequence[str]) -> Plan:
    """Returns what the step from `old` to `new` (services; None: there is none) takes and gives back.

    `cluster_families` are the families of the service ranges, the primary first, such as ("IPv4",).
    """
    before = (old or {}).get("spec") or {}
    if new is None:
        return Plan(release_addresses=_held_addresses(before), release_ports=_held_ports(before))
    spec = new.get("spec") or {}
    if not needs_cluster_ip(spec):
        return Plan(
            families=tuple(spec.get("ipFamilies") or ()),
            policy=spec.get("ipFamilyPolicy"),
            release_addresses=_held_addresses(before),
            release_ports=_held_ports(before),
        )
    errors = cluster_addresses(spec)
    if errors:
        return Plan(errors=errors)
    families, policy, errors = _families(spec, before, cluster_families)
    if errors:
        return Plan(errors=errors)
    addresses, released = _addresses(spec, before, families)
    ports, released_ports = _ports(spec, before)
    return Plan(
        families=families,
        policy=policy,
        addresses=addresses,
        node_ports=ports,
        health_port=_health_port(spec, before),
        release_addresses=released,
        release_ports=released_ports,
    )


def _other(family: str) -> str:
    return "IPv6" if family == "IPv4" else "IPv4"


def _families(spec: Obj, before: Obj, cluster: Sequence[str]) -> tuple[tuple[str, ...], str, Errors]:
    families, policy = list(spec.get("ipFamilies") or []), spec.get("ipFamilyPolicy") or ""
    if _is_settled(spec, before):
        return tuple(families), policy, []
    errors: Errors = []
    addresses = [one for one in spec.get("clusterIPs") or [] if one != HEADLESS]
    if policy == "SingleStack":
        for key, values in (("ipFamilies", families), ("clusterIPs", addresses)):
            if len(values) == 2:
                detail = f"must be RequireDualStack or PreferDualStack when multiple {key} are specified"
                errors.append(invalid_field("spec.ipFamilyPolicy", policy, detail))
    families += ["IPv6" if is_ipv6(one) else "IPv4" for one in addresses[len(families) :]]
    if errors:
        return (), "", errors
    if is_headless(spec) and not spec.get("selector"):
        return _headless_families(families, policy, cluster)
    if policy == "RequireDualStack" and len(cluster) < 2:
        detail = "this cluster is not configured for dual-stack services"
        errors.append(invalid_field("spec.ipFamilyPolicy", policy, detail))
    errors += [
        invalid_field(f"spec.ipFamilies[{index}]", family, "not configured on this cluster")
        for index, family in enumerate(families)
        if family not in cluster
    ]
    if errors:
        return (), "", errors
    policy = policy or "SingleStack"
    families = families or [cluster[0]]
    if policy != "SingleStack" and len(families) == 1 and len(cluster) == 2:
        families.append(_other(families[0]))
    return tuple(families), policy, []


def _is_settled(spec: Obj, before: Obj) -> bool:
    """A PreferDualStack service keeps its families until someone asks for others."""
    keys = ("ipFamilyPolicy", "ipFamilies", "clusterIPs")
    return (
        spec.get("ipFamilyPolicy") == "PreferDualStack"
        and bool(spec.get("ipFamilies"))
        and all(spec.get(key) == before.get(key) for key in keys)
    )


def _headless_families(families: list[str], policy: str, cluster: Sequence[str]) -> tuple[tuple[str, ...], str, Errors]:
    """A headless service without selector may name families that the cluster does not have."""
    families = families or [cluster[0]]
    policy = policy or "RequireDualStack"
    if len(families) < 2 and policy != "SingleStack":
        families.append(_other(families[0]))
    return tuple(families), policy, []


def _held_addresses(spec: Obj) -> tuple[str, ...]:
    if not needs_cluster_ip(spec):
        return ()
    return tuple(one for one in spec.get("clusterIPs") or [] if one != HEADLESS)


def _held_ports(spec: Obj) -> tuple[int, ...]:
    numbers = [port.get("nodePort") or 0 for port in spec.get("ports") or []]
    return tuple(dict.fromkeys(number for number in [*numbers, spec.get("healthCheckNodePort") or 0] if number))


def _addresses(spec: Obj, before: Obj, families: Sequence[str]) -> tuple[tuple[AddressWish, ...], tuple[str, ...]]:
    held = _held_addresses(before)
    if is_headless(spec):
        return (), held
    stated = spec.get("clusterIPs") or []
    wishes = [
        AddressWish(index, family, stated[index] if index < len(stated) else "")
        for index, family in enumerate(families)
        if index >= len(stated) or stated[index] not in held
    ]
    kept = set(stated[: len(families)])
    return tuple(wishes), tuple(one for one in held if one not in kept)


def _ports(spec: Obj, before: Obj) -> tuple[tuple[PortWish, ...], tuple[int, ...]]:
    held = set(_held_ports(before))
    if not needs_node_ports(spec):
        return (), _gone(held, spec, before)
    any_port = spec.get("type") == "NodePort" or spec.get("allocateLoadBalancerNodePorts") is not False
    ports = spec.get("ports") or []
    wishes = _changed_ports(ports, any_port, held) if before else _first_ports(ports, any_port)
    return tuple(wishes), _gone(held, spec, before)


def _first_ports(ports: list[Obj], any_port: bool) -> list[PortWish]:
    """Node ports of a new service: ports of one number with different protocols share theirs."""
    stated = {port.get("port"): port["nodePort"] for port in reversed(ports) if port.get("nodePort")}
    wishes: list[PortWish] = []
    places: dict[int, int] = {}
    for index, port in enumerate(ports):
        own, number = port.get("port") or 0, port.get("nodePort") or 0
        if not number and not any_port:
            continue
        place = places.get(own)
        if place is not None and number in (0, wishes[place].number):
            wish = wishes[place]
            wishes[place] = PortWish(wish.index, wish.number, (*wish.shared, index))
            continue
        places.setdefault(own, len(wishes))
        wishes.append(PortWish(index, number or stated.get(own, 0)))
    return wishes


def _changed_ports(ports: list[Obj], any_port: bool, held: set[int]) -> list[PortWish]:
    wishes: list[PortWish] = []
    asked: set[int] = set()
    for index, port in enumerate(ports):
        number = port.get("nodePort") or 0
        if number in held or (number and number in asked) or not (number or any_port):
            continue
        asked.add(number)
        wishes.append(PortWish(index, number))
    return wishes


def _gone(held: set[int], spec: Obj, before: Obj) -> tuple[int, ...]:
    kept = set(_held_ports(spec)) if needs_node_ports(spec) else set()
    if not needs_health_port(spec):
        kept.discard(before.get("healthCheckNodePort") or 0)
    return tuple(sorted(held - kept))


def _health_port(spec: Obj, before: Obj) -> int | None:
    if not needs_health_port(spec):
        return None
    number = spec.get("healthCheckNodePort") or 0
    return None if number and number == before.get("healthCheckNodePort") else number
