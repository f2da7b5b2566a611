"""Addresses of simulated nodes and their pods (pure): each node has one, and a part of the network for its pods."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network

# The network's own address, a bridge's, a broadcast: what a part of a network has no pods on.
_RESERVED = 3


class Addresses:
    """Divides a network among `nodes` nodes of up to `pods` pods each; raises ValueError if it is too small."""

    def __init__(self, network: IPv4Network | IPv6Network, nodes: int, pods: int) -> None:
        self._network = network
        self._part_bits = max(8, (pods + _RESERVED - 1).bit_length())
        self._pods_start = network.num_addresses // 4
        room = min(self._pods_start - 1, (network.num_addresses - self._pods_start) >> self._part_bits)
        if nodes > room:
            raise ValueError(f"{network} has room for {room} simulated nodes, not {nodes}")
        self._used: dict[int, dict[str, str]] = {}  # node -> pod's uid -> address
        self._next: dict[int, int] = {}

    def node(self, number: int) -> str:
        """Returns the address of a node; they count from 0."""
        return str(self._network[number + 1])

    def part(self, number: int) -> str:
        """Returns the range of the pods on a node."""
        return f"{self._network[self._start(number)]}/{self._network.max_prefixlen - self._part_bits}"

    def pod(self, number: int, uid: str) -> str:
        """Returns the address of a pod: always the same until it is freed, and of no other pod at that time."""
        used = self._used.setdefault(number, {})
        if uid not in used:
            taken, size = set(used.values()), 1 << self._part_bits
            for _ in range(size):
                host = self._next.get(number, 2)
                self._next[number] = host + 1 if host + 2 < size else 2
                address = str(self._network[self._start(number) + host])
                if address not in taken:
                    break
            used[uid] = address
        return used[uid]

    def keep(self, number: int, uid: str, address: str) -> None:
        """Notes an address that a pod has already."""
        self._used.setdefault(number, {})[uid] = address

    def free(self, number: int, uid: str) -> None:
        """Gives a pod's address back."""
        self._used.get(number, {}).pop(uid, None)

    def _start(self, number: int) -> int:
        return self._pods_start + (number << self._part_bits)
