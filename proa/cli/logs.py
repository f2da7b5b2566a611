"""proa logs"""

from __future__ import annotations

import time
from pathlib import Path

import click

from proa.cli.options import cluster_options, find
from proa.cluster.problems import Problem

_FOLLOW_SECONDS = 0.2


@click.command()
@click.argument("component", required=False)
@cluster_options
@click.option("--tail", default=0, type=click.IntRange(0), help="Only this many last lines [default: all].")
@click.option("--follow", "-f", is_flag=True, help="Go on as lines are written.")
def logs(component: str | None, name: str | None, data_dir: Path | None, tail: int, follow: bool) -> None:
    """Show what a COMPONENT of a cluster wrote: server, agent, containerd, supervisor (of a node: agent.node-1)."""
    directory = find(name, data_dir).path / "logs"
    files = sorted(directory.glob("*.log"))
    if component:
        files = [one for one in files if one.stem == component or one.stem.startswith(f"{component}.")]
    if not files:
        known = ", ".join(sorted(one.stem for one in directory.glob("*.log"))) or "none yet"
        raise Problem(f"no logs of {component!r}", f"there are: {known}")
    offsets = {}
    for file in files:
        lines = file.read_text(errors="replace").splitlines()
        for line in lines[-tail:] if tail else lines:
            click.echo(_prefixed(file, line, len(files)))
        offsets[file] = file.stat().st_size
    while follow:
        time.sleep(_FOLLOW_SECONDS)
        for file, offset in offsets.items():
            with file.open("rb") as stream:
                stream.seek(offset)
                new = stream.read()
            offsets[file] = offset + len(new)
            for line in new.decode(errors="replace").splitlines():
                click.echo(_prefixed(file, line, len(files)))


def _prefixed(file: Path, line: str, count: int) -> str:
    return line if count == 1 else f"{file.stem}: {line}"
