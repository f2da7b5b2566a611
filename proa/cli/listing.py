"""proa list"""

from __future__ import annotations

import click


@click.command("list")
def listing() -> None:
    """List the clusters on this machine."""
    from proa.cluster import state
    from proa.cluster.up import is_running

    rows = [("NAME", "STATE", "SERVER", "NODES", "DIRECTORY")]
    for one in state.all_clusters():
        running = "running" if is_running(one) else "stopped"
        rows.append((one.name, running, one.server, str(len(one.nodes) + one.simulated_nodes), one.directory))
    if len(rows) == 1:
        click.echo("no clusters; make one with: proa up")
        return
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
