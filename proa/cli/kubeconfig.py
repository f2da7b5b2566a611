"""proa kubeconfig"""

from __future__ import annotations

from pathlib import Path

import click

from proa.cli.options import cluster_options, find


@click.command()
@cluster_options
def kubeconfig(name: str | None, data_dir: Path | None) -> None:
    """Print a cluster's kubeconfig."""
    click.echo((find(name, data_dir).path / "kubeconfig").read_text(), nl=False)
