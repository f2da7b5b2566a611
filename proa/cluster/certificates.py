"""Which certificates a cluster of ours has: its components', the API server's, and those of its isolated nodes."""

from __future__ import annotations

import ipaddress

from proa.cluster import nodes
from proa.cluster.pki import COMPONENTS, Leaf, Pki, api_server, node_leaves
from proa.cluster.state import Cluster


def leaves(cluster: Cluster) -> list[Leaf]:
    # Inside the cluster it is reached by the address of the service `kubernetes`, the first of each range.
    ranges = [ipaddress.ip_network(text.strip()) for text in cluster.service_range.split(",")]
    addresses = [*cluster.bind_addresses, cluster.advertise_address, *(str(one[1]) for one in ranges)]
    if cluster.nodes:
        addresses.append(nodes.host_address(cluster))
    found = [*COMPONENTS, api_server([one for one in addresses if one not in ("", "0.0.0.0", "::")])]
    for node in cluster.nodes:
        found += node_leaves(node.name, [nodes.node_address(cluster, node), "127.0.0.1"])
    return found


def ensure(cluster: Cluster) -> list[str]:
    """Issues what is missing or expires within its last third; returns the paths issued (see `Pki.ensure`)."""
    return Pki(cluster.path).ensure(leaves(cluster))
