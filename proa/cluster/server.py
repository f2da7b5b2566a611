"""The control-plane process: API server, scheduler, controllers and cloud controllers in one, over in-process clients.

`python -m proa.cluster.start DIRECTORY` runs the control plane of the cluster in DIRECTORY; `proa server` does the
same. The API server serves before the scheduler's modules are even imported.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import logging
import resource
import signal
import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from proa.apiserver.app import ApiServer, Options
from proa.apiserver.audit.logfile import LogFile
from proa.apiserver.audit.run import AuditOptions
from proa.apiserver.audit.webhook import Webhook
from proa.apiserver.authn.frontproxy import FrontProxy
from proa.client.informer import SharedInformers
from proa.client.interface import Client, UserInfo
from proa.client.local import LocalClient
from proa.client.observing import ObservingClient
from proa.cluster import addons, encryption, logs, nodes, state
from proa.cluster.problems import Problem
from proa.cluster.state import Cluster
from proa.util import collector
from proa.util.clock import Clock, SystemClock
from proa.wire.server import run as run_loop
from proa.wire.tls import client_context, server_context

log = logging.getLogger("proa.server")

_RENEWAL_CHECK_SECONDS = 6 * 3600.0
_ADMIN = UserInfo("proa:server", ("system:masters", "system:authenticated"))
_READER = UserInfo("system:apiserver", ("system:masters", "system:authenticated"))


class Part(Protocol):
    """Anything that runs from `start` to `stop`."""

    async def start(self) -> None: ...

    async def stop(self) -> None: ...


class ControlPlane:
    """A cluster's control plane in this process: all of it, or, `alone`, the API server without the others.

    `front_proxy` says whose word on users counts instead of that of the cluster's own front proxy.
    """

    def __init__(
        self,
        cluster: Cluster,
        clock: Clock | None = None,
        *,
        alone: bool = False,
        front_proxy: FrontProxy | None = None,
    ) -> None:
        self.cluster = cluster
        self.alone = alone
        self.front_proxy = front_proxy or own_front_proxy(cluster)
        self.clock = clock or SystemClock()
        self.context: ssl.SSLContext | None = None
        self.parts: list[Part] = []
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Serves once this returns to its caller; controllers and scheduler follow at once.

        Raises Problem for a taken port or an unusable store.
        """
        cluster, pki = self.cluster, self.cluster.path / "pki"
        self.context = server_context(pki / "apiserver.crt", pki / "apiserver.key", pki / "ca.crt")
        for authority in self.front_proxy.authorities:
            self.context.load_verify_locations(cadata=authority.decode())
        addresses = listen_addresses(cluster)
        (cluster.path / "logs").mkdir(exist_ok=True)
        options = Options(
            store=cluster.store or str(cluster.path / "store" / "state.db"),
            bind_address=addresses,
            port=cluster.port,
            advertise_address=cluster.advertise_address or addresses[-1],
            ssl_context=self.context,
            kubelet_context=client_context(
                pki / "ca.crt", pki / "apiserver-kubelet-client.crt", pki / "apiserver-kubelet-client.key"
            ),
            service_range=cluster.service_range,
            service_account_key=(pki / "sa.key").read_bytes(),
            front_proxy=self.front_proxy,
            client_authority=(pki / "ca.crt").read_bytes(),
            proxy_certificate=pki / "front-proxy-client.crt",
            proxy_key=pki / "front-proxy-client.key",
            audit=audit_options(cluster),
            encryption=lambda: encryption.rules(cluster),
            admission_enabled=cluster.api.enable_admission_plugins,
            runtime_config=cluster.api.runtime_config,
            admission_disabled=cluster.api.disable_admission_plugins,
        )
        try:
            self.server = ApiServer(options, self.clock)
        except ValueError as error:
            raise Problem(str(error), "mend it, or leave the option out") from error
        try:
            await self.server.start()
        except OSError as error:
            raise Problem(f"the API server cannot listen on port {cluster.port} ({error})", "choose another: --port P")
        self.parts.append(self.server)
        log.info("API server serves on %s, port %d", ", ".join(addresses), self.server.port)
        await addons.ensure(self.client(_ADMIN), cluster.dns_address)
        if not self.alone:
            self.informers = SharedInformers(self.client(_READER))
            await self._start_controllers()
            await self._start_scheduler()
            if cluster.simulated_nodes:
                await self._start_simulated_nodes()
        self._tasks.append(asyncio.create_task(self._renew_certificates(), name="certificates"))
        collector.settle()

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        for part in reversed(self.parts):
            with contextlib.suppress(Exception):
                await part.stop()

    def client(self, user: UserInfo) -> LocalClient:
        return LocalClient(self.server.api, user)

    def _account_client(self, name: str) -> Client:
        from proa.controllers.manager import service_account

        return self.client(service_account(name))

    async def _start_controllers(self) -> None:
        from proa.cluster import components
        from proa.controllers.manager import Manager

        manager = Manager(
            self.informers,
            self.clock,
            self._account_client,
            components.controller_options(self.cluster),
            extra=(*components.own_controllers(), *components.cloud_controllers(self.cluster)),
        )
        await manager.start()
        self.parts += [self.informers, manager]

    async def _start_scheduler(self) -> None:
        from proa.cluster import components

        module = await asyncio.to_thread(importlib.import_module, "proa.scheduler.run")
        user = UserInfo("system:kube-scheduler", ("system:authenticated",))
        client = ObservingClient(self.client(user), self.informers, self.clock)
        options = await asyncio.to_thread(components.scheduler_options, self.cluster)
        scheduler = module.Scheduler(client, self.informers, self.clock, **options)
        await scheduler.start()
        if self.server is not None:
            self.server.metrics.others.append(scheduler.counts)
        self.parts.append(scheduler)

    async def _start_simulated_nodes(self) -> None:
        from proa.cluster.simulation import Simulated

        file = Path(self.cluster.simulation) if self.cluster.simulation else None
        client, total = self.client(_ADMIN), self.cluster.simulated_nodes
        try:
            simulated = Simulated(client, self.informers, self.clock, file, total)
        except Problem as problem:  # the file was changed since `up` read it: no reason to take the cluster down
            log.error("no simulated nodes: %s", problem)
            return
        await simulated.start()
        self.parts.append(simulated)

    async def _renew_certificates(self) -> None:
        """Reissues what expires; later connections are served with the new certificate. Tidies up, too."""
        while True:
            await asyncio.sleep(_RENEWAL_CHECK_SECONDS)
            collector.catch_up()
            from proa.cluster import certificates

            issued = await asyncio.to_thread(certificates.ensure, self.cluster)
            if "apiserver" in issued and self.context is not None:
                pki = self.cluster.path / "pki"
                self.context.load_cert_chain(pki / "apiserver.crt", pki / "apiserver.key")


