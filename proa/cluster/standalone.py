"""The components as processes of their own, over HTTPS: for a control plane of several processes or machines.

Each connects with the certificate of its component in a cluster's directory, or as a kubeconfig says (then it serves
any Kubernetes API server). Of several schedulers or controller managers one leads at a time.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from proa.client import kubeconfig
from proa.client.http import HttpClient
from proa.client.informer import SharedInformers
from proa.client.interface import Client
from proa.client.kubeconfig import ClientConfig, Source
from proa.client.leaderelection import LeaderElector
from proa.client.observing import ObservingClient
from proa.client.resources import SERVICEACCOUNTS
from proa.cluster import components, logs
from proa.cluster.problems import Problem
from proa.cluster.server import Part, until_told
from proa.cluster.state import Cluster
from proa.meta.errors import StatusError
from proa.util.clock import SystemClock
from proa.util.files import write_atomic

log = logging.getLogger("proa.standalone")
_TOKEN_SECONDS = 3600
_RETRY_SECONDS = 1.0

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


class Accounts:
    """Clients with the identities of service accounts in kube-system, as upstream's controller manager has them.

    `client_for` hands out clients at once; `start` gets their tokens (and makes the accounts that are missing) and
    renews them before they expire. Tokens are files, which the clients read again when they change.
    """

    def __init__(self, config: ClientConfig, client: Client, directory: Path) -> None:
        self._config = config
        self._client = client
        self._directory = directory
        self._clients: dict[str, HttpClient] = {}
        self._task: asyncio.Task[None] | None = None

    def client_for(self, name: str) -> Client:
        if name not in self._clients:
            file = self._directory / name
            write_atomic(file, b"", mode=0o600)
            config = ClientConfig(server=self._config.server, authority=self._config.authority, token=Source(file=file))
            self._clients[name] = HttpClient(config, user_agent=f"proa/{name}")
        return self._clients[name]

    async def start(self) -> None:
        await asyncio.gather(*(self._fetch(name) for name in self._clients))
        self._task = asyncio.create_task(self._renew(), name="tokens")

    async def stop(self) -> None:
        if self._task:
            self._task.cancel()
        for client in self._clients.values():
            await client.close()

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(_TOKEN_SECONDS * 0.7)
            await asyncio.gather(*(self._fetch(name) for name in self._clients))

    async def _fetch(self, name: str) -> None:
        """Gets a token, for as long as it takes."""
        body = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"expirationSeconds": _TOKEN_SECONDS},
        }
        while True:
            try:
                await self._ensure_account(name)
                answer = await self._client.create(SERVICEACCOUNTS, body, "kube-system", name=name, subresource="token")
                write_atomic(self._directory / name, answer["status"]["token"], mode=0o600)
                return
            except (StatusError, OSError) as error:
                log.warning("token of service account %s: %s", name, error)
                await asyncio.sleep(_RETRY_SECONDS)

    async def _ensure_account(self, name: str) -> None:
        try:
            await self._client.get(SERVICEACCOUNTS, name, "kube-system")
        except StatusError as error:
            if error.code != 404:
                raise
            account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}}
            with contextlib.suppress(StatusError):
                await self._client.create(SERVICEACCOUNTS, account, "kube-system")


# ---------------------------------------------------------------- running


async def _run(config: ClientConfig, start: Start, lease: str) -> None:
    """Runs what `start` starts until told to stop; with a lease's name, only while it leads."""
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
        elector = LeaderElector(client, SystemClock(), name=lease, identity=f"{socket.gethostname()}_{os.getpid()}")
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


async def run_scheduler(config: ClientConfig, *, elect: bool) -> None:
    """Runs the scheduler until SIGTERM, or until it loses its lease."""

    async def start(client: HttpClient) -> Sequence[Part]:
        from proa.scheduler.run import Scheduler

        clock = SystemClock()
        informers = SharedInformers(client)
        await informers.start()
        scheduler = Scheduler(ObservingClient(client, informers, clock), informers, clock)
        await scheduler.start()
        return [informers, scheduler]

    await _run(config, start, "kube-scheduler" if elect else "")


async def run_controllers(config: ClientConfig, cluster: Cluster, *, cloud: bool, elect: bool) -> None:
    """Runs the controllers, or those of the cloud, until SIGTERM or until they lose their lease."""
    with TemporaryDirectory(prefix="proa-tokens-") as directory:

        async def start(client: HttpClient) -> Sequence[Part]:
            from proa.controllers.manager import Manager

            accounts = Accounts(config, client, Path(directory))
            informers = SharedInformers(client)
            manager = Manager(
                informers,
                SystemClock(),
                accounts.client_for,
                components.controller_options(cluster),
                only=() if cloud else None,
                extra=components.cloud_controllers(cluster) if cloud else (),
            )
            await accounts.start()
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
