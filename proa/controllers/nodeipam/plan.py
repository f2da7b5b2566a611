"""Parts of an address range for nodes (pure)."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable


def next_free(cluster_cidr: str, mask_size: int, taken: Iterable[str]) -> str | None:
    """Returns the first part of the range that overlaps none of those taken; None if it is used up."""
    network = ipaddress.ip_network(cluster_cidr, strict=False)
    first, step = int(network.network_address), 1 << (network.max_prefixlen - mask_size)
    used: list[tuple[int, int]] = []
    for text in taken:
        part = ipaddress.ip_network(text, strict=False)
        if part.version == network.version:
            used.append((int(part.network_address), int(part.broadcast_address)))
    used.sort()
    candidate = first
    for low, high in used:
        if candidate + step - 1 < low:
            break
        while candidate <= high:
            candidate += step
    if candidate + step - 1 > int(network.broadcast_address):
        return None
    return f"{ipaddress.ip_address(candidate)}/{mask_size}"
