"""Network policies as nftables rules for the pods of one node. Pure.

Follows upstream's NetworkPolicy (networking.k8s.io/v1): a pod that a policy selects for a direction is isolated in it,
and may then do what the union of its policies allows. Rules look at forwarded traffic after services have been
resolved, so policies see pods and never service addresses; what a pod and its own node say to each other always
passes, DNS on the node included, and so does what a pod says to itself by way of a service. One base chain per
direction: a packet between two pods of a node must please both.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from proa.meta.objects import Obj, labels_of, name_of, namespace_of
from proa.meta.selectors import from_object

TABLE = "proa-policy"
_FAMILIES = {"ip": ("ipv4_addr", 4), "ip6": ("ipv6_addr", 6)}
_DIRECTIONS = ("ingress", "egress")
_PEERS = {"ingress": "from", "egress": "to"}
_TYPES = {"ingress": "Ingress", "egress": "Egress"}
_FINISHED = ("Succeeded", "Failed")


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """The cluster as policies see it; `namespaces` are labels by name."""

    pods: Sequence[Obj]
    namespaces: Mapping[str, Mapping[str, str]]
    policies: Sequence[Obj]


def addresses(pod: Obj, family: str) -> list[str]:
    """Returns a pod's own addresses; none for pods in their node's network, which policies do not concern."""
    status = pod.get("status") or {}
    if (pod.get("spec") or {}).get("hostNetwork") or status.get("phase") in _FINISHED:
        return []
    listed = [one["ip"] for one in status.get("podIPs") or [] if one.get("ip")]
    listed = listed or ([status["podIP"]] if status.get("podIP") else [])
    return [one for one in listed if (":" in one) == (family == "ip6")]


def isolates(policy: Obj, direction: str) -> bool:
    """Tells whether a policy concerns a direction; without policyTypes: ingress, and egress if it has such rules."""
    spec = policy.get("spec") or {}
    types = spec.get("policyTypes")
    if types:
        return _TYPES[direction] in types
    return direction == "ingress" or bool(spec.get("egress"))


def table(world: World, node_name: str, family: str) -> list[str]:
    """Returns the transaction that makes the node's policy table what it shall be (and takes it away if no policy
    concerns a pod of the node)."""
    writer = _Writer(world, family)
    for direction in _DIRECTIONS:
        writer.direction(direction, node_name)
    prefix = [f"add table {family} {TABLE}", f"delete table {family} {TABLE}"]
    return [*prefix, f"add table {family} {TABLE}", *writer.lines] if writer.lines else prefix


class _Writer:
    """Collects the lines of one table."""

    def __init__(self, world: World, family: str) -> None:
        self.world = world
        self.family = family
        self.kind, self.version = _FAMILIES[family]
        self.lines: list[str] = []
        self._sets: dict[str, str] = {}

    def direction(self, direction: str, node_name: str) -> None:
        """Adds the base chain of a direction, a chain per isolated pod address, and a chain per policy."""
        side, other = ("daddr", "saddr") if direction == "ingress" else ("saddr", "daddr")
        concerned = [one for one in self.world.policies if isolates(one, direction)]
        chosen: dict[str, list[Obj]] = {}
        for pod in self.world.pods:
            if (pod.get("spec") or {}).get("nodeName") != node_name:
                continue
            mine = [one for one in concerned if selects(one, pod)]
            for address in addresses(pod, self.family) if mine else []:
                chosen[address] = mine
        if not chosen:
            return
        used = {id(policy): policy for policies in chosen.values() for policy in policies}
        for policy in used.values():
            self._policy(policy, direction)
        verdicts = []
        for address, policies in sorted(chosen.items()):
            chain = f"pod-{direction}-{_short(address)}"
            self.lines.append(f"add chain {self.family} {TABLE} {chain}")
            self._rule(chain, f"{self.family} {other} {address} accept")
            for policy in policies:
                self._rule(chain, f"jump {_chain(policy, direction)}")
            self._rule(chain, "drop")
            verdicts.append(f"{address} : goto {chain}")
        base = f"add chain {self.family} {TABLE} {direction}"
        priority = 10 if direction == "ingress" else 5
        self.lines.append(f"{base} {{ type filter hook forward priority {priority}; }}")
        self._rule(direction, "ct state established,related accept")
        self._rule(direction, f"{self.family} {side} vmap {{ {', '.join(verdicts)} }}")

    def _policy(self, policy: Obj, direction: str) -> None:
        chain = _chain(policy, direction)
        self.lines.append(f"add chain {self.family} {TABLE} {chain}")
        for rule in (policy.get("spec") or {}).get(direction) or []:
            for peer in self._peers(policy, rule.get(_PEERS[direction]), direction):
                for port in self._ports(policy, rule, direction):
                    self._rule(chain, f"{peer}{port}accept")

    def _rule(self, chain: str, rule: str) -> None:
        self.lines.append(f"add rule {self.family} {TABLE} {chain} {rule}")

    # ------------------------------------------------------------ peers

    def _peers(self, policy: Obj, peers: Sequence[Obj] | None, direction: str) -> Iterator[str]:
        """Yields a match per way to be a peer; an empty one matches everybody."""
        if not peers:
            yield ""
            return
        match = f"{self.family} {'saddr' if direction == 'ingress' else 'daddr'}"
        selected: set[str] = set()
        for peer in peers:
            block = peer.get("ipBlock")
            if block is None:
                selected.update(one for pod in self._matching(policy, peer) for one in addresses(pod, self.family))
            elif ipaddress.ip_network(block["cidr"], strict=False).version == self.version:
                excepted = list(block.get("except") or [])
                but = f"{match} != {{ {', '.join(excepted)} }} " if excepted else ""
                yield f"{match} {ipaddress.ip_network(block['cidr'], strict=False)} {but}"
        if selected:
            yield f"{match} @{self._set(f'type {self.kind};', sorted(selected))} "

    def _matching(self, policy: Obj, peer: Obj) -> list[Obj]:
        """Returns the pods that a peer with selectors stands for."""
        in_namespace: Callable[[str], bool]
        if peer.get("namespaceSelector") is None:
            own = namespace_of(policy)
            in_namespace = own.__eq__
        else:
            spaces = from_object(peer["namespaceSelector"])
            names = {name for name, labels in self.world.namespaces.items() if spaces.matches(labels)}
            in_namespace = names.__contains__
        pods = from_object(peer["podSelector"]) if peer.get("podSelector") is not None else None
        return [
            pod
            for pod in self.world.pods
            if in_namespace(namespace_of(pod)) and (pods is None or pods.matches(labels_of(pod)))
        ]

    # ------------------------------------------------------------ ports

    def _ports(self, policy: Obj, rule: Obj, direction: str) -> Iterator[str]:
        """Yields a match for all numbered ports together and one for all named ones; an empty one matches any."""
        ports = rule.get("ports")
        if not ports:
            yield ""
            return
        numbered: list[tuple[str, int, int]] = []
        for port in ports:
            protocol = (port.get("protocol") or "TCP").lower()
            number = port.get("port")
            if number is None:
                yield f"meta l4proto {protocol} "
            elif isinstance(number, int):
                numbered.append((protocol, number, port.get("endPort") or number))
        if numbered:
            declared = "type inet_proto . inet_service; flags interval;"
            yield f"meta l4proto . th dport @{self._set(declared, _merged(numbered))} "
        named = {(one.get("protocol") or "TCP", one["port"]) for one in ports if isinstance(one.get("port"), str)}
        targets = sorted(self._named(policy, rule, direction, named)) if named else []
        if targets:
            declared = f"type {self.kind} . inet_proto . inet_service;"
            yield f"{self.family} daddr . meta l4proto . th dport @{self._set(declared, targets)} "

    def _named(self, policy: Obj, rule: Obj, direction: str, named: set[tuple[str, str]]) -> Iterator[str]:
        """Yields (address, protocol, number) of the containers' ports that bear the names: of the policy's own pods
        for ingress, of the peers for egress."""
        if direction == "ingress":
            pods = [pod for pod in self.world.pods if selects(policy, pod)]
        else:
            peers = rule.get("to")
            pods = [pod for peer in peers for pod in self._matching(policy, peer)] if peers else list(self.world.pods)
        for pod in pods:
            for container in (pod.get("spec") or {}).get("containers") or []:
                for port in container.get("ports") or []:
                    protocol = port.get("protocol") or "TCP"
                    if (protocol, port.get("name")) in named:
                        for address in addresses(pod, self.family):
                            yield f"{address} . {protocol.lower()} . {port['containerPort']}"

    def _set(self, declaration: str, elements: Iterable[str]) -> str:
        """Returns the name of a set with these elements; equal sets are made once."""
        text = ", ".join(elements)
        name = f"s-{_short(declaration + text)}"
        if name not in self._sets:
            self._sets[name] = text
            self.lines.append(f"add set {self.family} {TABLE} {name} {{ {declaration} }}")
            self.lines.append(f"add element {self.family} {TABLE} {name} {{ {text} }}")
        return name


def _merged(ranges: Iterable[tuple[str, int, int]]) -> list[str]:
    """Returns port ranges by protocol as elements that do not overlap."""
    merged: list[tuple[str, int, int]] = []
    for protocol, low, high in sorted(ranges):
        if merged and merged[-1][0] == protocol and low <= merged[-1][2] + 1:
            merged[-1] = (protocol, merged[-1][1], max(high, merged[-1][2]))
        else:
            merged.append((protocol, low, high))
    return [f"{protocol} . {low}" + (f"-{high}" if high > low else "") for protocol, low, high in merged]


def selects(policy: Obj, pod: Obj) -> bool:
    """Tells whether a policy is about a pod."""
    if namespace_of(policy) != namespace_of(pod):
        return False
    return from_object((policy.get("spec") or {}).get("podSelector") or {}).matches(labels_of(pod))


def _chain(policy: Obj, direction: str) -> str:
    return f"policy-{direction}-{_short(f'{namespace_of(policy)}/{name_of(policy)}')}"


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]
