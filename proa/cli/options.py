"""Options that many verbs share, and finding the cluster that they mean."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from proa.cluster import state
from proa.cluster.problems import Problem
from proa.cluster.state import Cluster

F = TypeVar("F", bound=Callable[..., Any])


def cluster_options(function: F) -> F:
    """Adds --name and --data-dir, which together say which cluster is meant."""
    for option in (
        click.option("--data-dir", type=click.Path(path_type=Path), help="The cluster's directory [default: by name]."),
        click.option("--name", help="The cluster's name [default: default, or the one in --data-dir]."),
    ):
        function = option(function)
    return function


def find(name: str | None, data_dir: Path | None) -> Cluster:
    """Returns the cluster that the options mean; raises Problem if there is none."""
    if data_dir is None:
        return state.existing(name or "default")
    cluster = state.load_directory(data_dir)
    if name and cluster.name != name:
        raise Problem(f"{data_dir} holds cluster {cluster.name!r}, not {name!r}", "leave out --name or --data-dir")
    return cluster


def running(name: str | None, data_dir: Path | None) -> bool:
    """Tells whether the options mean a cluster that runs; raises Problem if they name one that does not exist."""
    from proa.cluster.up import is_running

    if name is None and data_dir is None and state.load("default") is None:
        return False
    return is_running(find(name, data_dir))
