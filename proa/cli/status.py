"""proa status"""

from __future__ import annotations

import contextlib
import http.client
import sys
from pathlib import Path

import click

from proa.cli.options import cluster_options, find


@click.command()
@cluster_options
def status(name: str | None, data_dir: Path | None) -> None:
    """Show a cluster's processes, nodes and address. Exits with 1 unless everything runs."""
    from proa.cluster import state
    from proa.cluster.up import Api

    cluster = find(name, data_dir)
    click.echo(f"cluster    {cluster.name}\nserver     {cluster.server}\ndirectory  {cluster.directory}")
    well = True
    recorded = state.processes(cluster.run)
    for component, process in recorded.items():
        well &= process.alive
        memory = f"{state.resident_bytes(process.pid) / 2**20:.0f} MiB" if process.alive else "gone"
        click.echo(f"process    {component:24} {process.pid:>8}  {memory}")
    ready: dict[str, bool] = {}
    with contextlib.suppress(OSError, http.client.HTTPException):
        ready = Api(cluster).nodes()
    for node in sorted(ready):
        well &= ready[node]
        click.echo(f"node       {node:24} {'Ready' if ready[node] else 'NotReady'}")
    if not recorded or not ready:
        well = False
        click.echo("not running" if not any(one.alive for one in recorded.values()) else "the API server is away")
    sys.exit(0 if well else 1)
