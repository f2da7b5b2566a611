"""proa server"""

from __future__ import annotations

from pathlib import Path

import click

from proa.cli.options import api_options, audit_options, cluster_options, encryption_options
from proa.cluster.state import ApiSettings, AuditSettings


@click.command()
@cluster_options
@click.option("--port", type=click.IntRange(1, 65535), help="API server port [default: 6443].")
@click.option("--bind-address", "bind", multiple=True, help="An address to listen on [default: 127.0.0.1].")
@click.option("--advertise-address", default="", help="Where nodes and pods reach it [default: the last to listen on].")
@click.option("--store", default="", help="sqlite:PATH or memory [default: SQLite in the data directory].")
@click.option("--simulated-nodes", type=click.IntRange(0), help="Nodes that only pretend to run pods.")
@click.option(
    "--simulation",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File with kinds of simulated nodes, and lives of pods on them.",
)
@audit_options
@encryption_options
@api_options
def server(
    name: str | None,
    data_dir: Path | None,
    port: int | None,
    bind: tuple[str, ...],
    advertise_address: str,
    store: str,
    simulated_nodes: int | None,
    simulation: Path | None,
    audit: AuditSettings,
    encryption_config: Path | None,
    encrypted_resources: tuple[str, ...],
    api: ApiSettings,
) -> None:
    """Run a control plane in the foreground, without nodes of its own. Its kubeconfig is in the data directory."""
    from proa.cluster import logs
    from proa.cluster.foreground import prepare
    from proa.cluster.server import serve
    from proa.wire.server import run

    cluster = prepare(
        name=name or "default",
        directory=data_dir,
        port=port,
        bind_addresses=bind,
        advertise_address=advertise_address,
        store=store,
        simulated_nodes=simulated_nodes,
        simulation=simulation,
        audit=audit,
        encryption_config=encryption_config,
        encrypted_resources=encrypted_resources,
        api=api,
    )
    logs.configure()
    run(serve(cluster))
