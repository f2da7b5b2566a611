"""How the components of a cluster are put together, the same for one process or many."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from proa.cluster import nodes
from proa.cluster.state import Cluster
from proa.controllers.runtime import Options


def controller_options(cluster: Cluster) -> Options:
    """Returns the controllers' options for a cluster."""
    return Options(
        root_ca=(cluster.path / "pki" / "ca.crt").read_text(),
        cluster_cidr=cluster.pod_range,
        signing_certificate=cluster.path / "ca" / "ca.crt",
        signing_key=cluster.path / "ca" / "ca.key",
    )


def own_controllers() -> Sequence[Callable[[Any], Any]]:
    """Returns the controllers that upstream's controller manager does not have, and clusters of ours do."""
    from proa.controllers.certificates.run import KubeletServingApprover

    return (KubeletServingApprover,)


def cloud_controllers(cluster: Cluster) -> Sequence[Callable[[Any], Any]]:
    """Returns the cloud controllers with the local provider, whose addresses are on the cluster's segment."""
    if not cluster.nodes:
        return ()
    from proa.cloud.local import local_provider
    from proa.cloud.services import ServiceController

    first, last = nodes.balancer_range(cluster)
    return (lambda context: ServiceController(context, local_provider(f"{first}-{last}", context.informers)),)
