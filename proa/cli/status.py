"""proa status"""

from __future__ import annotations

import contextlib
import http.client
import sys
from pathlib import Path

import click

from proa.cli.options import cluster_options, find

_NODES_SHOWN_MAX = 50  # of more than these, those that are not Ready are worth a line


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
    well &= all(ready.values())
    shown = sorted(ready)
    if len(ready) > _NODES_SHOWN_MAX:
        click.echo(f"nodes      {sum(ready.values()):,} of {len(ready):,} Ready")
        shown = [node for node in shown if not ready[node]]
    for node in shown[:_NODES_SHOWN_MAX]:
        click.echo(f"node       {node:24} {'Ready' if ready[node] else 'NotReady'}")
    if len(shown) > _NODES_SHOWN_MAX:
        click.echo(f"           and {len(shown) - _NODES_SHOWN_MAX:,} more like these")
    if not recorded or not ready:
        well = False
        click.echo("not running" if not any(one.alive for one in recorded.values()) else "the API server is away")
    sys.exit(0 if well else 1)
