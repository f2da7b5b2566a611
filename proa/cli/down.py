"""proa down"""

from __future__ import annotations

from pathlib import Path

import click

from proa.cli.options import cluster_options, find


@click.command()
@cluster_options
def down(name: str | None, data_dir: Path | None) -> None:
    """Stop a cluster and remove everything of it: processes, containers, networks, files, kubeconfig context."""
    from proa.cluster import teardown

    cluster = find(name, data_dir)
    teardown.check_root()
    teardown.remove(cluster)
    click.echo(f"cluster {cluster.name!r} is gone")
