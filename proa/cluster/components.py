"""How the components of a cluster are put together, the same for one process or many."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from proa.cluster import nodes
from proa.cluster.pki import Leaf, Pki, node_leaves
from proa.cluster.state import Cluster, Node

if TYPE_CHECKING:
    from proa.controllers.runtime import Options


def leaves_of(cluster: Cluster, node: Node) -> tuple[Leaf, Leaf]:
    """Returns the certificates that an isolated node needs."""
    return node_leaves(node.name, [nodes.node_address(cluster, node), "127.0.0.1"])


def controller_options(cluster: Cluster, pki: Pki) -> Options:
    """Returns the controllers' options for a cluster."""
    from proa.controllers.runtime import Options

    return Options(
        root_ca=pki.certificate("ca").read_text(),
        cluster_cidr=cluster.pod_range,
        signing_certificate=pki.ca_directory / "ca.crt",
        signing_key=pki.ca_directory / "ca.key",
    )


def cloud_controllers(cluster: Cluster) -> Sequence[Callable[[Any], Any]]:
    """Returns the cloud controllers with the local provider, whose addresses are on the cluster's segment."""
    if not cluster.nodes:
        return ()
    from proa.cloud.local import local_provider
    from proa.cloud.services import ServiceController

    first, last = nodes.balancer_range(cluster)
    return (lambda context: ServiceController(context, local_provider(f"{first}-{last}", context.informers)),)
