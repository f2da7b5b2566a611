"""A control plane that its user runs in the foreground: the directory, keys and kubeconfig that it needs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from proa.cluster import certificates, kubeconfig, state
from proa.cluster.problems import Problem
from proa.cluster.state import ApiSettings, AuditSettings, Cluster

_DEFAULT_PORT = 6443


def prepare(
    *,
    name: str,
    directory: Path | None,
    port: int | None,
    bind_addresses: tuple[str, ...],
    advertise_address: str,
    store: str,
    simulated_nodes: int | None,
    simulation: Path | None,
    audit: AuditSettings,
    encryption_config: Path | None,
    encrypted_resources: tuple[str, ...],
    api: ApiSettings,
) -> Cluster:
    """Returns the cluster of a directory, made at first use; options that are given replace what it remembers.

    Raises Problem if the directory is that of a cluster with isolated nodes, which only `proa up` can run.
    """
    state.check_name(name)
    place = (directory or state.home() / name).resolve()
    known = state.load_directory(place) if (place / "cluster.json").exists() else None
    if known is not None and known.nodes:
        raise Problem(f"{place} holds cluster {known.name!r} with nodes of its own", f"proa up --name {known.name}")
    cluster = known or Cluster(name=name, directory=str(place), port=_DEFAULT_PORT, segment=0)
    cluster = replace(
        cluster,
        port=port or cluster.port,
        bind_addresses=bind_addresses or cluster.bind_addresses,
        advertise_address=advertise_address or cluster.advertise_address,
        store=store or cluster.store,
        simulated_nodes=cluster.simulated_nodes if simulated_nodes is None else simulated_nodes,
        simulation=str(simulation.resolve()) if simulation else cluster.simulation,
        audit=audit.over(cluster.audit),
        encryption_config=str(encryption_config or cluster.encryption_config),
        encrypted_resources=encrypted_resources or cluster.encrypted_resources,
        api=api.over(cluster.api),
    )
    if cluster.simulation:
        from proa.cluster.simulation import settled

        cluster = settled(cluster, simulated_nodes)
    try:
        cluster.save()
        certificates.ensure(cluster)
        kubeconfig.write_admin(cluster)
    except PermissionError as error:
        raise Problem(f"{error.filename} cannot be written", "run as root, or choose a --data-dir of yours") from error
    return cluster
