"""How the components of a cluster are put together, the same for one process or many."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from proa.cluster import nodes
from proa.cluster.problems import Problem
from proa.cluster.state import Cluster
from proa.controllers.runtime import Options

if TYPE_CHECKING:
    from proa.scheduler.config import Configuration


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
    from proa.controllers.localpath.run import LocalPathProvisioner

    return (KubeletServingApprover, LocalPathProvisioner)


def cloud_controllers(cluster: Cluster) -> Sequence[Callable[[Any], Any]]:
    """Returns the cloud controllers with the local provider, whose addresses are on the cluster's segment."""
    if not cluster.nodes:
        return ()
    from proa.cloud.local import local_provider
    from proa.cloud.services import ServiceController

    first, last = nodes.balancer_range(cluster)
    return (lambda context: ServiceController(context, local_provider(f"{first}-{last}", context.informers)),)


def scheduler_file(file: Path | None, plugins: Sequence[Path]) -> Configuration | None:
    """Reads the scheduler's configuration and the user's plugins; None without either. Raises Problem."""
    if file is None and not plugins:
        return None
    from proa.scheduler.config import ConfigError
    from proa.scheduler.loading import load

    try:
        return load(file, plugins)
    except (ConfigError, OSError) as error:
        raise Problem(f"the scheduler's configuration is not valid: {error}", "mend the file") from error


def as_options(configuration: Configuration | None) -> dict[str, Any]:
    """Returns the arguments for `Scheduler` that a configuration stands for."""
    if configuration is None:
        return {}
    return {"profiles": configuration.profiles, "backoff_seconds": configuration.backoff_seconds}


def scheduler_options(cluster: Cluster) -> dict[str, Any]:
    """Returns the arguments for a cluster's `Scheduler`."""
    file = Path(cluster.scheduler_config) if cluster.scheduler_config else None
    return as_options(scheduler_file(file, [Path(one) for one in cluster.scheduler_plugins]))
