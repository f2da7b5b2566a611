"""The rule set of a node as a value: which services share what, and the nft lines that lead from one state to the next.

One table per address family. Chains are per *number of endpoints*: `svc-3` picks one of the maps `slot-0` to `slot-2`
by chance, and the map knows the endpoint of the service that was asked for; so a service is a few map elements, never
a chain. `ext-3` masquerades, `loc-3` picks among this node's endpoints. Nothing here does I/O.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from proa.proxy.plan import EMPTY, Element, Share

TABLE = "proa"
MASQUERADE_MARK = "0x4000"

_KEY = "{address} . inet_proto . inet_service"
_MAPS = {
    "frontends": f"type {_KEY} : verdict;",  # an address and port that leads somewhere
    "external": f"type {_KEY} : verdict;",  # the same, where it differs for those outside (policy Local)
    "refused": f"type {_KEY} : verdict;",  # no endpoints
    "external-refused": f"type {_KEY} : verdict;",
}
_SETS = {
    "restricted": f"type {_KEY};",  # only sources in `allowed` may reach these
    "allowed": f"type {_KEY} . {{address}}; flags interval;",
    "hairpin": "type {address} . {address};",  # a pod that reaches itself through a service
}
_FAMILIES = {"ip": "ipv4_addr", "ip6": "ipv6_addr"}

_ASKED = "{family} daddr . meta l4proto . th dport"
_CHAINS = {
    "refuse": ["reject"],
    "prerouting": [
        "type nat hook prerouting priority -100;",
        "{family} saddr != {pods} {asked} vmap @external",
        "{asked} vmap @frontends",
    ],
    "output": ["type nat hook output priority -100;", "{asked} vmap @frontends"],
    "postrouting": [
        "type nat hook postrouting priority 100;",
        "meta mark & {mark} == {mark} meta mark set meta mark ^ {mark} masquerade fully-random",
        "{family} saddr . {family} daddr @hairpin masquerade fully-random",
    ],
    "firewall": [
        "type filter hook prerouting priority -110;",
        "ct state new {asked} @restricted {asked} . {family} saddr != @allowed drop",
    ],
    "input": ["type filter hook input priority -1;", "ct state new jump refusals"],
    # What belongs to no connection would leave with a pod's address that nobody translates back, and end connections.
    "forward": ["type filter hook forward priority -1;", "ct state invalid drop", "ct state new jump refusals"],
    "egress": ["type filter hook output priority -1;", "ct state new {asked} vmap @refused"],
    "refusals": ["{family} saddr != {pods} {asked} vmap @external-refused", "{asked} vmap @refused"],
}


@dataclass(slots=True)
class Ruleset:
    """The state of the kernel's tables as far as the proxy made them. `pod_ranges` are by family."""

    pod_ranges: Mapping[str, str]
    shares: dict[str, Share] = field(default_factory=dict)
    _owners: dict[Element, dict[str, str]] = field(default_factory=dict)
    _generic: set[tuple[str, str]] = field(default_factory=set)  # (family, chain or map) per count and slot

    def start(self) -> list[str]:
        """Returns the lines that replace whatever was there by empty tables."""
        self._generic.clear()
        self._owners.clear()
        self.shares.clear()
        lines = []
        for family, pods in self.pod_ranges.items():
            values = {"family": family, "address": _FAMILIES[family], "pods": pods, "mark": MASQUERADE_MARK}
            values["asked"] = _ASKED.format(**values)
            lines += [f"add table {family} {TABLE}", f"delete table {family} {TABLE}", f"add table {family} {TABLE}"]
            for kind, declarations in (("map", _MAPS), ("set", _SETS)):
                lines += [
                    f"add {kind} {family} {TABLE} {n} {{ {d.format(**values)} }}" for n, d in declarations.items()
                ]
            for name, rules in _CHAINS.items():
                hook = f" {{ {rules[0]} }}" if rules[0].startswith("type ") else ""
                lines.append(f"add chain {family} {TABLE} {name}{hook}")
            for name, rules in _CHAINS.items():
                plain = [rule for rule in rules if not rule.startswith("type ")]
                lines += [f"add rule {family} {TABLE} {name} {rule.format(**values)}" for rule in plain]
        return lines

    def replace(self, changes: Mapping[str, Share | None]) -> list[str]:
        """Takes in the new shares of some services (None: gone); returns the lines, of one transaction, for it."""
        before: dict[Element, str | None] = {}
        old_chains: dict[tuple[str, str], tuple[str, ...]] = {}
        old_sets: dict[tuple[str, str], str] = {}
        new_chains: dict[tuple[str, str], tuple[str, ...]] = {}
        new_sets: dict[tuple[str, str], str] = {}
        for service, share in changes.items():
            old, new = self.shares.get(service, EMPTY), share or EMPTY
            old_chains.update(old.chains)
            old_sets.update(old.sets)
            new_chains.update(new.chains)
            new_sets.update(new.sets)
            for element in old.elements.keys() - new.elements.keys():
                before.setdefault(element, self._value(element))
                self._owners[element].pop(service)
            for element, value in new.elements.items():
                if old.elements.get(element) != value:
                    before.setdefault(element, self._value(element))
                    self._owners.setdefault(element, {})[service] = value
            if share is None:
                self.shares.pop(service, None)
            else:
                self.shares[service] = share
        after = {element: self._value(element) for element in before}
        for element, left in after.items():
            if left is None:
                self._owners.pop(element, None)
        changed = {element: (old, after[element]) for element, old in before.items() if old != after[element]}
        return [
            *self._declare(changed),
            *_delete_elements(element for element, (old, _) in changed.items() if old is not None),
            *_replace_chains(old_chains, old_sets, new_chains, new_sets),
            *_add_elements((element, new) for element, (_, new) in changed.items() if new is not None),
        ]

    def _value(self, element: Element) -> str | None:
        owners = self._owners.get(element)
        return next(iter(owners.values())) if owners else None

    def _declare(self, changed: Mapping[Element, tuple[str | None, str | None]]) -> list[str]:
        """Makes the maps per slot and the chains per number of endpoints that are needed for the first time."""
        lines: list[str] = []
        for (family, _, _), (_, value) in changed.items():
            if value and value.startswith("goto ") and not value.startswith(("goto aff-", "goto refuse")):
                kind, _, count = value.removeprefix("goto ").partition("-")
                lines += self._declare_chain(family, kind, int(count))
        return lines

    def _declare_chain(self, family: str, kind: str, count: int) -> list[str]:
        name = f"{kind}-{count}"
        if (family, name) in self._generic:
            return []
        self._generic.add((family, name))
        add_chain, add_rule = f"add chain {family} {TABLE} {name}", f"add rule {family} {TABLE} {name}"
        if kind == "ext":
            mark = f"{add_rule} meta mark set meta mark | {MASQUERADE_MARK}"
            return [*self._declare_chain(family, "svc", count), add_chain, mark, f"{add_rule} goto svc-{count}"]
        slots = "local" if kind == "loc" else "slot"
        lines = []
        for slot in range(count):
            lines += self._declare_slot(family, f"{slots}-{slot}")
        verdicts = ", ".join(f"{slot} : goto {slots}-{slot}" for slot in range(count))
        return [*lines, add_chain, f"{add_rule} numgen random mod {count} vmap {{ {verdicts} }}"]

    def _declare_slot(self, family: str, name: str) -> list[str]:
        if (family, name) in self._generic:
            return []
        self._generic.add((family, name))
        address = _FAMILIES[family]
        return [
            f"add map {family} {TABLE} {name} {{ type {_KEY.format(address=address)} : {address} . inet_service; }}",
            f"add chain {family} {TABLE} {name}",
            f"add rule {family} {TABLE} {name} dnat {family} to {_ASKED.format(family=family)} map @{name}",
        ]