def audit_options(cluster: Cluster) -> AuditOptions:
    """Returns what the cluster's settings say about auditing, the rest as it is by default."""
    given, log_file, webhook = cluster.audit, LogFile(), Webhook()
    return AuditOptions(
        policy=Path(given.policy_file) if given.policy_file else None,
        log=LogFile(
            path={"": str(cluster.path / "logs" / "audit.log"), "off": None}.get(given.log_path, given.log_path),
            size_max=log_file.size_max if given.log_maxsize is None else given.log_maxsize,
            backups_max=log_file.backups_max if given.log_maxbackup is None else given.log_maxbackup,
            days_max=log_file.days_max if given.log_maxage is None else given.log_maxage,
        ),
        webhook=Webhook(
            config=Path(given.webhook_config_file) if given.webhook_config_file else None,
            batch_size_max=given.webhook_batch_max_size or webhook.batch_size_max,
            wait_seconds_max=given.webhook_batch_max_wait_seconds or webhook.wait_seconds_max,
            buffer_size=given.webhook_batch_buffer_size or webhook.buffer_size,
            backoff_seconds=given.webhook_initial_backoff_seconds or webhook.backoff_seconds,
        ),
    )


def own_front_proxy(cluster: Cluster) -> FrontProxy:
    """Returns the trust in the cluster's own aggregator."""
    authority = (cluster.path / "pki" / "front-proxy-ca.crt").read_bytes()
    return FrontProxy(authorities=[authority], names=["front-proxy-client"])


def listen_addresses(cluster: Cluster) -> list[str]:
    """Returns where the API server listens: as configured, or on this machine alone and the cluster's segment."""
    if cluster.bind_addresses:
        return list(cluster.bind_addresses)
    return ["127.0.0.1", nodes.host_address(cluster)] if cluster.nodes else ["127.0.0.1"]


async def serve(cluster: Cluster, *, alone: bool = False, front_proxy: FrontProxy | None = None) -> None:
    """Runs the control plane until SIGTERM or SIGINT."""
    plane = ControlPlane(cluster, alone=alone, front_proxy=front_proxy)
    logs.dump_on_signal()
    _allow_many_connections()
    try:
        await plane.start()
        await until_told()
    finally:
        await plane.stop()


def _allow_many_connections() -> None:
    """Takes as many open files as the process may have: each client's connection is one."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


async def until_told() -> None:
    """Waits for SIGTERM or SIGINT."""
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    await stopped.wait()


def main(arguments: Sequence[str]) -> int:
    logs.configure()
    try:
        run_loop(serve(state.load_directory(Path(arguments[0]))))
    except Problem as problem:
        log.error("%s", problem)
        return 1
    return 0
