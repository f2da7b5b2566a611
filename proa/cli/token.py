"""proa token create"""

from __future__ import annotations

from pathlib import Path

import click

from proa.cli.options import cluster_options, find


@click.group()
def token() -> None:
    """Make tokens with which nodes join."""


@token.command()
@cluster_options
@click.option("--hours", default=24.0, show_default=True, help="How long it may be used.")
def create(name: str | None, data_dir: Path | None, hours: float) -> None:
    """Make a bootstrap token: a kubelet that has it may ask for its certificate."""
    from proa.cluster.tokens import create as make

    click.echo(make(find(name, data_dir), hours))