def _delete_elements(elements: Iterable[Element]) -> list[str]:
    grouped: dict[tuple[str, str], list[str]] = {}
    for family, name, key in elements:
        grouped.setdefault((family, name), []).append(key)
    return [f"delete element {f} {TABLE} {name} {{ {', '.join(keys)} }}" for (f, name), keys in grouped.items()]


def _add_elements(elements: Iterable[tuple[Element, str]]) -> list[str]:
    grouped: dict[tuple[str, str], list[str]] = {}
    for (family, name, key), value in elements:
        grouped.setdefault((family, name), []).append(f"{key} : {value}" if value else key)
    return [f"add element {f} {TABLE} {name} {{ {', '.join(texts)} }}" for (f, name), texts in grouped.items()]


_Named = Mapping[tuple[str, str], str]
_NamedRules = Mapping[tuple[str, str], tuple[str, ...]]


def _replace_chains(old: _NamedRules, old_sets: _Named, new: _NamedRules, new_sets: _Named) -> list[str]:
    """Changes the chains and sets of services with session affinity; sets that stay keep their clients."""
    lines = [f"add set {f} {TABLE} {n} {{ {new_sets[f, n]} }}" for f, n in sorted(new_sets.keys() - old_sets.keys())]
    lines += [f"add chain {f} {TABLE} {n}" for f, n in sorted(new.keys() - old.keys())]
    stale = [name for name in sorted(old) if new.get(name) != old[name]]
    lines += [f"flush chain {f} {TABLE} {n}" for f, n in stale]
    for (family, name), rules in new.items():
        if old.get((family, name)) != rules:
            lines += [f"add rule {family} {TABLE} {name} {rule}" for rule in rules]
    lines += [f"delete chain {f} {TABLE} {n}" for f, n in stale if (f, n) not in new]
    return lines + [f"delete set {f} {TABLE} {n}" for f, n in sorted(old_sets.keys() - new_sets.keys())]
