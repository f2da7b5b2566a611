"""proa doctor"""

from __future__ import annotations

import sys

import click

_COLORS = {"ok": "green", "note": "yellow", "bad": "red"}


@click.command()
def doctor() -> None:
    """Say what this machine lacks, and the command that mends it. Exits with 1 if clusters cannot run."""
    from proa.cluster.doctor import examine

    bad = 0
    for finding in examine():
        bad += finding.grade == "bad"
        remedy = f"  →  {finding.remedy}" if finding.remedy else ""
        mark = click.style(f"{finding.grade:4}", fg=_COLORS[finding.grade])
        click.echo(f"{mark} {finding.what:18} {finding.detail}{remedy}")
    if bad:
        click.echo(f"{bad} thing(s) to mend; script/setup installs all packages at once")
    else:
        click.echo("this machine can run clusters: proa up")
    sys.exit(1 if bad else 0)
