"""proa agent"""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.option("--config", "file", required=True, type=click.Path(path_type=Path, exists=True), help="agent.json")
def agent(file: Path) -> None:
    """Run a node's agent (kubelet, proxy, DNS, network) in the foreground, in this network namespace.

    The file says where API server, certificates and container runtime are; `proa up` writes one for each of its
    nodes, in the cluster's directory under nodes/NAME/agent.json.
    """
    from proa.cluster import agent as module
    from proa.cluster import logs
    from proa.cluster.problems import Problem
    from proa.wire.server import run

    try:
        config = module.load(file)
    except ValueError as error:
        raise Problem(f"{file} is no agent configuration ({error})", "compare it with one that `proa up` wrote")
    logs.configure()
    run(module.serve(config))
