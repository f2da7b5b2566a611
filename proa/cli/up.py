"""proa up"""

from __future__ import annotations

import time
from pathlib import Path

import click

from proa.cli.options import api_options, audit_options, cluster_options, encryption_options
from proa.cluster.state import ApiSettings, AuditSettings


@click.command()
@cluster_options
@click.option("--nodes", type=click.IntRange(0), help="Nodes with real containers [default: 1].")
@click.option("--simulated-nodes", type=click.IntRange(0), help="Nodes that only pretend to run pods [default: 0].")
@click.option(
    "--simulation",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File with kinds of simulated nodes, and lives of pods on them.",
)
@click.option("--port", type=click.IntRange(1, 65535), help="API server port [default: 6443 or the next free one].")
@click.option("--store", default="", help="sqlite:PATH or memory [default: SQLite in the data directory].")
@click.option("--separate", is_flag=True, default=None, help="One process per control-plane component.")
@click.option("--scheduler-config", type=click.Path(path_type=Path), help="A KubeSchedulerConfiguration file.")
@click.option(
    "--scheduler-plugin", "plugins", multiple=True, type=click.Path(path_type=Path), help="Python file with plugins."
)
@audit_options
@encryption_options
@api_options
@click.option("--merge/--no-merge", default=True, help="Put context proa-NAME into your kubeconfig [default: yes].")
@click.option("--quiet", "-q", is_flag=True, help="Print nothing but problems.")
def up(
    name: str | None,
    data_dir: Path | None,
    nodes: int | None,
    simulated_nodes: int | None,
    simulation: Path | None,
    port: int | None,
    store: str,
    separate: bool | None,
    scheduler_config: Path | None,
    plugins: tuple[Path, ...],
    merge: bool,
    quiet: bool,
    audit: AuditSettings,
    encryption_config: Path | None,
    encrypted_resources: tuple[str, ...],
    api: ApiSettings,
) -> None:
    """Start a cluster and wait until it is ready."""
    from proa.cluster import state
    from proa.cluster.up import Wishes
    from proa.cluster.up import up as bring_up

    if data_dir is not None and name is None and (data_dir / "cluster.json").exists():
        name = state.load_directory(data_dir).name
    wishes = Wishes(
        name=name or "default",
        nodes=nodes,
        simulated_nodes=simulated_nodes,
        simulation=simulation,
        port=port,
        directory=data_dir,
        store=store,
        separate=separate,
        scheduler_config=scheduler_config,
        scheduler_plugins=plugins,
        merge=merge,
        audit=audit,
        encryption_config=encryption_config,
        encrypted_resources=encrypted_resources,
        api=api,
    )
    before = time.monotonic()
    outcome = bring_up(wishes, _silent if quiet else _show)
    if quiet:
        return
    cluster = outcome.cluster
    if outcome.steps:
        click.echo(f"cluster {cluster.name!r} is ready after {time.monotonic() - before:.2f} s at {cluster.server}")
    else:
        click.echo(f"cluster {cluster.name!r} is running at {cluster.server}")
    if merge:
        click.echo(
            f"kubectl uses it now (context proa-{cluster.name}). Remove it with: {_command('down', cluster.name)}"
        )
    else:
        click.echo(f"export KUBECONFIG={cluster.path / 'kubeconfig'}")


def _command(verb: str, name: str) -> str:
    return f"proa {verb}" if name == "default" else f"proa {verb} --name {name}"


def _silent(text: str, seconds: float | None) -> None:
    pass


def _show(text: str, seconds: float | None) -> None:
    if seconds is None:
        click.echo(f"  {text} … ", nl=False)
    else:
        click.echo(f"{seconds:.2f} s")
