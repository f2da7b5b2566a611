"""A cluster's simulated nodes: what its simulation file and options make of them, and the part that runs them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from proa.client.informer import Informers
from proa.client.interface import Client
from proa.cluster.problems import Problem
from proa.cluster.state import Cluster
from proa.util.clock import Clock

if TYPE_CHECKING:
    from proa.kubelet.simulated import Group, Life
    from proa.kubelet.simulated.configuration import Simulation

_REMEDY = "docs/simulated-nodes.md says what may be there"


def read(file: Path | None, total: int | None) -> tuple[Sequence[Group], Sequence[Life]]:
    """Returns the kinds of nodes, `total` in all (None: as many as the file says), and the lives of pods; raises
    Problem.
    """
    from proa.kubelet.simulated import Group, NodeTemplate
    from proa.kubelet.simulated.configuration import ConfigurationError
    from proa.kubelet.simulated.loading import load
    from proa.kubelet.simulated.run import NETWORK, addresses

    if file is None:
        return [Group(NodeTemplate(), total or 0)], ()
    try:
        simulation: Simulation = load(file)
        groups = simulation.nodes(total)
    except OSError as error:
        raise Problem(f"the simulation cannot be read ({error})", "check --simulation") from error
    except ConfigurationError as error:
        raise Problem(f"the simulation {file} is not valid: {error}", _REMEDY) from error
    try:
        addresses(groups, NETWORK)
    except ValueError as error:
        raise Problem(
            f"the simulation {file} is not valid: nodes: {error}", "take fewer nodes, or fewer pods each"
        ) from error
    return groups, simulation.lives


def settled(cluster: Cluster, wished: int | None) -> Cluster:
    """Returns the cluster with as many simulated nodes as its file says now, if it says; raises Problem."""
    if not cluster.simulation:
        return cluster
    file = Path(cluster.simulation)
    try:
        groups, _ = read(file, wished)
    except Problem:
        if wished is not None or not cluster.simulated_nodes:
            raise
        groups, _ = read(file, cluster.simulated_nodes)  # one group is what is left of those that were asked for
    return replace(cluster, simulated_nodes=sum(group.count for group in groups))


class Simulated:
    """The simulated nodes as a part of a process; pods' lives follow the file."""

    def __init__(
        self, client: Client, informers: Informers, clock: Clock, file: Path | None, total: int | None
    ) -> None:
        from proa.kubelet.simulated import SimulatedNodes

        groups, lives = read(file, total)
        self._file = file
        self._nodes = SimulatedNodes(client, informers, clock, groups, lives)
        self._following: asyncio.Task[None] | None = None

    async def start(self) -> None:
        await self._nodes.start()
        if self._file is not None:
            from proa.kubelet.simulated.loading import follow

            self._following = asyncio.create_task(follow(self._file, self._changed), name="simulation file")

    def _changed(self, simulation: Simulation) -> None:
        self._nodes.lives = list(simulation.lives)
        self._nodes.look_again()

    async def stop(self) -> None:
        if self._following is not None:
            self._following.cancel()
        await self._nodes.stop()
