"""The components as processes of their own, over HTTPS: for a control plane of several processes or machines.

Each connects with the certificate of its component in a cluster's directory, or as a kubeconfig says (then it serves
any Kubernetes API server). Of several schedulers or controller managers one leads at a time.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from proa.client import kubeconfig
from proa.client.accounts import AccountClients
from proa.client.http import HttpClient
from proa.client.informer import SharedInformers
from proa.client.kubeconfig import ClientConfig, Source
from proa.client.leaderelection import LeaderElector
from proa.client.observing import ObservingClient
from proa.cluster import components, logs
from proa.cluster.problems import Problem
from proa.cluster.server import Part, until_told
from proa.cluster.state import Cluster
from proa.util.clock import SystemClock

log = logging.getLogger("proa.standalone")

Start = Callable[[HttpClient], Awaitable[Sequence[Part]]]


def identity(cluster: Cluster, component: str) -> ClientConfig:
    """Returns how a component of a cluster connects; its certificate may be renewed on disk."""
    pki = cluster.path / "pki"
    return ClientConfig(
        server=cluster.server,
        authority=Source(file=pki / "ca.crt"),
        certificate=Source(file=pki / f"{component}.crt"),
        key=Source(file=pki / f"{component}.key"),
    )


def from_kubeconfig(path: Path) -> ClientConfig:
    """Reads a kubeconfig's current context; raises Problem."""
    try:
        return kubeconfig.load(path)
    except (kubeconfig.KubeconfigError, OSError) as error:
        raise Problem(f"{path}: {error}", "check --kubeconfig") from error


# ---------------------------------------------------------------- running


async def _run(
    config: ClientConfig, start: Start, lease: str, settings: Mapping[str, Any] = MappingProxyType({})
) -> None:
    """Runs what `start` starts until told to stop; with a lease's name, only while it leads. `settings` are further
    arguments of LeaderElector."""
    logs.dump_on_signal()
    client = HttpClient(config, user_agent=f"proa/{lease or 'component'}")

    async def work() -> None:
        parts: Sequence[Part] = []
        try:
            parts = await start(client)
            await asyncio.Event().wait()
        finally:
            for part in reversed(parts):
                with contextlib.suppress(Exception):
                    await part.stop()

    async def lead() -> None:
        # Two that share a host name and a process number, in containers, must not take each other for themselves.
        identity = f"{socket.gethostname()}_{uuid.uuid4()}"
        elector = LeaderElector(client, SystemClock(), **{"name": lease, **settings}, identity=identity)
        await elector.run(work)
        log.error("leadership was lost")

    task = asyncio.create_task(lead() if lease else work())
    told = asyncio.create_task(until_told())
    await asyncio.wait([task, told], return_when=asyncio.FIRST_COMPLETED)
    told.cancel()
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    await client.close()


async def run_scheduler(
    config: ClientConfig,
    options: Mapping[str, Any],
    *,
    elect: bool,
    lease: Mapping[str, Any] = MappingProxyType({}),
) -> None:
    """Runs the scheduler until SIGTERM, or until it loses its lease; `options` as `components.as_options` says, `lease`
    holds arguments of LeaderElector."""

    async def start(client: HttpClient) -> Sequence[Part]:
        from proa.scheduler.run import Scheduler

        clock = SystemClock()
        informers = SharedInformers(client)
        await informers.start()
        scheduler = Scheduler(ObservingClient(client, informers, clock), informers, clock, **options)
        await scheduler.start()
        return [informers, scheduler]

    await _run(config, start, "kube-scheduler" if elect else "", lease)


async def run_controllers(
    config: ClientConfig,
    cluster: Cluster,
    *,
    cloud: bool,
    elect: bool,
    said: Mapping[str, Any] = MappingProxyType({}),
) -> None:
    """Runs the controllers, or those of the cloud, until SIGTERM or until they lose their lease.

    `said`: options to set, by name.
    """

    async def start(client: HttpClient) -> Sequence[Part]:
        from proa.controllers.manager import Manager

        accounts = AccountClients(client)
        informers = SharedInformers(client)
        manager = Manager(
            informers,
            SystemClock(),
            accounts.client,
            replace(components.controller_options(cluster), **said),
            only=() if cloud else None,
            extra=components.cloud_controllers(cluster) if cloud else components.own_controllers(),
        )
        await manager.start()
        return [accounts, informers, manager]

    lease = "cloud-controller-manager" if cloud else "kube-controller-manager"
    await _run(config, start, lease if elect else "")


async def run_proxy(config: ClientConfig, node_name: str, addresses: Sequence[str], pod_ranges: dict[str, str]) -> None:
    """Runs a service proxy for this network namespace until SIGTERM."""

    async def start(client: HttpClient) -> Sequence[Part]:
        from proa.proxy.plan import NodeFacts
        from proa.proxy.run import Proxy

        informers = SharedInformers(client)
        proxy = Proxy(informers, NodeFacts(name=node_name, addresses=tuple(addresses)), pod_ranges)
        await informers.start()
        await proxy.start()
        return [informers, proxy]

    await _run(config, start, "")


async def run_simulated_nodes(config: ClientConfig, file: Path | None, total: int | None) -> None:
    """Runs simulated nodes until SIGTERM: `total` of them, of the kinds that a simulation file describes; raises
    Problem.
    """

    async def start(client: HttpClient) -> Sequence[Part]:
        from proa.cluster.simulation import Simulated

        informers = SharedInformers(client)
        simulated = Simulated(client, informers, SystemClock(), file, total)
        await informers.start()
        await simulated.start()
        return [informers, simulated]

    await _run(config, start, "")


async def run_kubelet(file: Path) -> None:
    """Runs the kubelet that an agent's configuration describes, without the agent's other parts, until SIGTERM."""
    from proa.cluster import agent
    from proa.kubelet.run import run_kubelet as run

    config = agent.load(file)
    client = HttpClient(agent.client_config(config), user_agent="proa-kubelet")
    informers = SharedInformers(client)
    await informers.start()
    task = asyncio.create_task(run(agent.kubelet_options(config), client, informers, SystemClock()))
    told = asyncio.create_task(until_told())
    await asyncio.wait([task, told], return_when=asyncio.FIRST_COMPLETED)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    await informers.stop()
    await client.close()
