"""Parts of an address range for nodes (pure)."""

from __future__ import annotations

import ipaddress
from collections import Counter


class Pool:
    """A range cut into parts of one size; knows which of them overlap with what is taken. Raises ValueError for a
    malformed range."""

    def __init__(self, cidr: str, mask_size: int) -> None:
        network = ipaddress.ip_network(cidr, strict=False)
        self._version = network.version
        self._first = int(network.network_address)
        self._mask_size = mask_size
        self._bits = network.max_prefixlen - mask_size
        self._count = 1 << max(mask_size - network.prefixlen, 0) if mask_size >= network.prefixlen else 0
        self._taken: Counter[int] = Counter()
        self._lowest = 0  # no part below it is free

    def _parts(self, text: str) -> range:
        """Returns the numbers of the parts that a range overlaps."""
        network = ipaddress.ip_network(text, strict=False)
        if network.version != self._version:
            return range(0)
        low = (int(network.network_address) - self._first) >> self._bits
        high = (int(network.broadcast_address) - self._first) >> self._bits
        return range(max(low, 0), min(high + 1, self._count))

    def take(self, text: str) -> None:
        """Notes that a range is in use."""
        self._taken.update(self._parts(text))

    def free(self, text: str) -> None:
        """Notes that a range that was taken is no longer in use."""
        for part in self._parts(text):
            self._taken[part] -= 1
            if self._taken[part] <= 0:
                del self._taken[part]
                self._lowest = min(self._lowest, part)

    def next_free(self) -> str | None:
        """Returns the first part that overlaps nothing taken; None if all are used up."""
        while self._lowest in self._taken:
            self._lowest += 1
        if self._lowest >= self._count:
            return None
        return f"{ipaddress.ip_address(self._first + (self._lowest << self._bits))}/{self._mask_size}"
