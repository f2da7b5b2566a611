"""proa encryption status, rotate, rewrite"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from proa.cli.options import cluster_options, find


@click.group()
def encryption() -> None:
    """Show and change the keys that encrypt secrets on disk."""


@encryption.command()
@cluster_options
def status(name: str | None, data_dir: Path | None) -> None:
    """Show what is encrypted, and how many stored values which key encrypts."""
    from proa.cluster import encryption as keys

    _show(keys.status(find(name, data_dir)))


@encryption.command()
@cluster_options
def rotate(name: str | None, data_dir: Path | None) -> None:
    """Make a new key, rewrite everything with it, and forget the old one."""
    from proa.cluster import encryption as keys

    _show(keys.rotate(find(name, data_dir)))


@encryption.command()
@cluster_options
def rewrite(name: str | None, data_dir: Path | None) -> None:
    """Read the keys and rules anew, and rewrite what is not stored as they say."""
    from proa.cluster import encryption as keys

    _show(keys.rewrite(find(name, data_dir)))


def _show(found: dict[str, Any]) -> None:
    for rule in found["rules"]:
        how = f"encrypted with key {rule['key']}" if rule["key"] else "not encrypted"
        click.echo(f"{', '.join(rule['resources'])}: {how}")
    for table, counts in sorted(found["values"].items()):
        for key, count in sorted(counts.items()):
            if key:
                click.echo(f"  {table}: {count} values with key {key}")
    if found["rewritten"]:
        click.echo(f"{found['rewritten']} values were rewritten")
